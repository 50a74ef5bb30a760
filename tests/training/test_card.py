"""What ties weights, card, encoder and network arguments together."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from scripts.common.errors import RequestError
from scripts.common.files import sha256_of, write_json
from scripts.dsnet.network import DSNet
from scripts.evaluation.calibration import calibrated
from scripts.evaluation.predictions import Prediction
from scripts.training.card import load_model, network_from_card, read_card, write_card
from scripts.training.model_card import FORMAT, ModelCard, card_path
from scripts.training.training_outputs import TrainingOutputs


def trained(folder: Path, **arguments: object) -> Path:
    """Weights and card of a network, as training leaves them."""
    network = DSNet(embedding_channels=6, **arguments)
    model = folder / "model.pt"
    torch.save({"model": network.state_dict()}, model)
    card = {
        "format": FORMAT,
        "class_names": ["0", "1"],
        "threshold": 0.5,
        "threshold_from": "val",
        "encoder": "A sha256:1",
    }
    write_json(card_path(model), {**card, "network": network.arguments, "weights_sha256": sha256_of(model)})
    return model


@pytest.mark.parametrize("name", ["sparse", "spatial_bottleneck"])
def test_an_ablation_is_rebuilt_from_its_card(tmp_path: Path, name: str) -> None:
    """These two have the weights of the full network, so that nothing else would notice."""
    model = trained(tmp_path, **{name: False})
    card = read_card(model)
    network = load_model(network_from_card(card), model, card, encoder="A sha256:1")
    assert network.arguments[name] is False


def test_a_card_of_before_uses_all_channels(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path)).channel_range is None


@pytest.mark.parametrize("model", [".", "/"])
def test_a_folder_in_the_place_of_the_weights_is_refused(model: str, tmp_path: Path) -> None:
    for look in (lambda: read_card(model), lambda: read_card(model, optional=True)):
        with pytest.raises(RequestError, match=r": a folder, expected the file of the weights: add its name, such as"):
            look()
    with pytest.raises(RequestError, match=r": a folder, expected the file of the weights"):
        TrainingOutputs(tmp_path, model, max_epochs=1, card=True, settings={}).hold_for()


def test_weights_without_their_card_are_refused(tmp_path: Path) -> None:
    model = trained(tmp_path)
    card_path(model).unlink()
    for optional in (False, True):
        with pytest.raises(RequestError, match=r"model\.json: no such file beside model\.pt; expected the model card"):
            read_card(model, optional=optional)


def test_new_weights_beside_an_old_card_are_refused(tmp_path: Path) -> None:
    model = trained(tmp_path)
    card = read_card(model)
    torch.save({"model": DSNet(embedding_channels=6).state_dict()}, model)
    with pytest.raises(RequestError, match="not the card"):
        load_model(network_from_card(card), model, card)


def test_embeddings_of_another_encoder_are_refused(tmp_path: Path) -> None:
    model = trained(tmp_path)
    card = read_card(model)
    with pytest.raises(RequestError, match=r"trained on embeddings of A sha256:1.*B sha256:2"):
        load_model(network_from_card(card), model, card, encoder="B sha256:2")


@pytest.mark.parametrize("name", ["sparse", "spatial_bottleneck", "channel_attention"])
def test_an_argument_that_is_missing_is_refused(tmp_path: Path, name: str) -> None:
    """Its default need not be what was trained, and the weights may fit all the same."""
    model = trained(tmp_path)
    content = json.loads(card_path(model).read_text(encoding="utf-8"))
    del content["network"][name]
    write_json(card_path(model), content)
    with pytest.raises(RequestError, match=f"describes no network of this version .*has no {name}"):
        network_from_card(read_card(model))


@pytest.mark.parametrize("name", ["head", "projection"])
def test_a_card_of_before_an_argument_has_its_default(tmp_path: Path, name: str) -> None:
    model = trained(tmp_path)
    content = json.loads(card_path(model).read_text(encoding="utf-8"))
    default = content["network"].pop(name)
    write_json(card_path(model), content)
    assert network_from_card(read_card(model)).arguments[name] == default


@pytest.mark.parametrize(
    ("name", "value"), [("sparse", "abc"), ("multi_scale", 1), ("num_classes", True), ("head", None), ("head", "cell")]
)
def test_an_argument_of_another_type_is_refused(tmp_path: Path, name: str, value: object) -> None:
    """A text would pass for a switch that is on, and the network for another."""
    model = trained(tmp_path)
    content = json.loads(card_path(model).read_text(encoding="utf-8"))
    write_json(card_path(model), {**content, "network": {**content["network"], name: value}})
    with pytest.raises(RequestError, match="describes no network of this version"):
        network_from_card(read_card(model))


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


def test_a_card_of_before_has_no_temperature(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path)).temperature == 1
    assert read_card(tmp_path / "absent.pt", optional=True).temperature == 1


def test_a_training_without_validation_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no epoch of this training was validated"):
        written(tmp_path, [0.1, 0.7], best_epoch=-1)


def test_a_missing_model_is_named_where_it_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nosuch\.pt: no such file; expected the weights that train\.yaml writes"):
        read_card(tmp_path / "nosuch.pt")


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path)).network == DSNet(embedding_channels=6).arguments
    card = written(tmp_path, [0.1, 0.7, 0.3, 0.9])
    assert read_card(tmp_path / "model.pt") == card
    assert list(card.to_json()) == list(json.loads(card_path(tmp_path / "model.pt").read_text()))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ["0"]}, r"classes \['0'\] and temperature 1"),
        ({"class_names": "01"}, "class_names is '01'"),
        ({"temperature": 0}, "temperature 0"),
        ({"temperature": None}, "temperature is 'None'"),
        ({"threshold_from": "test"}, "threshold_from 'test'"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"network": {"embedding_channels": 6}}, "has no network.thumbnail_levels"),
        ({"channel_range": [0]}, r"channels \[0\]"),
        ({"seen": {"train": 3}}, "fingerprints"),
        ({"seen": []}, "seen is"),
        ({"architecture": "ViT"}, "architecture 'ViT'"),
        ({"weights_sha256": 1}, "weights_sha256 is '1'"),
        ({"temperatureOfrom": "val"}, "unknown temperatureOfrom"),
        ({"validation": {"slides": 3}}, "has no validation.auc.value"),
        ({"training": {"slides": 3, "selection": "x"}}, "has no training.max_epochs"),
    ],
)
def test_a_card_that_was_changed(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """One line that names the file, whatever is wrong in it."""
    model = trained(tmp_path)
    write_json(card_path(model), json.loads(card_path(model).read_text()) | changed)
    with pytest.raises(
        RequestError, match=rf"model\.json: .*{message}.*expected the card that train\.yaml writes"
    ) as caught:
        read_card(model)
    assert "\n" not in str(caught.value)


def test_a_card_cut_short(tmp_path: Path) -> None:
    model = trained(tmp_path)
    content = card_path(model).read_bytes()
    for size in range(0, len(content) - 2, 97):
        card_path(model).write_bytes(content[:size])
        with pytest.raises(RequestError, match=r"model\.json: not JSON"):
            read_card(model)
