"""What ties weights, card, encoder and network arguments together."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from scripts.common.errors import RequestError
from scripts.common.files import sha256_of, write_json
from scripts.dsnet.network import DSNet
from scripts.evaluation.calibration import calibrated
from scripts.evaluation.predictions import Prediction
from scripts.training.card import FORMAT, card_path, load_model, network_from_card, read_card, write_card
from scripts.training.evaluation import PredictionCollector


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
    assert read_card(trained(tmp_path))["channel_range"] is None


def test_weights_without_their_card_are_refused(tmp_path: Path) -> None:
    model = trained(tmp_path)
    card = read_card(model)
    card_path(model).unlink()
    with pytest.raises(RequestError, match="missing, or not the card"):
        load_model(network_from_card(card), model, read_card(model) | {"network": card["network"]})


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


def written(folder: Path, scores: list[float], *, best_epoch: int = 1, calibrate: bool = True) -> dict:
    """Card of a network whose validation slides (labels 0, 1, 0, 1) have these probabilities of class 1."""
    model = trained(folder)
    collector = PredictionCollector()
    collector.predictions = [Prediction(str(i), i % 2, (1 - p, p), 0.5) for i, p in enumerate(scores)]
    collector.patients = [None] * len(scores)
    table = SimpleNamespace(
        class_names=["0", "1"], encoder="A sha256:1", channel_range=None, items=lambda split: [{}] * 3, rows=[]
    )
    evaluator = SimpleNamespace(state=SimpleNamespace(best_metric_epoch=best_epoch), run=lambda epoch: None)
    network = DSNet(embedding_channels=6)
    return write_card(
        model, table, network, evaluator, collector, seed=0, max_epochs=2, intended_use="a test", calibrate=calibrate
    )


def test_the_threshold_says_where_it_comes_from(tmp_path: Path) -> None:
    card = written(tmp_path, [0.1, 0.7, 0.3, 0.9])
    assert (card["threshold"], card["threshold_from"]) == (pytest.approx(0.5), "val")
    card = written(tmp_path, [0.9, 0.1, 0.8, 0.2])
    assert (card["threshold"], card["threshold_from"]) == (0.5, "default")


def test_the_threshold_is_on_the_scale_of_what_is_reported(tmp_path: Path) -> None:
    """Scores far too sure of themselves: temperature and threshold move together, so that the decisions stay."""
    scores = [0.001, 0.9999, 0.99, 0.9995]
    plain, card = written(tmp_path, scores, calibrate=False), written(tmp_path, scores)
    assert (plain["temperature"], plain["temperature_from"]) == (1, None)
    assert card["temperature"] > 1 and card["temperature_from"] == "val"
    moved = calibrated([[1 - p, p] for p in scores], card["temperature"])[:, 1]
    assert list(moved >= card["threshold"]) == [p >= plain["threshold"] for p in scores] == [False, True, False, True]


def test_a_card_of_before_has_no_temperature(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path))["temperature"] == 1
    assert read_card(tmp_path / "absent.pt")["temperature"] == 1


def test_a_training_without_validation_gets_no_card(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no epoch of this training was validated"):
        written(tmp_path, [0.1, 0.7], best_epoch=-1)


def test_a_missing_model_is_named_where_it_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nosuch\.pt: no such file; expected the weights that train\.yaml writes"):
        read_card(tmp_path / "nosuch.pt", trained=True)
