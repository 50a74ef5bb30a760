"""The bill of materials of the package, as CycloneDX 1.6 JSON: its weights, and every library that it needs, with versions and licences.

    python tools/sbom.py > sbom.cdx.json

The libraries are those of ``dependencies`` in pyproject.toml and what they need in turn, as they are installed beside this Python; extras
(tests, documentation, GPU decoders) are left out. Equal environments give equal bytes: there is no date and no random number in it.
"""

import json
import sys
import tomllib
import uuid
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPO = Path(__file__).resolve().parents[1]
SPEC_VERSION = "1.6"
LONGEST_LICENCE = 60  # of a name; some packages put the whole text there


def requirements() -> list[Requirement]:
    """What pyproject.toml names as ``dependencies``."""
    project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in project["dependencies"]]


def needed(wanted: Iterable[Requirement]) -> dict[str, set[str]]:
    """Names of all distributions that some requirements need, each with those that it needs itself.

    Raises:
        importlib.metadata.PackageNotFoundError: one is not installed.
    """
    found: dict[str, set[str]] = {}
    left = [(one, extra) for one in wanted for extra in ("", *one.extras)]
    seen: set[tuple[str, str]] = set()
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for text in metadata.requires(name) or ():
            other = Requirement(text)
            if other.marker is None or other.marker.evaluate({"extra": extra}):
                found.setdefault(name, set()).add(canonicalize_name(other.name))
                left += [(other, part) for part in ("", *other.extras)]
        found.setdefault(name, set())
    return found


def component(name: str) -> dict[str, Any]:
    """A library as CycloneDX describes it."""
    version = metadata.version(name).partition("+")[0]  # a build of torch for CPUs is +cpu
    purl = f"pkg:pypi/{name}@{version}"
    found: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    about = metadata.metadata(name)
    if expression := about.get("License-Expression"):
        found["licenses"] = [{"expression": expression}]
    else:
        classified = [
            line.rpartition(" :: ")[2] for line in about.get_all("Classifier") or () if line.startswith("License ::")
        ]
        stated = (about.get("License") or "").strip()
        names = classified or ([stated] if stated and len(stated) <= LONGEST_LICENCE and "\n" not in stated else [])
        if names:
            found["licenses"] = [{"license": {"name": one}} for one in names]
    return found


def bill(name: str, version: str, weights: Mapping[str, str]) -> dict[str, Any]:
    """The whole document.

    Args:
        name: of the package.
        version: of the package.
        weights: SHA-256 of the files of weights, by name.
    """
    roots = requirements()
    libraries = needed(roots)
    components = {one: component(one) for one in sorted(libraries)}
    models = [
        {
            "type": "machine-learning-model",
            "bom-ref": f"models/{file}",
            "name": file,
            "hashes": [{"alg": "SHA-256", "content": digest}],
        }
        for file, digest in sorted(weights.items())
    ]
    own = f"pkg:generic/{name}@{version}"
    depends = {
        own: sorted(
            [components[canonicalize_name(one.name)]["bom-ref"] for one in roots] + [one["bom-ref"] for one in models]
        )
    }
    depends |= {
        components[one]["bom-ref"]: sorted(components[other]["bom-ref"] for other in libraries[one])
        for one in components
    }
    content = {
        "metadata": {
            "component": {
                "type": "application", "bom-ref": own, "name": name, "version": version, "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [*components.values(), *models],
        "dependencies": [{"ref": ref, "dependsOn": others} for ref, others in depends.items()],
    }  # fmt: skip
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(content, sort_keys=True))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        **content,
    }


if __name__ == "__main__":
    about_bundle = json.loads((REPO / "bundle/configs/metadata.json").read_text(encoding="utf-8"))
    json.dump(bill("pathology_wsi_dsnet_classification", about_bundle["version"], {}), sys.stdout, indent=2)
    print()
