"""What a training leaves in TensorBoard and, with MONAI's ``--tracking mlflow``, in MLflow."""

import importlib.util
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from tiny_flow import ON_CPU, run_command, run_config
from training.embedding_files import write_dataset
from training.event_log import read_log

from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer
from scripts.training import tracking


def assert_hyperparameters(log: EventAccumulator, *names: str) -> None:
    content = b"".join(log.summary_metadata[tag].plugin_data.content for tag in log.summary_metadata)
    for name in names:
        assert name.encode() in content, name


def size_of(log: EventAccumulator, tag: str) -> list[tuple[int, int, int]]:
    """Step, height and width of the pictures of a tag."""
    pictures = []
    for event in log.Images(tag):
        width, height = (int.from_bytes(event.encoded_image_string[at : at + 4], "big") for at in (16, 20))
        pictures.append((event.step, height, width))
    return pictures


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def test_log_of_dsnet(dataset: Path, tmp_path: Path) -> None:
    options = {"output_dir": tmp_path / "log", "model": tmp_path / "model.pt", "max_epochs": 2, "batch_size": 2}
    run_config("train.yaml", run_id="training", dataset_dir=dataset, graph=True, **options, **ON_CPU)
    log = read_log(tmp_path / "log")
    assert {"val_auc", "train_loss", "validation_slide/stream_score"} <= set(log.Tags()["scalars"])
    assert [event.step for event in log.Scalars("val_auc")] == [
        1,
        2,
    ]  # the last word on the chosen epoch is no validation
    assert log.Tags()["graph"]
    assert_hyperparameters(log, "learning_rate", "network_def#sparse", "classes", "val_auc")
    # the first slide of class 1: V is 6 x 6, T twice that, three columns side by side
    assert size_of(log, "validation_slide") == [(1, 12, 36), (2, 12, 36)]
    raw = next((tmp_path / "log").glob("events.out*")).read_bytes()
    for name in (b"train_0", b"val_1", b".h5", b".tif"):
        assert name not in raw, "a name of a slide in the log"


def test_log_of_scae(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (8, 112, 112, 3)).astype(np.uint8)
    with patch_writer(tmp_path / "patches.h5", {"seed": 0}) as append:
        append("secret", SlideSample(pixels, np.zeros((8, 2), int), np.ones(8, bool), 9, ""))
    options = {"output_dir": tmp_path / "log", "encoder": tmp_path / "scae.pt", "max_epochs": 1, "batch_size": 4}
    run_config("train_scae.yaml", run_id="training", dataset_dir=tmp_path, **options, **ON_CPU)
    log = read_log(tmp_path / "log")
    assert size_of(log, "reconstruction") == [(1, 6 * 112, 5 * 112)]
    assert log.Tags()["graph"] and "train_loss" in log.Tags()["scalars"]
    assert_hyperparameters(log, "sparsity_rate", "optimizers#paper#momentum", "recipe#temperature", "recipe#views#gain")
    assert b"secret" not in next((tmp_path / "log").glob("events.out*")).read_bytes()


def test_steps_that_are_made_again_stand_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training that was killed in its second epoch, and resumed."""
    # two logs of one second are read in the order of this number, as text: not 9 and 10
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for first_step in (1, 4):
        log = tracking.EventLog(str(tmp_path))
        log.go_on_from(first_step)
        for step in range(first_step, 6):
            log.add_scalar("train_loss", first_step, step)
        log.flush()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("train_loss")] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (4, 4),
        (5, 4),
    ]


def test_other_processes_write_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "is_first", lambda: False)
    tracking.EventLog(str(tmp_path)).add_scalar("loss", 1.0, 1)
    assert not list(tmp_path.iterdir())


def test_mlflow(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI's own option, without a server and without a word to anybody: a database beside the log holds the run."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.skip("mlflow is not installed: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "log", "model": tmp_path / "model.pt", "max_epochs": 2}
    result = run_command("training", "train.yaml", cwd=tmp_path, options={**options, "tracking": "mlflow", **ON_CPU})
    assert result.returncode == 0, result.stderr
    with closing(sqlite3.connect(tmp_path / "log" / "mlruns.db")) as database:
        logged = {name for (name,) in database.execute("SELECT key FROM metrics")}
    assert {"train_loss", "val_auc"} <= logged
