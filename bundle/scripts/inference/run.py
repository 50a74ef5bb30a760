"""The stage ``inference``: what becomes of the classified slides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.pseudonyms import Names
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..training.evaluation import PredictionCollector
from ..training.model_card import ModelCard
from .record import write_run
from .slide_set import InferenceSet

PLACES = ("slides", "dataset_dir", "model", "encoder")
"""Settings that are paths."""


def class_index(card: ModelCard, target_class: str | int | None) -> int | None:
    """Return the number of the class whose heat map is wanted; None, which leaves it to the prediction, for None.

    Raises:
        RequestError: the model has no class of that name.
    """
    names = card.class_names
    if target_class is None:
        return None
    if str(target_class) not in names:
        raise RequestError(
            f"target_class {str(target_class)!r}: the model knows {', '.join(names)}; name one of them, or leave it out"
        )
    return names.index(str(target_class))


def write_results(
    slides: InferenceSet,
    collector: PredictionCollector,
    output_dir: str | Path,
    *,
    threshold: float | None = None,
    settings: dict[str, object] | None = None,
) -> None:
    """Write ``predictions.csv`` and ``inference.json``.

    Args:
        slides: what was classified.
        collector: holds the predictions.
        output_dir: folder of the outputs.
        threshold: decision threshold on the calibrated P(class 1) instead of the model card's.
        settings: of the stage, for ``inference.json``.
    """
    card, output = slides.card, Path(output_dir)
    chosen = card.threshold if threshold is None else threshold
    calibrated = calibrated_predictions(_finite(slides, collector.predictions), card.temperature)
    names = slides.names
    predictions = [
        replace(
            one,
            slide_id=names.slide(one.slide_id),
            other_label=None if names.anonymise else slides.other_labels.get(one.slide_id),
        )
        for one in calibrated
    ]
    write_predictions(output / "predictions.csv", predictions, class_names=card.class_names, threshold=chosen)
    write_run(output / "inference.json", card=card, threshold=chosen, settings=told(settings or {}, names))


def told(settings: Mapping[str, Any], names: Names) -> dict[str, object]:
    """The settings as inference.json states them: of places whatever they may be called."""
    return {
        name: names.place(str(value)) if value is not None and name in PLACES else value
        for name, value in settings.items()
    }


def _finite(slides: InferenceSet, predictions: Sequence[Prediction]) -> list[Prediction]:
    """The predictions that are numbers; the slides of the others failed."""
    finite = [prediction for prediction in predictions if prediction.is_finite]
    for prediction in predictions:
        if not prediction.is_finite:
            slides.fail(
                prediction.slide_id,
                f"{prediction.slide_id}: the network says NaN, expected probabilities: check the slide's features, or name "
                "another model",
            )
    return finite
