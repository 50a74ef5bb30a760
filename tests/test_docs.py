"""Every command of the documentation is run, as it stands but for the sizes of docs_sizes.py, in the folders of docs_data.py.

A block that something else runs says so (``<!-- run by: ... -->``, docs_blocks.py).
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import docs_data
import h5py
import pytest
from docs_blocks import REPO, Block, blocks_in, blocks_of, pages
from docs_sizes import request_of, smaller
from docs_world import World, is_shown

from scripts.common.config_help import read_head

DOCS = REPO / "docs"
TUTORIAL = "docs/tutorials/own-slides.md"
START = (TUTORIAL, "docs/statistics.md", "docs/ablations.md")
AFTER_START = (
    "docs/how-to/mpp.md",
    "docs/how-to/classes.md",
    "docs/how-to/features.md",
    "docs/how-to/cluster.md",
    "docs/how-to/several-gpus.md",
    "docs/encoders.md",
    "docs/faq.md",
    "docs/formats.md",
    "docs/security.md",
    "docs/training.md",
    "docs/comparison.md",
    "docs/gpu.md",
)
ON_PUBLISHED_DATA = (  # in this order: a page goes on with what those before it left
    "docs/results.md",
    "docs/parts.md",
    "docs/encoder.md",
    "docs/localisation.md",
    "docs/tissue.md",
    "docs/transformation.md",
)
FROM_A_CLONE = (
    "README.md",
    "docs/report.md",
    "docs/package.md",
    "bundle/docs/README.md",
    "docs/how-to/offline.md",
)
COHORTS = ("docs/datasets.md",)
CONFIGS = sorted((REPO / "bundle" / "configs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The folder after the pages that the others start from."""
    world = World(tmp_path_factory.mktemp("reader"), {"SLURM_ARRAY_TASK_ID": "1"})
    docs_data.write_own_slides(world.folder)
    docs_data.write_features(world.folder)
    docs_data.write_predictions(world.folder)
    docs_data.write_resnet50(world.folder)
    docs_data.write_camelyon16(world.folder / "CAMELYON16")
    for name in START:
        assert world.run_page(REPO / name)
    return world


@pytest.fixture(scope="module")
def published(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("published"))
    docs_data.write_published(world.folder, data_dir)
    return world


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("clone"))
    docs_data.write_readers_slides(world.folder)
    return world


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("cohorts"))
    docs_data.write_cohorts(world.folder)
    return world


@pytest.fixture
def package_index(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(tmp_path), "setuptools"]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no package index can be reached")


@pytest.mark.parametrize("name", AFTER_START)
def test_commands_after_the_tutorial_run(name: str, reader: World) -> None:
    assert reader.run_page(REPO / name)


@pytest.mark.parametrize("name", ON_PUBLISHED_DATA)
def test_commands_on_published_data_run(name: str, published: World) -> None:
    assert published.run_page(REPO / name)


@pytest.mark.parametrize("name", FROM_A_CLONE)
def test_commands_from_a_clone_run(name: str, clone: World, request: pytest.FixtureRequest) -> None:
    if name == "docs/how-to/offline.md":
        request.getfixturevalue("package_index")
    for archive in (clone.folder / "dist").glob("*.zip"):
        shutil.unpack_archive(archive, clone.folder)
        (clone.folder / archive.stem.rpartition("_v")[0]).rename(clone.folder / "package")
        archive.unlink()
    assert clone.run_page(REPO / name)


@pytest.mark.parametrize("name", COHORTS)
def test_commands_on_cohorts_run(name: str, cohorts: World) -> None:
    assert cohorts.run_page(REPO / name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_commands_of_the_configs_run(path: Path, reader: World, request: pytest.FixtureRequest) -> None:
    """Those of their first comments, which ``--help`` and the reference show; but those that a page has run already."""
    lines = [f"    {line}" if line.startswith("  ") else f"\n{line}\n" for line in read_head(str(path))]
    name = path.relative_to(REPO).as_posix()
    blocks = [block for block in blocks_in("\n\n" + "\n".join(lines) + "\n", name) if block.commands]
    assert blocks
    if path.name == "encode_nic.yaml":
        weights = request.getfixturevalue("data_dir") / "weights" / "nic_encoder_multitask-4.h5"
        (reader.folder / weights.name).symlink_to(weights)
    if path.name == "foreground.yaml":
        docs_data.write_foreground(reader.folder / "work" / "five_levels")
    for block in blocks:
        if not reader.has_run(block):
            reader.run(block)


def test_every_command_has_its_place() -> None:
    run_here = {*START, *AFTER_START, *ON_PUBLISHED_DATA, *FROM_A_CLONE, *COHORTS}
    for path in pages():
        name = path.relative_to(REPO).as_posix()
        for block in (block for block in blocks_of(path) if block.commands):
            if by := block.says("run by"):
                assert is_run_by(block, by), f"{block}: not run by {by}"
            else:
                assert name in run_here, f"{block}: say in tests/test_docs.py where it is run"


def is_run_by(block: Block, by: str) -> bool:
    """Whether a page that is run has the commands, .ci/run has them or their targets of make, or the test takes the blocks of the page."""
    if by in FROM_A_CLONE:
        run = [other for other in blocks_of(REPO / by) if not other.says("run by")]
        return set(block.commands) <= {command for other in run for command in other.commands}
    text = (REPO / by).read_text(encoding="utf-8")
    if by != ".ci/run":
        return block.path in text
    lines = {tuple(shlex.split(line)) for line in text.splitlines() if line.startswith("make ")}
    return all(words in lines or {("make", target) for target in words[1:]} <= lines for words in block.commands)


def test_blocks_are_found() -> None:
    text = (
        "1. A list\n\n   ```bash\n   dsnet a \\\n       --b 1 # why\n   ```\n\nAnd\n\n    make c d\n    X=1 time pytest e --f\n\n"
        "<!-- exits with 2 -->\n```\npython g.py\n```\n\n```\na ─► b\n```\n\n```csv\nh,i\n```\n"
    )
    blocks = list(blocks_in(text, "page"))
    assert [block.line for block in blocks] == [3, 10, 14, 18, 22]
    assert [block.commands for block in blocks] == [
        [("dsnet", "a", "--b", "1")],
        [("make", "c", "d"), ("pytest", "e", "--f")],
        [("python", "g.py")],
        [],
        [],
    ]
    assert blocks[2].says("exits with") == "2"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("-m monai.bundle run training --max_epochs 40 --seed 1", "-m monai.bundle run training --max_epochs 1 --seed 1"),
        ("-m monai.bundle run training --c train.yaml", "-m monai.bundle run training --c train.yaml --max_epochs 1 --graph false"),
        ("-m monai.bundle run --bundle_root b sampling", "-m monai.bundle run --bundle_root b sampling --draw#patches_per_slide 4"),
        ("-m monai.bundle run splitting --slides a", "-m monai.bundle run splitting --slides a"),
        ("-m monai.bundle run splitting --folds 5", "-m monai.bundle run splitting --folds 2"),
        ("-m monai.bundle run ablating --seeds 0,1 --rows full", "-m monai.bundle run ablating --seeds 0 --rows full --max_epochs 1"),
        ("benchmarks/pen_rule.py --slides 200", "benchmarks/pen_rule.py --slides 1 --scans 4 --pens 0"),
        ("tools/package.py --url a", "tools/package.py --url a"),
    ],
)  # fmt: skip
def test_sizes_alone_are_replaced(given: str, taken: str) -> None:
    assert smaller(given.split()) == taken.split()


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("python -m monai.bundle run comparing --second b --bundle_root bundle --first a", True),
        ("dsnet comparing --first b --second a", False),
        ("dsnet training --first a --second b", False),
        ("dsnet comparing --first a", False),
    ],
)
def test_a_command_is_known_again_whatever_its_form(typed: str, same: bool) -> None:
    known = ["dsnet", "comparing", "--first", "a", "--second", "b"]
    assert (request_of(typed.split()) == request_of(known)) is same


