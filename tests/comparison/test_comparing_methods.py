"""The stage on a tiny dataset: killed, gone on with, asked again."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_server import command_server
from tiny_flow import BUNDLE, CONFIGS, run_config
from training.embedding_files import write_dataset, write_embedding

from scripts.common.errors import RequestError
from scripts.comparison.comparing_methods import _reason_to_skip, compare_methods
from scripts.comparison.methods import METHODS
from scripts.comparison.methods_table import HEAD, TABLES
from scripts.studies.datasets import Dataset
from scripts.studies.trainings import Trainings

STARTED_WITHIN_S = 120
DONE_WITHIN_S = 600
UNEQUAL = {"training_s", "evaluating_s", "peak_mib"}
UNEQUAL_ON_PAGE = {"training, s", "test, s", "MiB"}


def words_of(dataset: Path, out: Path, methods: str) -> list[str]:
    words = ["-m", "monai.bundle", "run", "comparing_methods", "--bundle_root", str(BUNDLE)]
    words += [
        "--config_file",
        str(CONFIGS / "compare_methods.yaml"),
        "--dataset_dir",
        str(dataset),
        "--output_dir",
        str(out),
    ]
    words += ["--methods", methods, "--seeds", "0,1", "--jobs", "2"]
    return [*words, "--max_epochs", "1", "--batch_size", "2", "--device", "cpu"]


def figures(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "methods.csv", newline="") as file:
        return {
            row["method"]: {name: value for name, value in row.items() if name not in UNEQUAL}
            for row in csv.DictReader(file)
        }


def page(out: Path) -> tuple[list[list[str]], list[str]]:
    """Cells of the page's table and its drawings, without what another run measures anew."""
    text = (out / "methods.html").read_text()
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", text, re.DOTALL)]
    kept = [place for place, name in enumerate(HEAD) if name not in UNEQUAL_ON_PAGE]
    return [[row[place] for place in kept] for row in rows], re.findall(r"<svg.*?</svg>", text, re.DOTALL)


def test_a_comparison_that_is_killed_goes_on_with_equal_figures(tmp_path: Path) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    words = words_of(dataset, out, "dsnet,dsmil")
    killed = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not list(out.glob("dsnet/seed0/run.json")) and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    assert not (out / "methods.csv").exists()

    assert command_server().run(*words, cwd=tmp_path, timeout_s=DONE_WITHIN_S).returncode == 0
    assert all((out / name).is_file() for name in TABLES)
    found = figures(out)
    assert list(found) == ["dsnet", "dsmil"] and found["dsmil"]["difference"] and found["dsmil"]["runs"] == "2"
    assert set(json.loads((out / "dsmil" / "seed1" / "run.json").read_text())) == {
        "request", "seconds", "training_s", "evaluating_s", "peak_mib",
    }  # fmt: skip

    assert (
        command_server()
        .run(*words_of(dataset, tmp_path / "again", "dsnet,dsmil"), cwd=tmp_path, timeout_s=DONE_WITHIN_S)
        .returncode
        == 0
    )
    assert figures(tmp_path / "again") == found
    rows, drawings = page(out)
    assert [row[0] for row in rows] == ["method", "dsnet", "dsmil"] and rows[2][5] and drawings
    assert page(tmp_path / "again") == (rows, drawings)
    assert (out / "roc.csv").read_bytes() == (tmp_path / "again" / "roc.csv").read_bytes()


def test_a_method_of_masks_needs_one_of_a_training_slide_with_lesions(tmp_path: Path) -> None:
    """Slides of class 0, and of other splits, are no help."""
    dataset = Dataset(write_dataset(tmp_path), {})
    assert "column mask" in (_reason_to_skip(METHODS["wang"], dataset) or "")
    assert _reason_to_skip(METHODS["dsmil"], dataset) is None
    table = (tmp_path / "slides.csv").read_text().splitlines()
    (tmp_path / "a.png").touch()
    for named, helps in (("train_0", False), ("test_1", False), ("train_1", True)):
        masked = [f"{table[0]},mask", *(f"{line},{'a.png' if line.startswith(named) else ''}" for line in table[1:])]
        (tmp_path / "slides.csv").write_text("\n".join(masked) + "\n")
        assert (_reason_to_skip(METHODS["wang"], dataset) is None) == helps, named
    (tmp_path / "a.png").rename(tmp_path / "moved.png")
    assert "a.png" in (_reason_to_skip(METHODS["wang"], dataset) or ""), "a mask that is gone costs this method alone"
    (tmp_path / "moved.png").rename(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "train_3.png")
    (tmp_path / "slides.csv").write_text("\n".join(table) + "\n")
    assert _reason_to_skip(METHODS["wang"], Dataset(tmp_path, {"masks": str(tmp_path)})) is None


def test_a_method_of_masks_needs_two_classes(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    table = (tmp_path / "slides.csv").read_text().replace("train_0.tif,0", "train_0.tif,2")
    (tmp_path / "slides.csv").write_text(table)
    (tmp_path / "train_1.png").touch()
    reason = _reason_to_skip(METHODS["wang_raw"], Dataset(dataset, {"masks": str(tmp_path)})) or ""
    assert "raw patches" in reason
    reason = _reason_to_skip(METHODS["wang"], Dataset(dataset, {"masks": str(tmp_path)})) or ""
    assert reason == "it learns from lesion masks, which need two classes, and there are 3"


def test_a_method_on_raw_patches_needs_an_embedding_of_them(tmp_path: Path) -> None:
    dataset = Dataset(write_dataset(tmp_path), {})
    assert "encode_raw.yaml" in (_reason_to_skip(METHODS["hou_raw"], dataset) or "")
    for path in tmp_path.glob("*.h5"):
        write_embedding(path, encoder="RawPatches-32px sha256:0")
    assert _reason_to_skip(METHODS["hou_raw"], Dataset(tmp_path, {})) is None


def test_a_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    options = {"methods": ["dsnet", "wang"], "seeds": [3], "dry_run": True}
    run_config("compare_methods.yaml", run_id="comparing_methods", dataset_dir=dataset, output_dir=out, **options)
    told = capsys.readouterr().out
    assert f"{out}/dsnet/seed3: to be run" in told and "wang is left out" in told and "runs: 1, 0 of them" in told
    assert not out.exists()


def test_wrong_requests(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    for wrong, message in (
        ({"methods": ["dsnet", "abc"]}, "methods abc: expected some of dsnet, recommended"),
        ({"reference": "abc"}, "methods abc"),
        ({"methods": ["recommended", "dsmil"]}, "reference dsnet is none of the methods recommended, dsmil"),
        ({"trainings": Trainings(more={"seed": 3})}, "option seed: the study sets it"),
    ):
        with pytest.raises(RequestError, match=message):
            compare_methods(dataset, tmp_path / "out", **{"trainings": Trainings(), **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
