"""What is done with the model card of trained weights: it is read, its network built, and held against weights and encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from torch import nn

from ..baselines.registry import BASELINES
from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.files import sha256_of
from ..common.json_files import read_json
from ..common.weights import read_weights
from ..dsnet.heat_map import Network
from ..dsnet.network import DSNet
from ..dsnet.segmentation import DSNetSegmentation
from ..dsnet.streams import DualStream, Parts
from ..encoding.embedding_file import UNKNOWN
from .model_card import EXPECTED, FORMAT, ModelCard, card_path

Trained = TypeVar("Trained", bound=Network)

NETWORKS = {network.__name__: network for network in (DSNet, DSNetSegmentation, *BASELINES)}
UNKNOWN_ENCODER = (None, UNKNOWN)


def read_card(model: str | Path, *, optional: bool = False, named_by: str = "--model") -> ModelCard:
    """Read the card beside ``model``.

    Args:
        model: the weights.
        optional: if neither file exists, describe the paper's network for two classes, so that a bundle can be inspected before
            training.
        named_by: the option that names the weights, for the message.

    Raises:
        RequestError: The card is missing, or is not one of ours.
    """
    path = card_path(model)
    if not path.is_file() and Path(model).is_file():
        raise RequestError(
            f"{path}: no such file beside {Path(model).name}; expected the model card that train.yaml writes with the weights: "
            "copy it along, or train anew"
        )
    if not path.is_file() and not optional:
        raise RequestError(
            f"{model}: no such file; expected the weights that train.yaml writes: train first, or name them with {named_by}"
        )
    if not path.is_file():
        return ModelCard(
            class_names=("0", "1"), threshold=0.5, threshold_from=None, encoder=None, network=DSNet().arguments
        )
    card = ModelCard.from_json(path, read_json(path, expected=EXPECTED, format=FORMAT))
    if card.architecture not in NETWORKS:
        raise RequestError(f"{path}: architecture {card.architecture!r}, expected {EXPECTED}")
    return card


SWITCHES = frozenset(field.name for field in fields(Parts))
"""Switches that every card must state: with a default, the weights could load into a network that is not the trained one."""


def network_from_card(card: ModelCard) -> Network:
    """Build the network that a card describes, ablations included; its weights are random.

    Raises:
        RequestError: it describes none.
    """
    with file_boundary("model card", "describes no network of this version", EXPECTED):
        network = NETWORKS[card.architecture]
        _require_types(network, card.network)
        built = network(**card.network)
        if missing := sorted(SWITCHES & built.arguments.keys() - card.network.keys()):
            raise TypeError(f"has no {missing[0]}")
        return built


def _require_types(network: type[nn.Module], arguments: Mapping[str, Any]) -> None:
    """Refuse an argument of another type than the network's constructors name: a text would pass for a switch that is on.

    Raises:
        TypeError: names it.
    """
    named: dict[str, object] = {}
    for own in (vars(one).get("__init__") for one in reversed(network.__mro__)):
        named |= get_type_hints(own) if own else {}
    named |= get_type_hints(Parts) if issubclass(network, DualStream) else {}
    for name, value in arguments.items():
        kinds = get_args(named.get(name)) or (named.get(name, Any),)
        # a word of a Literal is a kind itself
        fits = type(value) in kinds or value in kinds or (float in kinds and type(value) is int)
        if Any not in kinds and not fits:
            raise TypeError(f"{name} is {value!r}")


def load_model(
    network: Trained,
    model: str | Path,
    card: ModelCard,
    *,
    encoder: str | None = None,
    classes: Sequence[str] | None = None,
) -> Trained:
    """Load trained weights, after checking that they belong to the data's encoder and classes.

    Args:
        network: takes the weights.
        model: the weights.
        card: their card.
        encoder: name and hash of the encoder of the data, None or "unknown" where it is not known.
        classes: class names of the data in the order of its label indices; None where it has none.

    Raises:
        RequestError: no weights, or they were trained on another encoder's embeddings, or for other classes or another order.
    """
    network.load_state_dict(read_weights(model, network=network, made_by="train.yaml"))
    if card.weights_sha256 != sha256_of(model):
        raise RequestError(
            f"{card_path(model)}: not the card of {model} (a training that was stopped leaves new weights beside an old "
            "card); expected the card that train.yaml writes at its end: finish that training with --resume true"
        )
    require_encoder(model, card, encoder)
    if classes is not None and tuple(classes) != card.class_names:
        raise RequestError(
            f"{model}: its classes are {', '.join(card.class_names)}, in this order, but --classes says {', '.join(classes)}; "
            "expected the model's order: leave --classes out"
        )
    return network


def require_encoder(model: str | Path, card: ModelCard, encoder: str | None) -> None:
    """Check that embeddings come from the encoder that a model was trained on.

    Raises:
        RequestError: they do not.
    """
    if encoder not in UNKNOWN_ENCODER and card.encoder not in UNKNOWN_ENCODER and encoder != card.encoder:
        raise RequestError(
            f"{model}: trained on embeddings of {card.encoder}, but these are of {encoder}: encode the slides with the same "
            "encoder, or name the model that belongs to it with --model"
        )
