"""The folder that the documentation's commands are run in: what a reader has, under the names that the pages use, as small as can be.

A command is run as it stands, but for the sizes in ``SMALLER``.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from docs_blocks import REPO, Block, blocks_of
from encoding.other_tools import features_of, write_clam, write_trident

from scripts.common.files import write_csv
from scripts.slides.synthetic import write_slide_set

SMALLER = {
    "sampling": {"patches_per_slide": 8},
    "training": {"max_epochs": 1},
    "cross_validating": {"max_epochs": 1},
    "comparing": {"resamples": 50},
    "splitting": {"folds": 2},
}
"""Options that a run's id gets instead of those of the page: size alone. Folds only where the page asks for folds."""

MONAI = ("-m", "monai.bundle")
DAMAGED = b"II*\0 not a slide"
CASES = 17
"""Slides; of the first two patients there are two each, and every one of two or three classes has five patients at least."""


class World:
    """A folder with a copy of the bundle and a reader's data, and the process that runs commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(REPO / "bundle", folder / "bundle", ignore=shutil.ignore_patterns("models", "__pycache__"))
        self.log = ""
        self._runner: subprocess.Popen[str] | None = None

    def run_page(self, path: Path) -> int:
        """Do what a page says, from top to bottom; return the number of commands that were run.

        Raises:
            AssertionError: a command ended otherwise than the page says, or showed something else.
        """
        ran = 0
        for block in blocks_of(path):
            if file := block.says("file"):
                (self.folder / file).write_text(block.text, encoding="utf-8")
            elif shown := block.says("shows"):
                source = self.log if shown == "log" else (self.folder / shown).read_text(encoding="utf-8")
                missing = [line for line in block.text.splitlines() if not is_shown(line, source)]
                assert not missing, f"{block}: not in {shown}: {missing}\n{source[-3000:]}"
            elif not block.says("not run"):
                ran += sum(self.run(words, block) for words in runnable(block))
        return ran

    def run(self, words: tuple[str, ...], block: Block) -> int:
        """Run a command.

        Raises:
            AssertionError: it ended otherwise than the page says.
        """
        expected = int(block.says("exits with") or 0) if words == block.commands[-1] else 0
        if words[1:3] == MONAI:
            code = self._run_monai(smaller(words[3:]))
        else:
            done = subprocess.run(words, cwd=self.folder, capture_output=True, text=True, timeout=240)
            code, self.log = done.returncode, done.stdout + done.stderr
        assert code == expected, f"{block}: {' '.join(words)}\nended with {code}, not {expected}\n{self.log[-3000:]}"
        return 1

    def close(self) -> None:
        """End the process."""
        if self._runner:
            self._runner.communicate()

    def _run_monai(self, words: Sequence[str]) -> int:
        if self._runner is None:
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            environment["CUDA_VISIBLE_DEVICES"] = ""  # a process that has seen a GPU cannot be forked
            command = [sys.executable, str(Path(__file__).with_name("docs_runner.py"))]
            self._runner = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
            )
        assert self._runner.stdin and self._runner.stdout
        log = self.folder / "log.txt"
        request = {"words": list(words), "folder": str(self.folder), "log": str(log)}
        print(json.dumps(request), file=self._runner.stdin, flush=True)
        code = int(self._runner.stdout.readline())
        self.log = log.read_text(encoding="utf-8")
        return code


def runnable(block: Block) -> list[tuple[str, ...]]:
    """The commands of a block but those that set up: the test's environment is set up."""
    return [words for words in block.commands if words[0] not in ("make", "source")]


def is_shown(line: str, output: str) -> bool:
    """Whether a line, but for its numbers and what "..." stands for, is one of the output's."""
    pattern = re.sub(r"\d+(\\\.\d+)?", lambda _: r"[\d.]+", re.escape(line.strip()).replace(r"\.\.\.", ".*"))
    return re.search(rf"^\s*{pattern}\s*$", output, re.MULTILINE) is not None


