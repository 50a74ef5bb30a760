"""What is done with a model card: written at the end of a training, read, and held against weights and encoder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import monai
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from ..baselines.registry import BASELINES
from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.files import sha256_of, write_json
from ..common.json_files import read_json
from ..common.ranks import is_first
from ..common.version import BUNDLE_VERSION
from ..common.weights import read_weights
from ..dsnet.heat_map import Network
from ..dsnet.network import DSNet
from ..dsnet.segmentation import DSNetSegmentation
from ..dsnet.streams import DualStream, Parts
from ..encoding.embedding_file import UNKNOWN
from ..evaluation.bootstrap import evaluate
from ..evaluation.calibration import calibrated, fit_temperature
from ..evaluation.interval import Estimate
from ..evaluation.metrics import choose_threshold
from .leakage import fingerprints
from .model_card import EXPECTED, FORMAT, ModelCard, ThresholdFrom, card_path
from .predicting import PredictionCollector
from .training_outputs import TrainingOutputs
from .training_table import EmbeddingTable
from .validation import evaluator_of

_LOGGER = logging.getLogger(__name__)

Trained = TypeVar("Trained", bound=Network)

NETWORKS = {network.__name__: network for network in (DSNet, DSNetSegmentation, *BASELINES)}
UNKNOWN_ENCODER = (None, UNKNOWN)
_SELECTED_BY = {"val_auc": "validation AUC", "val_dice": "validation Dice"}


def write_card(
    table: EmbeddingTable,
    trainer: SupervisedTrainer,
    chosen: SupervisedEvaluator,
    outputs: TrainingOutputs,
    *,
    intended_use: str,
    calibrate: bool = True,
) -> ModelCard:
    """Load the best weights, fit the temperature and choose the threshold on the validation slides, and write the card.

    The threshold is one on the calibrated probabilities.

    Args:
        table: the dataset.
        trainer: what has trained; it knows how many epochs that were, and its evaluator which of them was the best.
        chosen: runs the chosen weights over the validation slides; nothing of it is logged as another validation.
        outputs: where the training wrote its weights, those of the best epoch; the seed is among its settings.
        intended_use: a sentence for whoever finds the weights.
        calibrate: whether to fit a temperature; otherwise it is 1, as where the validation slides allow no fit.

    Returns:
        the card.

    Raises:
        RequestError: No epoch was validated.
    """
    validated, model, seed = evaluator_of(trainer).state, outputs.model, int(outputs.settings["seed"])
    if validated.best_metric_epoch < 1:
        raise RequestError(
            f"{model}: no epoch of this training was validated, so nothing was chosen; expected val_interval of at most max_epochs"
        )
    network: Any = chosen.network  # one of NETWORKS
    network.load_state_dict(read_weights(model, network=network, made_by="train.yaml"))
    training = _training_record(trainer, seed)
    judged = _judge(chosen, two_classes=len(table.class_names) == 2, calibrate=calibrate, seed=seed)
    card = ModelCard(
        class_names=tuple(table.class_names),
        threshold=judged.threshold,
        threshold_from=judged.threshold_from,
        temperature=judged.temperature,
        temperature_from="val" if calibrate and judged.temperature != 1 else None,
        encoder=table.encoder,
        precision=table.precision,
        architecture=type(network).__name__,
        network=network.arguments,
        channel_range=table.channel_range,
        weights_sha256=sha256_of(model),
        validation={"slides": judged.slides, "auc": judged.auc.to_json(), "no_interval": judged.auc.reason},
        training=training,
        # test slides must not be among these
        seen={split: " ".join(fingerprints(table, split)) for split in ("train", "val")},
        versions={"bundle": BUNDLE_VERSION, "monai": monai.__version__, "torch": str(torch.__version__)},
        intended_use=intended_use,
    )
    if is_first():
        write_json(card_path(model), card.to_json())
        _LOGGER.info("%s", _last_word(model, card))
    return card


@dataclass(frozen=True)
class _Judged:
    """What the validation slides say of the chosen weights; ``auc`` is that of the calibrated probabilities."""

    slides: int
    temperature: float
    threshold: float | None
    threshold_from: ThresholdFrom | None
    auc: Estimate


def _judge(chosen: SupervisedEvaluator, *, two_classes: bool, calibrate: bool, seed: int) -> _Judged:
    """Run the chosen weights over the validation slides, fit the temperature and choose the threshold."""
    collector = PredictionCollector()
    collector.attach(chosen)
    chosen.run()
    labels, raw = collector.labels, collector.probabilities
    temperature = fit_temperature(labels, raw) if calibrate else 1.0
    probabilities = calibrated(raw, temperature)
    threshold = choose_threshold(labels, probabilities[:, 1]) if two_classes else None
    metrics = evaluate(
        labels, probabilities, threshold=threshold, threshold_from="val", patients=collector.patients, seed=seed
    )
    # where no threshold separates the validation slides better than chance, choose_threshold falls back to 0.5
    separates = (metrics["recall"].value or 0) + (metrics["specificity"].value or 0) > 1
    threshold_from: ThresholdFrom | None = None if threshold is None else "val" if separates else "default"
    return _Judged(len(labels), temperature, threshold, threshold_from, metrics["auc"])


def _training_record(trainer: SupervisedTrainer, seed: int) -> dict[str, object]:
    """What the card says of the training."""
    validated, epochs = evaluator_of(trainer).state, trainer.state.epoch
    name = validated.key_metric_name
    return {
        "slides": len(trainer.data_loader.dataset),  # type: ignore[union-attr, arg-type]
        "seed": seed,
        "max_epochs": max(epochs, trainer.state.max_epochs),  # a resumed training may ask for fewer than it has had
        "epochs": epochs,
        "epoch": validated.best_metric_epoch,
        "selection": f"epoch of highest {_SELECTED_BY.get(name, name)}, the later one of equals",
    }


def _last_word(model: str | Path, card: ModelCard) -> str:
    """What a training leaves, in a line: files, the chosen epoch, its AUC, the threshold, and what to run next."""
    training, auc, threshold = card.training, card.validation["auc"]["value"], card.threshold
    return (
        f"trained: {model} and its card {card_path(model)}; epoch {training['epoch']} of {training['epochs']} chosen, validation "
        f"AUC {'unknown' if auc is None else f'{auc:.3f}'}, threshold {'none' if threshold is None else f'{threshold:.3f}'}; "
        f"next: evaluating on the test slides (evaluate.yaml) or inference on new ones (inference.yaml), with --model {model}"
    )


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
