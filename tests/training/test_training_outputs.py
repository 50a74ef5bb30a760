from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.common.errors import RequestError
from scripts.common.files import atomic_path
from scripts.training.saved_state import FORMAT
from scripts.training.tracking import EventLog
from scripts.training.training_outputs import TrainingOutputs, trained_weights


def write_state(folder: Path, settings: dict[str, Any], *, epoch: int) -> None:
    with atomic_path(folder / "last.pt") as partial:
        unknown = dict.fromkeys(("best", "best_metric", "best_metric_epoch", "scaler"))
        torch.save({"format": FORMAT, "settings": settings, "network": {}, "epoch": epoch, **unknown}, partial)


def train(
    folder: Path, *, model: Path | None = None, rate: float = 0.1, stop: bool = False, epochs: int = 2, **options: Any
) -> None:
    """Stand in for a training: write state, weights and card; one that stops has seen an epoch."""
    model = model or folder / "model.pt"
    settings = {"learning_rate": rate}

    def steps() -> None:
        write_state(folder, settings, epoch=1)
        if stop:
            raise KeyError
        for path in (model, model.with_suffix(".json")):
            with atomic_path(path) as partial:
                partial.write_text(f"trained with {rate}")

    with suppress(KeyError):
        TrainingOutputs(folder, model, settings, max_epochs=epochs, **options).hold_for(steps)


@pytest.mark.parametrize("name", ["together", "apart"])
def test_another_training_does_not_replace_weights_unasked(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "log"
    model = folder / "model.pt" if name == "together" else tmp_path / "models" / "model.pt"
    train(folder, model=model)
    train(folder, model=model)
    for other in ({"rate": 0.2}, {"epochs": 3}):
        with pytest.raises(
            RequestError,
            match=r"(learning_rate was 0\.1, now 0\.2|max_epochs was 2, now 3).*--output_dir.*--replace true",
        ):
            train(folder, model=model, **other)
        with pytest.raises(RequestError, match=r"another request"):
            train(tmp_path / "another log", model=model, **other) if name == "apart" else train(folder, **other)
    assert model.read_text() == "trained with 0.1"
    train(folder, model=model, rate=0.2, replace=True)
    assert model.read_text() == "trained with 0.2"


def test_two_models_lie_in_one_folder(tmp_path: Path) -> None:
    train(tmp_path / "a", model=tmp_path / "models" / "a.pt")
    train(tmp_path / "b", model=tmp_path / "models" / "b.pt", rate=0.2)


@pytest.mark.parametrize("name", ["last.pt", "model.pt", "model.json"])
def test_files_of_others_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    for options in ({}, {"replace": True}):
        with pytest.raises(RequestError, match=name):
            train(tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_forgotten_resume_does_not_cost_the_state(tmp_path: Path) -> None:
    train(tmp_path, stop=True)
    with pytest.raises(RequestError, match=r"last\.pt: the state of a training that was stopped.*--resume"):
        train(tmp_path)
    train(tmp_path, resume=True, epochs=5)
    train(tmp_path, epochs=5)


def test_a_training_that_was_stopped_in_its_first_epoch_has_nothing_to_lose(tmp_path: Path) -> None:
    train(tmp_path, stop=True)
    settings = {"learning_rate": 0.1}

    def stop() -> None:
        write_state(tmp_path, settings, epoch=0)
        raise KeyError

    with pytest.raises(KeyError):
        TrainingOutputs(tmp_path, tmp_path / "model.pt", settings, max_epochs=2, replace=True).hold_for(stop)
    train(tmp_path, rate=0.3)


def test_a_state_without_a_record_is_gone_on_with(tmp_path: Path) -> None:
    """A copy of a folder without its hidden files: the state says itself what it is, which its reader has compared."""
    write_state(tmp_path, {"learning_rate": 0.1}, epoch=1)
    train(tmp_path, resume=True)


@pytest.mark.parametrize("resume", [True, False])
def test_what_a_kill_left_half_written_is_removed(tmp_path: Path, resume: bool) -> None:
    left = [tmp_path / ".last.1.partial.pt", tmp_path / ".model.1.partial.pt", tmp_path / ".model.1.partial.json"]
    other = tmp_path / ".other.1.partial.pt"
    for path in (*left, other):
        path.write_bytes(b"half")
    train(tmp_path, resume=resume)
    assert not any(path.exists() for path in left)
    assert other.exists()


def test_resume_begins_where_there_is_no_state(tmp_path: Path) -> None:
    """One command for a job's start and for its restarts; what others, or other requests, left there stays all the same."""
    train(tmp_path / "new", resume=True)
    assert (tmp_path / "new" / "model.pt").read_text() == "trained with 0.1"
    (tmp_path / "new" / "last.pt").unlink()
    with pytest.raises(RequestError, match="another request"):
        train(tmp_path / "new", rate=0.2, resume=True)


def test_the_log_goes_with_the_training_that_is_replaced(tmp_path: Path) -> None:
    train(tmp_path)
    (tmp_path / "events.theirs").touch()
    outputs = TrainingOutputs(tmp_path, tmp_path / "model.pt", {"learning_rate": 0.2}, max_epochs=2, replace=True)
    outputs.hold_for(lambda: EventLog(str(tmp_path)).add_scalar("loss", 1.0, 1))
    (log,) = tmp_path.glob("events.out*")
    train(tmp_path, replace=True)
    assert not log.exists() and (tmp_path / "events.theirs").exists()


def test_a_state_of_other_settings_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    train(tmp_path, stop=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RequestError, match=r"learning_rate was 0\.1, now 0\.2.*train anew without --resume"):
        train(tmp_path, rate=0.2, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_weights_that_are_evaluated(tmp_path: Path) -> None:
    """Those of the training whose folder is given, else the bundle's."""
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "last.pt").touch()
    assert trained_weights(f"{tmp_path}/trained/", "bundle") == str(tmp_path / "trained" / "model.pt")
    assert trained_weights(tmp_path, tmp_path / "bundle") == str(tmp_path / "bundle" / "models" / "model.pt")