def smaller(words: Sequence[str]) -> list[str]:
    """Replace the sizes of a command."""
    words = list(words)
    for run_id, options in SMALLER.items():
        for name, value in options.items() if run_id in words else ():
            if f"--{name}" not in words and name == "folds":
                continue
            if f"--{name}" in words:
                place = words.index(f"--{name}")
                del words[place : place + 2]
            words += [f"--{name}", str(value)]
    return words


def write_own_slides(folder: Path) -> None:
    """``data``: scans of two classes, one without a resolution, one damaged; and new ones, one of them damaged."""
    made = write_slide_set(folder / "made", train=CASES, val=0, test=2, seed=0, cells=4).parent / "slides"
    rows, grades = [], []
    for index in range(CASES):
        name = f"scans/case{index + 1:02d}.tif"
        move(made / f"train_{index:03d}.tif", folder / "data" / name)
        patient = f"p{index % 15 + 1:02d}"
        label = ("normal", "tumor")[index % 2]
        rows.append({"slide": name, "label": label, "patient": patient, "mpp": ""})
        grades.append({"slide": name, "label": ("benign", "in situ", "invasive")[index % 3], "patient": patient})
    write_without_resolution(folder / "data" / "scans" / "case03.tif")
    rows[2]["mpp"] = "0.5"
    (folder / "data" / "scans" / "case18.tif").write_bytes(DAMAGED)
    rows.append({"slide": "scans/case18.tif", "label": "tumor", "patient": "p18", "mpp": ""})
    write_csv(folder / "data" / "slides.csv", list(rows[0]), rows)
    write_csv(folder / "data" / "grades.csv", list(grades[0]), grades)
    for index in range(2):
        move(made / f"test_{index:03d}.tif", folder / "data" / "new" / f"new{index + 1}.tif")
    (folder / "data" / "new" / "new3.tif").write_bytes(DAMAGED)
    shutil.copytree(folder / "data" / "new", folder / "data" / "no_mpp", ignore=shutil.ignore_patterns("new3.tif"))
    write_without_resolution(folder / "data" / "no_mpp" / "new1.tif")


def write_features(folder: Path) -> None:
    """Features of those scans, as TRIDENT and as CLAM leave them."""
    for index in range(CASES):
        grid_yx = np.argwhere(np.ones((4, 4 - index % 2), dtype=bool))
        features = features_of(len(grid_yx), 1024, mean=0.3 * (index % 2), seed=index)
        name = f"case{index + 1:02d}.h5"
        write_trident(
            folder / "job" / "20x_256px_0px_overlap" / "features_uni_v1" / name, grid_yx, features, patch_px=64
        )
        write_clam(folder / "FEATURES" / "h5_files" / name, grid_yx[:, ::-1] * 128, features)


def write_without_resolution(path: Path) -> None:
    """Write a slide again, its tag of the resolution left out."""
    pixels = tifffile.imread(path, level=0)
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb", compression="jpeg", tile=(256, 256), metadata=None)


def move(source: Path, target: Path) -> None:
    """Move a file into a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def write_readers_slides(folder: Path) -> None:
    """What the README starts from: ``data/slides.csv`` with splits, and a new slide."""
    write_slide_set(folder / "data", train=4, val=2, test=2, seed=0, cells=4)
    shutil.copy(folder / "data" / "slides" / "test_000.tif", folder / "new_slide.svs")


def write_predictions(folder: Path) -> None:
    """Those of two methods, two seeds each, on the scans."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "a0", "a1", "b0", "b1"):
        rows = []
        for index in range(CASES):
            label, p = ("normal", "tumor")[index % 2], float(rng.random())
            cells = {"slide_id": f"case{index + 1:02d}", "label": label, "predicted": ("normal", "tumor")[p >= 0.5]}
            rows.append({**cells, "p_normal": 1 - p, "p_tumor": p, "stream_score": 0.5, "threshold": 0.5})
        (folder / name).mkdir(exist_ok=True)
        write_csv(folder / name / "predictions.csv", list(rows[0]), rows)
