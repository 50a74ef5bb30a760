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
from scripts.ablations.datasets import Dataset
from scripts.ablations.rows import ROWS
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
    (full / "seed1" / "not of ours").touch()

    words = arguments(dataset, out, "full", "no_sparsity", "levels_4", "background", "mixed")
    assert started([*words, "--jobs", "2"]).wait(240) == 0
    assert (full / "seed1" / "not of ours").exists()
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

    assert main([*words, "--optimizer#weight_decay", "0"]) == 2
    assert "a finished run with other options, recipe_sha256" in capsys.readouterr().err
    write_embedding(dataset / "test_0.h5", seed=99)
    assert main(words) == 2
    assert "a finished run with other dataset_sha256" in capsys.readouterr().err


def test_a_run_that_fails(tmp_path: Path) -> None:
    """The others go on; the exit code and the table say so."""
    dataset, out = write_dataset(tmp_path / "data", test=1), tmp_path / "out"
    words = [*arguments(dataset, out, "full"), "--val_interval", "2"]  # no epoch would be validated
    assert started(words).wait(240) == 1
    assert "so no epoch would be validated" in (out / "data" / "full" / "seed0" / "log.txt").read_text()
    assert table(out) == {}


def test_options_of_train_yaml() -> None:
    words = ["--max_epochs", "3", "--learning_rate", "1e-3", "--standardise#enabled", "false", "--loss#balance", "true"]
    assert train_options(words) == {
        "max_epochs": 3, "learning_rate": 0.001, "standardise#enabled": False, "loss#balance": True,
    }  # fmt: skip
    for wrong in (
        ["--max_epoch", "3"],
        ["--seed", "1"],
        ["--table#slides", "2"],
        ["--max_epochs"],
        ["max_epochs", "3"],
    ):
        with pytest.raises(RequestError, match="expected options of the study"):
            train_options(wrong)
    with pytest.raises(RequestError, match="--max_epochs 'ten': expected a whole number, 1 or more"):
        train_options(["--max_epochs", "ten"])
    assert train_options(["--evaluated#share", "null"]) == {"evaluated#share": None}


@pytest.mark.parametrize(
    ("name", "rows"),
    [("network_def#sparse", "no_sparsity"), ("table#levels", "full, levels_1"), ("table#channel_range", "foreground")],
)
def test_options_that_would_undo_a_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, rows: str
) -> None:
    words = [*arguments(write_dataset(tmp_path / "data"), tmp_path / "out", "full"), f"--{name}", "3"]
    assert main(words) == 2
    assert f"--{name}: rows {rows}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_tables_of_folds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is a dataset of its own; what stands in it is part of the request, as is what says how it is read."""
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    own = (dataset / "slides.csv").read_text()
    (dataset / "test_0.h5").rename(dataset / "other.h5")
    (dataset / "slides.csv").unlink()
    tables = [dataset / "fold0.csv", dataset / "fold1.csv"]
    tables[0].write_text(own.replace("test_0", "other"))
    tables[1].write_text(own)  # its slide test_0 has no embedding
    words = [*arguments(dataset, out, "full"), "--seeds", "0", "--slides", *map(str, tables)]
    assert main(words) == 2
    assert "fold1.csv: 1 of 10 slides have no embedding" in capsys.readouterr().err

    tables[1].write_text(
        own.replace("test_0", "gone")
        .replace("val_3.tif,1,val", "val_3.tif,1,test")
        .replace("val_2.tif,0,val", "val_2.tif,0,test")
    )
    words += ["--table#allow_missing", "true", "--classes", "['1', '0']"]
    assert started(words).wait(240) == 0
    assert sorted(path.parent.relative_to(out / "data") for path in out.rglob("run.json")) == [
        Path("fold0/full/seed0"), Path("fold1/full/seed0"),
    ]  # fmt: skip
    assert table(out)["full"]["runs"] == "2"
    head = (out / "data" / "fold1" / "full" / "seed0" / "predictions.csv").read_text().splitlines()[0]
    assert head.index("p_1") < head.index("p_0")
    assert main(words) == 0
    assert "Datasets: data/fold0, data/fold1." in capsys.readouterr().out

    tables[1].write_text(own.replace("test_0", "gone").replace("val_3.tif,1,val", "val_3.tif,1,test"))
    assert main(words) == 2
    assert "a finished run with other dataset_sha256;" in capsys.readouterr().err
    assert main([*words, "--slides", str(tables[0]), str(tables[0])]) == 2
    assert "or two tables; expected different ones" in capsys.readouterr().err


def left_out(out: Path) -> dict[str, str]:
    """Rows that the report says were left out, and why."""
    lines = (out / "ablations.md").read_text().partition("Left out:\n\n")[2].partition("\n\n")[0].splitlines()
    return {name.strip("-` "): reason for name, _, reason in (line.partition("`: ") for line in lines)}


def test_rows_that_repeat_another_without_t(tmp_path: Path) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    write_embedding(dataset / "val_1.h5", levels=None)
    rows = [
        "no_thumbnail",
        "no_multi_scale",
        "no_attention",
        "no_stream_attention",
        "levels_1",
        "levels_2",
        "levels_4",
        "levels_5",
    ]
    assert main(arguments(dataset, out, *rows)) == 0
    found = left_out(out)
    assert list(found) == rows
    assert all("neither thumbnail nor slide file" in reason for reason in found.values())


@pytest.mark.parametrize(
    ("row", "encoder"),
    [("foreground", "SCAEEncoder"), ("background", "SCAEEncoder"), ("mixed", "SCAEEncoder-mixed")],
)
def test_the_strategy_that_a_row_takes(tmp_path: Path, row: str, encoder: str) -> None:
    folder = write_dataset(tmp_path)
    for made_by in ("SCAEEncoder", "SCAEEncoder-foreground", "SCAEEncoder-mixed", "NICEncoder", "unknown"):
        for path in folder.glob("*.h5"):
            write_embedding(path, channels=128, encoder=f"{made_by} sha256:0")
        reason = Dataset(folder, {}).reason_to_skip(ROWS[row])
        expected = f"embeddings of {made_by}, expected {encoder}: encode the slides again"
        assert (reason is None) if made_by == encoder else (expected in str(reason)), made_by


def test_a_mixed_dataset_that_is_none(tmp_path: Path) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    assert main([*arguments(dataset, out, "mixed"), "--mixed_dataset_dir", str(dataset)]) == 0
    assert "embeddings of Random, expected SCAEEncoder-mixed" in left_out(out)["mixed"]


def test_wrong_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = (write_dataset(tmp_path / part / "data", train=2, val=2) for part in ("one", "two"))
    out = ["--output_dir", str(tmp_path / "out"), "--rows", "full"]
    assert main(["--dataset_dir", str(one), str(two), *out]) == 2
    assert "two folders of the same name" in capsys.readouterr().err
    assert main(["--dataset_dir", str(one), "--mixed_dataset_dir", str(one), str(two), *out]) == 2
    assert "expected one for each --dataset_dir" in capsys.readouterr().err
    assert main(["--dataset_dir", str(tmp_path), *out]) == 2
    assert "expected the slide table" in capsys.readouterr().err


def test_an_overlay_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*arguments(write_dataset(tmp_path / "data"), tmp_path / "out", "full"), "--overlays", "recomended.yaml"]
    assert main(words) == 2
    assert "--overlays recomended.yaml: no such file" in capsys.readouterr().err
