"""The stage on a tiny dataset: stopped, gone on with, asked again."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command_server import command_server
from tiny_flow import BUNDLE, CONFIGS, run_config
from training.embedding_files import write_dataset, write_embedding

from scripts.ablations.ablating import ablate
from scripts.ablations.rows import ROWS
from scripts.common.errors import RequestError
from scripts.studies.datasets import Dataset
from scripts.studies.trainings import Trainings

STARTED_WITHIN_S = 120
RECIPE = {"max_epochs": 1, "batch_size": 2, "learning_rate": 0.001, "device": "cpu"}


def words_of(dataset: Path, out: Path, *words: str) -> list[str]:
    command = ["-W", "ignore", "-m", "monai.bundle", "run", "ablating", "--bundle_root", str(BUNDLE)]
    command += ["--config_file", str(CONFIGS / "ablate.yaml"), "--dataset_dir", str(dataset), "--output_dir", str(out)]
    for name, value in RECIPE.items():
        command += [f"--{name}", str(value)]
    return [*command, *words]


def exit_code(dataset: Path, out: Path, *words: str) -> int:
    """Of a study in a process of its own, because it forks: not out of a test process with threads."""
    return command_server().run(*words_of(dataset, out, *words), cwd=BUNDLE).returncode


def asked(dataset: Path, out: Path, rows: list[str], *, more: dict[str, Any] | None = None, **options: Any) -> None:
    """The same in this process, where nothing is trained."""
    seeds = options.pop("seeds", (0, 1))
    ablate(dataset, out, Trainings(seeds=seeds, options=RECIPE, more=more or {}), rows=rows, **options)


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "ablations.csv", newline="") as file:
        return {row["row"]: row for row in csv.DictReader(file)}


def test_a_study_that_is_stopped_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    full = out / "data" / "full"

    words = words_of(dataset, out, "--rows", "full", "--seeds", "0,1", "--jobs", "2")
    stopped = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + STARTED_WITHIN_S
    while not (full / "seed1" / "log.txt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait(60) == 128 + signal.SIGTERM
    assert not list(out.rglob("run.json"))
    (full / "seed1" / "not of ours").touch()

    rows = ["full", "no_sparsity", "levels_4", "background", "mixed"]
    assert exit_code(dataset, out, "--rows", ",".join(rows), "--seeds", "0,1", "--jobs", "2") == 0
    assert (full / "seed1" / "not of ours").exists()
    finished = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert len(finished) == 4
    found = table(out)
    assert list(found) == ["full", "no_sparsity"]
    assert found["no_sparsity"]["difference"] and found["no_sparsity"]["runs"] == "2"

    asked(dataset, out, rows)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("run.json")} == finished
    assert table(out) == found
    assert "| III | w/o sparsity | 2 |" in capsys.readouterr().out
    assert list(left_out(out)) == ["levels_4", "background", "mixed"]
    assert "4 thumbnail levels asked for" in left_out(out)["levels_4"]

    asked(dataset, out, ["full", "levels_1", "mixed"], seeds=(0, 7), dry_run=True)
    told = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{out}/data/") for line in told] == [
        "full/seed0: done before, kept",
        "full/seed7: to be run",
        "levels_1/seed0: to be run",
        "levels_1/seed7: to be run",
        "mixed is left out: it needs --mixed_dataset_dir",
        "runs: 4, 1 of them done before",
    ]
    assert not (full / "seed7").exists()

    with pytest.raises(
        RequestError,
        match=r"made for another request \(options#optimizer#weight_decay was null, now 0.0; recipe_sha256 was",
    ):
        asked(dataset, out, rows, more={"optimizer#weight_decay": 0})
    write_embedding(dataset / "test_0.h5", seed=99)
    with pytest.raises(RequestError, match=r"made for another request \(dataset_sha256 was"):
        asked(dataset, out, rows)


def test_a_run_that_fails(tmp_path: Path) -> None:
    """The others go on; the exit code and the table say so."""
    dataset, out = write_dataset(tmp_path / "data", test=1), tmp_path / "out"
    no_epoch_is_validated = ("--more", "{val_interval: 2}")
    assert exit_code(dataset, out, "--rows", "full", "--seeds", "0", *no_epoch_is_validated) == 1
    assert "so no epoch would be validated" in (out / "data" / "full" / "seed0" / "log.txt").read_text()
    assert table(out) == {}


@pytest.mark.parametrize(
    ("name", "rows"),
    [("network_def#sparse", "no_sparsity"), ("table#levels", "full, levels_1"), ("table#channel_range", "foreground")],
)
def test_options_that_would_undo_a_row(tmp_path: Path, name: str, rows: str) -> None:
    with pytest.raises(RequestError, match=f"option {name}: rows {rows}"):
        asked(write_dataset(tmp_path / "data"), tmp_path / "out", ["full"], more={name: 3})
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
    more: dict[str, Any] = {}
    request: dict[str, Any] = {"slides": tables, "seeds": (0,), "more": more}
    with pytest.raises(RequestError, match=r"fold1.csv: 1 of 10 slides have no embedding"):
        asked(dataset, out, ["full"], **request)

    tables[1].write_text(
        own.replace("test_0", "gone")
        .replace("val_3.tif,1,val", "val_3.tif,1,test")
        .replace("val_2.tif,0,val", "val_2.tif,0,test")
    )
    more |= {"table#allow_missing": True, "classes": ["1", "0"]}
    more |= {
        "network_def#projection": 4,
        "evaluated#share": 0.5,
    }  # of the training alone: evaluated is what its card says
    words = ["--fold_tables", ",".join(map(str, tables)), "--more", json.dumps(more)]
    assert exit_code(dataset, out, "--rows", "full", "--seeds", "0", *words) == 0
    assert sorted(path.parent.relative_to(out / "data") for path in out.rglob("run.json")) == [
        Path("fold0/full/seed0"), Path("fold1/full/seed0"),
    ]  # fmt: skip
    assert table(out)["full"]["runs"] == "2"
    head = (out / "data" / "fold1" / "full" / "seed0" / "predictions.csv").read_text().splitlines()[0]
    assert head.index("p_1") < head.index("p_0")
    assert (
        json.loads((out / "data" / "fold1" / "full" / "seed0" / "model.json").read_text())["network"]["projection"] == 4
    )
    asked(dataset, out, ["full"], **request)
    assert "Datasets: data/fold0, data/fold1." in capsys.readouterr().out

    tables[1].write_text(own.replace("test_0", "gone").replace("val_3.tif,1,val", "val_3.tif,1,test"))
    with pytest.raises(RequestError, match=r"made for another request \(dataset_sha256 was"):
        asked(dataset, out, ["full"], **request)
    request["slides"] = [tables[0], tables[0]]
    with pytest.raises(RequestError, match="or two tables; expected different ones"):
        asked(dataset, out, ["full"], **request)


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
    asked(dataset, out, rows)
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
        reason = ROWS[row].reason_to_skip(Dataset(folder, {}))
        expected = f"embeddings of {made_by}, expected {encoder}: encode the slides again"
        assert (reason is None) if made_by == encoder else (expected in str(reason)), made_by


def test_a_mixed_dataset_that_is_none(tmp_path: Path) -> None:
    """Through the config, as the rows' names and datasets come from there."""
    dataset, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    options = {"rows": ["mixed"], "mixed_dataset_dir": [str(dataset)], "seeds": [0], **RECIPE}
    run_config("ablate.yaml", run_id="ablating", dataset_dir=dataset, output_dir=out, **options)
    assert "embeddings of Random, expected SCAEEncoder-mixed" in left_out(out)["mixed"]


def test_wrong_requests(tmp_path: Path) -> None:
    one, two = (write_dataset(tmp_path / part / "data", train=2, val=2) for part in ("one", "two"))
    for wrong, message in (
        ({"dataset_dir": [one, two]}, "two folders of the same name"),
        ({"dataset_dir": one, "mixed_dataset_dir": [one, two]}, "expected one for each dataset_dir"),
        ({"dataset_dir": tmp_path}, "expected the slide table"),
        ({"dataset_dir": one, "rows": ["ful"]}, "rows ful: expected some of full, no_sparsity"),
        ({"dataset_dir": one, "overlays": ["recomended.yaml"]}, "overlays recomended.yaml: no such file"),
    ):
        with pytest.raises(RequestError, match=message):
            ablate(**{"rows": ["full"], "output_dir": tmp_path / "out", "trainings": Trainings(), **wrong})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
