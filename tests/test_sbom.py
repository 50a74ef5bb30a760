"""The bill of materials has the shape of CycloneDX, and lists what is needed."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "tools"))
import sbom  # noqa: E402

WEIGHTS = {"model.pt": "0" * 64, "scae.pt": "1" * 64}


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    return sbom.bill("a_bundle", "1.2.3", WEIGHTS)


def test_the_bill_has_the_fields_that_cyclonedx_requires(bill: dict[str, Any]) -> None:
    """https://cyclonedx.org/docs/1.6/json: names of the root's fields, and what each kind of part must have."""
    assert set(bill) == {
        "bomFormat",
        "specVersion",
        "serialNumber",
        "version",
        "metadata",
        "components",
        "dependencies",
    }
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", bill["serialNumber"])
    parts = [bill["metadata"]["component"], *bill["components"]]
    for part in parts:
        assert set(part) <= {"type", "bom-ref", "name", "version", "purl", "licenses", "hashes"} and part["name"]
        assert part["type"] in ("application", "library", "machine-learning-model")
        for licence in part.get("licenses", ()):
            assert (
                set(licence) in ({"expression"}, {"license"}) and len(part["licenses"]) == 1
            ) or "license" in licence
        for digest in part.get("hashes", ()):
            assert digest["alg"] == "SHA-256" and re.fullmatch(r"[0-9a-f]{64}", digest["content"])
    refs = [part["bom-ref"] for part in parts]
    assert len(set(refs)) == len(refs) == len(bill["dependencies"]) + len(WEIGHTS)
    for entry in bill["dependencies"]:
        assert entry["ref"] in refs and set(entry["dependsOn"]) <= set(refs)
        assert len(set(entry["dependsOn"])) == len(entry["dependsOn"])


def test_the_bill_names_every_requirement(bill: dict[str, Any]) -> None:
    libraries = {part["name"]: part for part in bill["components"] if part["type"] == "library"}
    assert {canonicalize_name(one.name) for one in sbom.requirements()} <= set(libraries)
    assert {"certifi", "jinja2", "markupsafe"} <= set(libraries), "what they need in turn is listed, too"
    assert "pytest" not in libraries and "mkdocs" not in libraries, "what only tests and pages need is not"
    for part in libraries.values():
        assert part["purl"] == part["bom-ref"] == f"pkg:pypi/{part['name']}@{part['version']}"
        assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", part["version"]), "no local version"
    (own,) = [entry for entry in bill["dependencies"] if entry["ref"] == "pkg:generic/a_bundle@1.2.3"]
    assert {"models/model.pt", "models/scae.pt"} <= set(own["dependsOn"])


def test_the_same_environment_gives_the_same_bytes(bill: dict[str, Any]) -> None:
    assert json.dumps(sbom.bill("a_bundle", "1.2.3", WEIGHTS)) == json.dumps(bill)
    assert sbom.bill("a_bundle", "1.2.4", WEIGHTS)["serialNumber"] != bill["serialNumber"]
