"""What ties weights, card, encoder and network arguments together."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from training.trained_model import trained

from scripts.common.errors import RequestError
from scripts.common.files import write_json
from scripts.dsnet.network import DSNet
from scripts.training.card import load_model, network_from_card, read_card
from scripts.training.model_card import card_path
from scripts.training.training_outputs import TrainingOutputs


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


def test_a_card_of_before_has_no_temperature(tmp_path: Path) -> None:
    assert read_card(trained(tmp_path)).temperature == 1
    assert read_card(tmp_path / "absent.pt", optional=True).temperature == 1


def test_a_missing_model_is_named_where_it_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"nosuch\.pt: no such file; expected the weights that train\.yaml writes"):
        read_card(tmp_path / "nosuch.pt")


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
