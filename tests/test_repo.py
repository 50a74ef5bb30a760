"""Rules of the repository that no tool checks: versions agree, configs parse, imports run downstream, files stay small."""

import ast
import importlib
import json
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from configparser import ConfigParser as IniParser
from graphlib import CycleError, TopologicalSorter
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest
import yaml
from monai.bundle import verify_metadata
from packaging.requirements import Requirement

from scripts.common.files import sha256_of
from scripts.common.version import BUNDLE_VERSION

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "bundle" / "configs"
SCRIPTS = REPO / "bundle" / "scripts"
PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCHEMA = REPO / "tests" / "schema" / "meta_schema_20240725.json"
STAGES = [
    "common",
    "slides",
    "cohort",
    "tissue",
    "patches",
    "scae",
    "encoding",
    "dsnet",
    "baselines",
    "evaluation",
    "training",
    "inference",
    "localisation",
    "report",
    "studies",
    "ablations",
    "comparison",
]
MODULES = sorted(SCRIPTS.rglob("*.py"))
BOUNDARY = SCRIPTS / "common" / "boundary.py"
MAX_FILE_BYTES = 2_000_000
SKIPPED_FOLDERS = {
    ".git",
    ".venv",
    ".venv-deploy",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "__pycache__",
    "build",
    "dist",
    "demo",
}


def repository_files() -> list[Path]:
    """Return what git tracks or would add; without git, all but caches and outputs."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [REPO / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in REPO.rglob("*") if not SKIPPED_FOLDERS & set(path.relative_to(REPO).parts)]
    return [path for path in paths if path.is_file()]


def pins() -> dict[str, str]:
    """Return the versions of constraints.txt by normalised name."""
    lines = (REPO / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normalised(name): version for name, version in pairs}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported_modules(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of every import of ``path``, relative ones resolved against ``bundle``."""
    package = path.relative_to(SCRIPTS.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*parent, *filter(None, [node.module])))
            yield node.lineno, base
            # `from .. import tissue` names the stage among the imported names
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names if node.level)


def broken_import_rules(path: Path, source: str) -> list[str]:
    """Return a line for each import of ``source``, taken as the module ``path``, that breaks a rule."""
    parts = path.relative_to(SCRIPTS).parts
    own_stage = parts[0] if len(parts) > 1 else None
    broken = [
        f"{path}:{node.lineno}: absolute import of scripts, write it relative"
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] == "scripts")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "scripts" for alias in node.names))
    ]
    for line, module in imported_modules(path, source):
        names = module.split(".")
        if own_stage is None or len(names) < 2 or names[0] != "scripts" or names[1] not in STAGES:
            continue
        if STAGES.index(names[1]) > STAGES.index(own_stage):
            broken.append(f"{path}:{line}: {own_stage} imports {names[1]}, which comes after it")
    return broken


def verify_offline(metadata: Path) -> None:
    """Run MONAI's check on the local schema; a schema that is there is not downloaded, and without a hash MONAI warns."""
    assert SCHEMA.is_file()
    verify_metadata(meta_file=str(metadata), filepath=str(SCHEMA), hash_val=sha256_of(SCHEMA), hash_type="sha256")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.*")), ids=lambda path: path.name)
def test_config_parses(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        assert json.loads(text)
    elif path.suffix == ".conf":
        ini = IniParser(interpolation=None)
        ini.read_string(text)
        assert "INFO" == ini["logger_root"]["level"] == ini["handler_console"]["level"]
        assert "sys.stdout" in ini["handler_console"]["args"]
    else:
        assert path.suffix == ".yaml", "MONAI Label reads .yaml, not .yml"
        assert isinstance(yaml.safe_load(text), dict)


def test_metadata_is_valid() -> None:
    verify_offline(CONFIGS / "metadata.json")


@pytest.mark.parametrize("missing", ["network_data_format", "required_packages_version", "task"])
def test_schema_refuses_incomplete_metadata(missing: str, tmp_path: Path) -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    del metadata[missing]
    incomplete = tmp_path / "metadata.json"
    incomplete.write_text(json.dumps(metadata), encoding="utf-8")
    with pytest.raises(ValueError, match="Failed validating"):
        verify_offline(incomplete)


def test_version_is_one() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    changelog = re.search(r"^## \[(.+?)\]", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert changelog, "CHANGELOG.md has no `## [version]`"
    assert PROJECT["version"] == metadata["version"] == BUNDLE_VERSION == changelog[1]
    assert metadata["version"] in metadata["changelog"]


def test_channels_are_described() -> None:
    network = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))["network_data_format"]
    for tensor in (network["inputs"]["image"], network["outputs"]["pred"]):
        assert list(tensor["channel_def"]) == [str(channel) for channel in range(tensor["num_channels"])]


