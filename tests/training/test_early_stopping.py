"""A training that no longer gets better ends, and what goes on from it knows."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from tiny_flow import ON_CPU, SMALL_NETWORK, run_config
from training.embedding_files import write_dataset

from scripts.common.errors import RequestError
from scripts.training.early_stopping import EarlyStopping
from scripts.training.predicting import PredictionCollector


class TiedCollector(PredictionCollector):
    """No epoch is better than the first."""

    def _report(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] = 0.5


def train(dataset: Path, output: Path, **options: Any) -> None:
    recipe = {"batch_size": 4, "validate#collector": TiedCollector(), **SMALL_NETWORK, **ON_CPU}
    folders = {"dataset_dir": dataset, "output_dir": output}
    run_config("train.yaml", run_id="training", **folders, **recipe | options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def test_a_training_that_no_longer_gets_better_ends(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """After two validations no better than the first; resumed, it has nothing left to do, and the card says what was done."""
    caplog.set_level(logging.INFO, logger="scripts")
    options = {"early_stopping#patience": 2, "train#trainer#max_epochs": 9}  # by its id, which the card must see, too
    train(dataset, tmp_path, **options)
    training = json.loads((tmp_path / "model.json").read_text())["training"]
    assert (training["epochs"], training["epoch"], training["max_epochs"]) == (3, 3, 9)
    assert "early stopping: no higher val_auc in 2 validations" in caplog.messages
    assert caplog.messages[-1].startswith(
        f"trained: {tmp_path / 'model.pt'} and its card {tmp_path / 'model.json'}; epoch 3 of 3 chosen"
    )
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    caplog.clear()
    train(dataset, tmp_path, resume=True, **options)
    assert "nothing left to train: early stopping ended this training after epoch 3" in caplog.text
    again = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (again["epoch"], again["early_stopping"]) == (3, state["early_stopping"])


def test_a_stopped_training_keeps_the_count(dataset: Path, tmp_path: Path) -> None:
    """Its two epochs without a rise are two of the three that end it."""
    state = {}
    for max_epochs in (3, 9):
        train(dataset, tmp_path, max_epochs=max_epochs, resume=True, **{"early_stopping#patience": 3})
        state = torch.load(tmp_path / "last.pt", weights_only=True)
        assert state["epoch"] == min(max_epochs, 4)
    assert state["early_stopping"]["counter"] == 3


def test_a_training_that_would_not_validate_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(dataset, tmp_path / "out", val_interval=3, max_epochs=2)
    assert "val_interval 3: over max_epochs 2" in "".join(map(str, causes(caught.value)))
    assert not (tmp_path / "out").exists()


def causes(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *causes(error.__cause__ or error.__context__)]


def test_no_patience_at_all_is_refused() -> None:
    with pytest.raises(RequestError, match="patience 0: expected a whole number, 1 or more, or None"):
        EarlyStopping(0)
