"""The stage ``inference``: what becomes of the classified slides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..common.config_settings import Plain
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..training.evaluation import PredictionCollector
from .inference_outputs import PredictionOutputs
from .record import told, write_run
from .slide_set import InferenceSet


def write_results(
    outputs: PredictionOutputs,
    collector: PredictionCollector,
    *,
    threshold: float | None = None,
    settings: Mapping[str, Plain] | None = None,
) -> None:
    """Write ``predictions.csv`` and ``inference.json``.

    Args:
        outputs: where they go, of which slides.
        collector: holds the predictions.
        threshold: decision threshold on the calibrated P(class 1) instead of the model card's.
        settings: of the stage, for ``inference.json``.
    """
    slides, names, folder = outputs.slides, outputs.names, Path(outputs.folder)
    card = slides.card
    chosen = card.threshold if threshold is None else threshold
    calibrated = calibrated_predictions(_finite(slides, collector.predictions), card.temperature)
    predictions = [
        replace(
            one,
            slide_id=names.slide(one.slide_id),
            other_label=None if names.anonymise else slides.other_labels.get(one.slide_id),
        )
        for one in calibrated
    ]
    write_predictions(folder / "predictions.csv", predictions, class_names=card.class_names, threshold=chosen)
    write_run(
        folder / "inference.json", card=card, threshold=chosen, settings=told(slides.resolved(settings or {}), names)
    )


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