def test_requirements_are_pinned() -> None:
    listed = chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    names = {normalised(Requirement(one).name) for one in listed}
    assert {"torch", "monai", "cucim-cu12", "pytest"} <= names
    assert not names - set(pins()), "not in constraints.txt"


def test_metadata_names_the_pinned_versions() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    named = {
        "monai": metadata["monai_version"],
        "torch": metadata["pytorch_version"],
        "numpy": metadata["numpy_version"],
        **metadata["required_packages_version"],
    }
    pinned = pins()
    assert named == {name: pinned[name] for name in named}


def test_metadata_names_every_requirement() -> None:
    metadata = json.loads((CONFIGS / "metadata.json").read_text(encoding="utf-8"))
    apart = {"monai", "torch", "numpy"}
    assert {Requirement(one).name for one in PROJECT["dependencies"]} == {
        *metadata["required_packages_version"],
        *apart,
    }


def test_pins_are_plain() -> None:
    for version in pins().values():
        assert re.fullmatch(r"[0-9][0-9A-Za-z.]*", version), f"{version}: a local version or an option"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_imports_run_downstream(path: Path) -> None:
    assert path.parent == SCRIPTS or path.relative_to(SCRIPTS).parts[0] in STAGES, "a folder that is no stage"
    assert broken_import_rules(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "broken"),
    [
        ("from ..slides.opening import open_slide", 0),
        ("from .score import rle_scores", 0),
        ("import scipy", 0),
        ("from ..encoding.store import FORMAT", 1),
        ("from .. import encoding", 1),
        ("def late():\n    from ..dsnet import network", 1),
        ("from scripts.slides.opening import open_slide", 1),
        ("import scripts.common.errors", 1),
    ],
)
def test_import_rules_see_what_they_forbid(source: str, broken: int) -> None:
    found = broken_import_rules(SCRIPTS / "tissue" / "mask.py", source)
    assert len({line.split(":")[1] for line in found}) == broken, found


def import_circle(sources: Mapping[str, tuple[Path, str]]) -> list[str]:
    """Return modules (name: path and source) that import each other in a circle; none where there is no circle."""
    needs = {
        name: {module for _, module in imported_modules(path, source) if module in sources and module != name}
        for name, (path, source) in sources.items()
    }
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_in_a_circle() -> None:
    """Not late, inside a function, either: what chooses between modules stands above them."""
    sources = {
        ".".join(path.relative_to(SCRIPTS.parent).with_suffix("").parts): (path, path.read_text(encoding="utf-8"))
        for path in MODULES
    }
    assert "scripts.slides.opening" in sources and import_circle(sources) == []


def test_no_two_modules_have_one_name() -> None:
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_a_circle_of_imports_is_seen() -> None:
    a, b = SCRIPTS / "slides" / "a.py", SCRIPTS / "slides" / "b.py"
    sources = {"scripts.slides.a": (a, "def late():\n    from . import b"), "scripts.slides.b": (b, "from .a import x")}
    assert set(import_circle(sources)) == set(sources)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SCRIPTS).as_posix())
def test_code_names_no_gpu_and_catches_no_everything(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            assert node.func.attr != "cuda", f"{path}:{node.lineno}: .cuda(), take the device as an argument"
        if isinstance(node, ast.ExceptHandler):
            caught = {"BaseException"} if node.type is None else {ast.unparse(part) for part in ast.walk(node.type)}
            if path != BOUNDARY:
                assert not caught & {"Exception", "BaseException"}, f"{path}:{node.lineno}: catches everything"


def test_files_are_small() -> None:
    large = {str(path.relative_to(REPO)): path.stat().st_size for path in repository_files()}
    assert large, "no files were looked at"
    assert {name: size for name, size in large.items() if size > MAX_FILE_BYTES} == {}


@pytest.mark.parametrize(
    "path",
    sorted(path for folder in ("integrations", "benchmarks", "tools") for path in (REPO / folder).rglob("*.py")),
    ids=lambda path: path.relative_to(REPO).as_posix(),
)
def test_what_is_imported_from_the_bundle_is_there(path: Path) -> None:
    """Some of it is run in other environments alone."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scripts."):
            module = importlib.import_module(str(node.module))
            absent = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            absent = [name for name in absent if find_spec(f"{node.module}.{name}") is None]
            assert not absent, f"{node.module} has no {absent}"