def test_outputs_are_compared_but_for_their_numbers() -> None:
    assert is_shown("time: 3 s, 0.5 of ...", "a\n  time: 12.5 s, 7 of all\n")
    assert not is_shown("time: 3 s", "time: 3 min\n")


@pytest.mark.parametrize(
    "wrong",
    [
        "dsnet splitting --config_file bundle/configs/splt.yaml --slides data/slides.csv --output_dir x",
        "dsnet doctor --config_file bundle/configs/doctor.yaml --slide data/slides.csv",
        "dnset doctor --config_file bundle/configs/doctor.yaml",
        "make doctors",
        "python benchmarks/studies.py a",
        "dnset doctor --config_file bundle/configs/doctor.yaml && true",
        "false\ntrue",
    ],
)
def test_a_wrong_command_fails(wrong: str, clone: World) -> None:
    (block,) = blocks_in(f"\n\n```bash\n{wrong}\n```\n", "page")
    with pytest.raises(AssertionError):
        clone.run(block)


def test_code_of_the_features_page_runs(reader: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is what CLAM and TRIDENT read: by name, shape and type."""
    import torch

    monkeypatch.chdir(reader.folder)
    blocks = [block for block in blocks_of(DOCS / "how-to" / "features.md") if block.language == "python"]
    assert len(blocks) == 2
    found: dict[str, object] = {}
    for block in blocks:
        exec(block.text, found)
    assert found["features"].shape[1] == 128 and found["patch_size_level0"] == 128
    with open(reader.folder / "work" / "for_clam" / "labels.csv") as file:
        assert len(file.readlines()) == 18
    tensor = torch.load(reader.folder / "work" / "for_clam" / "pt_files" / "case01.pt", weights_only=True)
    assert tensor.shape == found["features"].shape


def test_the_files_page_names_what_is_written(reader: World) -> None:
    """Every column, key, dataset and attribute of a run's files stands on the page."""
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`([^`]+)`", page)) | {"p_normal", "p_tumor"}
    work = reader.folder / "work"
    names: set[str] = set()
    for table in (
        "patches/counts.csv",
        "embeddings/manifest.csv",
        "evaluation/predictions.csv",
        "predictions/predictions.csv",
    ):
        names |= set((work / table).read_text(encoding="utf-8").splitlines()[0].split(","))
    with h5py.File(work / "embeddings" / "case01.h5") as file:
        names |= {*file, *file.attrs, *file["tissue"], *file["tissue"].attrs, *file["coords"].attrs}
    for path in (reader.folder / "bundle" / "models" / "model.json", work / "evaluation" / "metrics.json"):
        names |= set(json.loads(path.read_text(encoding="utf-8")))
    names |= {path.name.replace("inference", "<stage>") for path in (work / "predictions").glob(".*")}
    names |= {path.name for path in (work / "predictions").glob("[!.]*") if path.is_file()}
    names |= {path.name for path in (work / "predictions" / "new1").iterdir()}
    assert names - known == set()


def test_figures_are_those_of_their_script() -> None:
    found: dict[str, object] = {"__name__": "diagrams", "__file__": str(DOCS / "figures" / "diagrams.py")}
    exec((DOCS / "figures" / "diagrams.py").read_text(encoding="utf-8"), found)
    drawn = dict(found["drawings"]())
    assert len(drawn) > 3
    for path, content in drawn.items():
        assert path.read_text(encoding="utf-8") == content, (
            f"{path.name}: python docs/figures/diagrams.py draws it anew"
        )
