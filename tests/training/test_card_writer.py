"""What the end of a training writes of it."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from training.trained_model import trained

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.evaluation.calibration import calibrated
from scripts.evaluation.predictions import Prediction
from scripts.training.card import read_card
from scripts.training.card_writer import write_card
from scripts.training.model_card import ModelCard, card_path
from scripts.training.training_outputs import TrainingOutputs


class Judge:
    """Stands in for an evaluator: whoever collects from it gets these predictions."""

    def __init__(self, predictions: list[Prediction]) -> None:
        self.network = DSNet(embedding_channels=6)
        self.predictions = predictions
        self.collector: Any = None

    def add_event_handler(self, event: Any, handler: Any) -> None:
        self.collector = handler.__self__

    def run(self) -> None:
        self.collector.predictions = self.predictions
        self.collector.patients = [None] * len(self.predictions)


def written(folder: Path, scores: list[float], *, best_epoch: int = 1, calibrate: bool = True) -> ModelCard:
    """Card of a network whose validation slides (labels 0, 1, 0, 1) have these probabilities of class 1."""
    model = trained(folder)
    predictions = [Prediction(str(i), i % 2, (1 - p, p), 0.5) for i, p in enumerate(scores)]
    table: Any = SimpleNamespace(
        class_names=["0", "1"], encoder="A sha256:1", precision=None, channel_range=None, rows=[]
    )
    trainer: Any = SimpleNamespace(
        state=SimpleNamespace(epoch=4, max_epochs=2), data_loader=SimpleNamespace(dataset=[{}] * 3)
    )
    validated = SimpleNamespace(best_metric_epoch=best_epoch, key_metric_name="val_auc")
    trainer.validation = SimpleNamespace(validator=SimpleNamespace(state=validated))
    judge: Any = Judge(predictions)
    outputs = TrainingOutputs(folder, model, {"seed": 0}, max_epochs=2)
    return write_card(table, trainer, judge, outputs, intended_use="a test", calibrate=calibrate)


def test_the_card_says_what_was_done(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a training of four epochs, resumed with two, which train none."""
    caplog.set_level(logging.INFO, logger="scripts")
    card = written(tmp_path, [0.1, 0.7, 0.3, 0.9], best_epoch=3)
    training = card.training
    assert (training["slides"], training["epochs"], training["epoch"], training["max_epochs"]) == (3, 4, 3, 4)
    assert caplog.messages[-1:] == [
        f"trained: {tmp_path / 'model.pt'} and its card {tmp_path / 'model.json'}; epoch 3 of 4 chosen, validation AUC 1.000, "
        f"threshold {card.threshold:.3f}; next: evaluating on the test slides (evaluate.yaml) or inference on new ones "
        f"(inference.yaml), with --model {tmp_path / 'model.pt'}"
    ]


def test_the_threshold_says_where_it_comes_from(tmp_path: Path) -> None:
    card = written(tmp_path, [0.1, 0.7, 0.3, 0.9])
    assert (card.threshold, card.threshold_from) == (pytest.approx(0.5), "val")
    card = written(tmp_path, [0.9, 0.1, 0.8, 0.2])
    assert (card.threshold, card.threshold_from) == (0.5, "default")


def test_the_threshold_is_on_the_scale_of_what_is_reported(tmp_path: Path) -> None:
    """Scores far too sure of themselves: temperature and threshold move together, so that the decisions stay."""
    scores = [0.001, 0.9999, 0.99, 0.9995]
    plain, card = written(tmp_path, scores, calibrate=False), written(tmp_path, scores)
    assert (plain.temperature, plain.temperature_from) == (1, None)
    assert card.temperature > 1 and card.temperature_from == "val"
    by_chance = written(tmp_path, [0.9, 0.1, 0.8, 0.2])
    assert (by_chance.temperature, by_chance.temperature_from) == (1, None)
    moved = calibrated([[1 - p, p] for p in scores], card.temperature)[:, 1]
    assert list(moved >= card.threshold) == [p >= plain.threshold for p in scores] == [False, True, False, True]


def test_a_training_without_validation_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no epoch of this training was validated"):
        written(tmp_path, [0.1, 0.7], best_epoch=-1)


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path)).network == DSNet(embedding_channels=6).arguments
    card = written(tmp_path, [0.1, 0.7, 0.3, 0.9])
    assert read_card(tmp_path / "model.pt") == card
    assert list(card.to_json()) == list(json.loads(card_path(tmp_path / "model.pt").read_text()))
