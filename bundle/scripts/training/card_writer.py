"""The end of a training: the chosen weights judged on the validation slides, and the model card that says so written."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer

from ..common.errors import RequestError
from ..common.files import sha256_of, write_json
from ..common.ranks import is_first
from ..common.version import BUNDLE_VERSION
from ..common.weights import read_weights
from ..evaluation.bootstrap import evaluate
from ..evaluation.calibration import calibrated, fit_temperature
from ..evaluation.interval import Estimate
from ..evaluation.metrics import choose_threshold
from .leakage import fingerprints
from .model_card import ModelCard, ThresholdFrom, card_path
from .predicting import PredictionCollector
from .training_outputs import TrainingOutputs
from .training_table import EmbeddingTable
from .validation import evaluator_of

_LOGGER = logging.getLogger(__name__)

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
    network: Any = chosen.network  # one of card.NETWORKS
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
