"""The study itself on a tiny dataset: stopped, gone on with, asked again."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_flow import BUNDLE
from training.embedding_files import write_dataset, write_embedding

from scripts.ablations.__main__ import main, train_options
from scripts.common.errors import RequestError

STARTED_WITHIN_S = 120
RECIPE = ["--max_epochs", "1", "--batch_size", "2", "--learning_rate", "1e-3", "--device", "cpu"]


def arguments(dataset: Path, out: Path, *rows: str) -> list[str]:
    return ["--dataset_dir", str(dataset), "--output_dir", str(out), "--rows", *rows, "--seeds", "0", "1", *RECIPE]


def started(words: list[str]) -> subprocess.Popen[bytes]:
    """A process of its own, because the study forks: not out of a test process with threads."""
    command = [sys.executable, "-m", "scripts.ablations", *words]
    environment = {**os.environ, "PYTHONPATH": str(BUNDLE)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "ablations.csv", newline="") as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_a_study_that_is_stopped_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    full = out / "data" / "full"

    stopped = started([*arguments(dataset, out, "full"), "--jobs", "2"])
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not (full / "seed1" / "log.txt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 128 + signal.SIGTERM
    assert not list(out.rglob("run.json"))
    (full / "seed1" / "of a killed run").touch()

    words = arguments(dataset, out, "full", "no_sparsity", "levels_4", "background", "mixed")
    assert started([*words, "--jobs", "2"]).wait(240) == 0
    assert not (full / "seed1" / "of a killed run").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert len(finished) == 4
    rows = table(out)
    assert list(rows) == ["full", "no_sparsity"]
    assert rows["no_sparsity"]["difference"] and rows["no_sparsity"]["runs"] == "2"

    assert main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == finished
    assert table(out) == rows
    assert "| III | w/o sparsity | 2 |" in capsys.readouterr().out
    left_out = [record.getMessage() for record in caplog.records if "is left out" in record.getMessage()]
    assert [message.split()[1] for message in left_out] == ["levels_4", "background", "mixed"]
    assert "4 thumbnail levels asked for" in left_out[0]

    assert main([*words, "--weight_decay", "0"]) == 2
    assert "a finished run with other options, recipe_sha256" in capsys.readouterr().err
    write_embedding(dataset / "test_0.h5", seed=99)
    assert main(words) == 2
    assert "a finished run with other dataset_sha256" in capsys.readouterr().err


def test_a_run_that_fails(tmp_path: Path) -> None:
    """The others go on; the exit code and the table say so."""
    dataset, out = write_dataset(tmp_path / "data", test=1), tmp_path / "out"
    words = [*arguments(dataset, out, "full"), "--val_interval", "2"]  # no epoch is validated: no card
    assert started(words).wait(240) == 1
    assert "no epoch of this training was validated" in (out / "data" / "full" / "seed0" / "log.txt").read_text()
    assert table(out) == {}


def test_options_of_train_yaml() -> None:
    words = ["--max_epochs", "3", "--learning_rate", "1e-3", "--standardise", "false", "--network_def#sparse", "true"]
    assert train_options(words) == {
        "max_epochs": 3, "learning_rate": 0.001, "standardise": False, "network_def#sparse": True,
    }  # fmt: skip
    for wrong in (["--max_epoch", "3"], ["--seed", "1"], ["--max_epochs"], ["max_epochs", "3"]):
        with pytest.raises(RequestError, match="expected options of the study"):
            train_options(wrong)


def test_wrong_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (write_dataset(tmp_path / part / "data", train=2, val=2) for part in ("one", "two"))
    out = ["--output_dir", str(tmp_path / "out"), "--rows", "full"]
    assert main(["--dataset_dir", str(one), str(two), *out]) == 2
    assert "two folders of the same name" in capsys.readouterr().err
    assert main(["--dataset_dir", str(one), "--mixed_dataset_dir", str(one), str(two), *out]) == 2
    assert "expected one for each --dataset_dir" in capsys.readouterr().err
    assert main(["--dataset_dir", str(tmp_path), *out]) == 2
    assert "expected the slide table" in capsys.readouterr().err
