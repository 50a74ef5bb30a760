"""Every command of the documentation: those of ``RUN`` are run in a folder of tiny slides, from top to bottom; of all others, and of
those too, what they name is looked up. What is neither says why on its page (docs_blocks.py) or in docs_checks.py.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import h5py
import pytest
from docs_blocks import REPO, Block, blocks_in, blocks_of, pages
from docs_checks import check
from docs_world import (
    World,
    is_shown,
    smaller,
    write_features,
    write_own_slides,
    write_predictions,
    write_readers_slides,
)

from scripts.common.config_help import read_head
from scripts.common.errors import RequestError

DOCS = REPO / "docs"
TUTORIAL = DOCS / "tutorials" / "own-slides.md"
RUN = (
    "how-to/mpp.md",
    "how-to/classes.md",
    "how-to/features.md",
    "how-to/cluster.md",
    "statistics.md",
    "faq.md",
    "training.md",
)
BLOCKS = [block for path in pages() for block in blocks_of(path) if block.commands]
CONFIGS = sorted((REPO / "bundle" / "configs").rglob("*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The folder after the tutorial on own slides, with features of other tools besides."""
    made = World(tmp_path_factory.mktemp("world"))
    write_own_slides(made.folder)
    write_features(made.folder)
    write_predictions(made.folder)
    assert made.run_page(TUTORIAL) > 10
    yield made
    made.close()


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_commands_name_what_is_there(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    for words in block.commands:
        if not (block.says("not run") and any(word.startswith("../") for word in words)):
            check(words)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_name_what_is_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands in their first comments, which ``--help`` and the reference show."""
    monkeypatch.chdir(REPO)
    lines = [f"    {line}" if line.startswith("  ") else f"\n{line}\n" for line in read_head(str(path))]
    commands = [words for block in blocks_in("\n\n" + "\n".join(lines) + "\n", path.name) for words in block.commands]
    assert commands
    for words in commands:
        check(words)


@pytest.mark.parametrize(
    "wrong",
    [
        "dsnet training --config_file bundle/configs/trian.yaml",
        "dsnet train --config_file bundle/configs/train.yaml",
        "dsnet training --config_file bundle/configs/train.yaml --max_epoch 1",
        "torchrun --nproc_per_nod 2 -m monai.bundle run training --config_file bundle/configs/train.yaml",
        "make demos",
        'make ablations ARGS="--dataset_dir a --output_dir b --row full"',
        "pytest tests/test_nothing.py",
        "pip install '.[tests]'",
        "python benchmarks/probe.py --dataset a",
        "python benchmarks/prob.py",
        "dnset training",
    ],
)
def test_checks_see_what_is_wrong(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPO)
    (block,) = blocks_in(f"\n\n    {wrong}\n", "page")
    with pytest.raises((AssertionError, RequestError, SystemExit)):
        check(block.commands[0])


def test_blocks_are_found() -> None:
    text = (
        "1. A list\n\n   ```bash\n   dsnet a \\\n       --b 1 # why\n   ```\n\nAnd\n\n    make c d\n    X=1 time pytest e [--f]\n\n"
        "<!-- exits with 2 -->\n```\npython g.py\n```\n\n```\na ─► b\n```\n\n```csv\nh,i\n```\n"
    )
    blocks = list(blocks_in(text, "page"))
    assert [block.line for block in blocks] == [3, 10, 14, 18, 22]
    assert [block.commands for block in blocks] == [
        [("python", "-m", "monai.bundle", "run", "--bundle_root", "bundle", "a", "--b", "1")],
        [("make", "c", "d"), ("pytest", "e", "--f")],
        [("python", "g.py")],
        [],
        [],
    ]
    assert blocks[2].says("exits with") == "2"


def test_sizes_are_replaced_and_outputs_compared() -> None:
    assert smaller(["run", "training", "--max_epochs", "40", "--seed", "1"]) == [
        "run",
        "training",
        "--seed",
        "1",
        "--max_epochs",
        "1",
    ]
    assert is_shown("time: 3 s, 0.5 of ...", "a\n  time: 12.5 s, 7 of all\n")
    assert not is_shown("time: 3 s", "time: 3 min\n")


@pytest.mark.parametrize("name", RUN)
def test_commands_of_the_page_run(name: str, world: World) -> None:
    """After the tutorial, which the fixture runs."""
    assert world.run_page(DOCS / name)


def test_commands_of_the_readme_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    write_readers_slides(tmp_path)
    (block,) = (block for block in blocks_of(REPO / "README.md") if "alias dsnet" in block.text)
    for words in block.commands:
        world.run(words, block)
    world.close()
    assert (tmp_path / "work" / "report" / "report.html").is_file()


def test_code_of_the_features_page_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is what CLAM and TRIDENT read: by name, shape and type."""
    import torch

    monkeypatch.chdir(world.folder)
    blocks = [block for block in blocks_of(DOCS / "how-to" / "features.md") if block.language == "python"]
    assert len(blocks) == 2
    found: dict[str, object] = {}
    for block in blocks:
        exec(block.text, found)
    assert found["features"].shape[1] == 128 and found["patch_size_level0"] == 128
    with open(world.folder / "work" / "for_clam" / "labels.csv") as file:
        assert len(file.readlines()) == 18
    tensor = torch.load(world.folder / "work" / "for_clam" / "pt_files" / "case01.pt", weights_only=True)
    assert tensor.shape == found["features"].shape


def test_the_files_page_names_what_is_written(world: World) -> None:
    """Every column, key, dataset and attribute of a run's files stands on the page."""
    page = (DOCS / "reference" / "files.md").read_text(encoding="utf-8")
    known = set(re.findall(r"`([^`]+)`", page)) | {"p_normal", "p_tumor"}
    work = world.folder / "work"
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
    for path in (world.folder / "bundle" / "models" / "model.json", work / "evaluation" / "metrics.json"):
        names |= set(json.loads(path.read_text(encoding="utf-8")))
    names |= {path.name for path in (work / "predictions").iterdir() if path.is_file()}
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


@pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("mkdocstrings") is None, reason="no MkDocs: make docs installs it"
)
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Links, anchors, docstrings; and nothing is loaded from elsewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\" >]+)",
            page.read_text(encoding="utf-8"),
        )
        assert not loaded, f"{page}: {loaded}"
