"""How good the model is, as far as labelled slides tell: of an evaluation, or of the cohort itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.journal import require_as_written
from ..common.json_files import NUMBER, Kind, read_json
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..evaluation.bootstrap import drawn_from, evaluate
from ..evaluation.calibration import ReliabilityBin, reliability
from ..evaluation.curves import Curves, curves
from ..evaluation.measured import Metrics, read_metrics
from ..evaluation.metrics import Threshold, predicted_classes, ranks
from ..evaluation.predictions import Prediction, read_predictions
from ..evaluation.same_slides import patients_of
from .results import Inference

CALIBRATION_FIELDS: dict[str, Kind] = {"temperature": NUMBER, "after.bins": list}
SAME = 1e-4
"""Difference of probabilities up to which two predictions are of one slide by one model."""


@dataclass(frozen=True)
class Performance:
    """What labelled slides say of a model.

    Attributes:
        name: of the set of slides, for ids and headings: "evaluation" or "cohort".
        class_names: in the order of the network's outputs.
        predictions: of the slides, all with a label.
        metrics: their metrics.
        curves: a pair (class, its curves) for class 1 of two, or for every class of more; a class with no or only slides of it is
            left out.
        bins: of the reliability diagram, on the calibrated scale.
        confusion: slides by (label, predicted), (classes, classes).
        patients_drawn: whether the curves' bands draw patients, not slides.
        split: that was evaluated.
    """

    name: str
    class_names: tuple[str, ...]
    predictions: tuple[Prediction, ...]
    metrics: Metrics
    curves: tuple[tuple[str, Curves], ...]
    bins: tuple[ReliabilityBin, ...]
    confusion: NDArray[np.int64]
    patients_drawn: bool
    split: str = "test"

    @property
    def auc(self) -> str:
        """AUC with its interval, or with the reason why it has none."""
        return self.metrics["auc"].in_words()

    @property
    def slide_set(self) -> str:
        """The slides in words: "cohort", or of an evaluation "test", "validation" or "training"."""
        if self.name != "evaluation":
            return self.name
        return {"val": "validation", "train": "training"}.get(self.split, "test")


def of_evaluation(
    folder: str | Path, inference: Inference, *, slides: str | Path | None = None, names: Names = AS_THEY_ARE
) -> Performance:
    """Read what ``evaluating`` wrote about the model that made the predictions.

    Args:
        folder: with ``predictions.csv``, ``metrics.json`` and ``calibration.json``.
        inference: the run that is reported.
        slides: table with the column ``patient``, for the curves' bands.
        names: what slides may be called there.

    Raises:
        RequestError: a file is missing, is not what evaluating writes, has changed since, or is about another model.
    """
    folder = Path(folder)
    expected = "what evaluating writes: run it anew, or name its output folder with --evaluation_dir"
    metrics = read_metrics(folder / "metrics.json", expected=expected)
    calibration = read_json(folder / "calibration.json", expected=expected, fields=CALIBRATION_FIELDS)
    table = read_predictions(folder / "predictions.csv")
    require_as_written(folder, ("metrics.json", "calibration.json", "predictions.csv"), expected=expected)
    card = inference.card
    unlabelled = sum(one.label is None for one in table.predictions)
    if unlabelled or not table.predictions:
        raise RequestError(
            f"{folder / 'predictions.csv'}: {unlabelled} of {len(table.predictions)} slides have no label, expected {expected}"
        )
    weights = calibration.get("weights_sha256")
    for what, found, wanted in (
        ("classes", list(table.class_names), list(inference.class_names)),
        ("temperature", calibration["temperature"], card.temperature),
        ("threshold", metrics.threshold, card.threshold),
        ("weights_sha256", weights, card.weights_sha256 if weights and card.weights_sha256 else weights),
    ):
        if found != wanted:
            raise RequestError(
                f"{folder}: {what} {found}, expected {wanted} as in the card of the model that made the predictions: evaluate "
                "that model"
            )
    patients = None if slides is None else patients_of(slides, [one.slide_id for one in table.predictions], names)
    with file_boundary(folder / "calibration.json", "not a calibration", expected):
        bins = [
            ReliabilityBin(**{**one, "ci95": one["ci95"] and tuple(one["ci95"])})
            for one in calibration["after"]["bins"]
        ]
    found = _performance("evaluation", table.class_names, table.predictions, metrics, bins, card.threshold, patients)
    return replace(found, split=str(calibration.get("split", "test")))


def of_cohort(inference: Inference, *, seed: int = 0) -> Performance | None:
    """Compare a cohort with its labels; patients that the model was made with do not count. None without two classes of labels."""
    pairs = [(slide, slide.prediction.label) for slide in inference.slides if inference.is_new(slide)]
    slides = [slide for slide, label in pairs if label is not None]
    labels = [label for _, label in pairs if label is not None]
    if len(set(labels)) < 2:
        return None
    predictions = [slide.prediction for slide in slides]
    probabilities = [prediction.probabilities for prediction in predictions]
    patients = [slide.patient for slide in slides]
    threshold = inference.run["threshold"]
    given = threshold != inference.card.threshold
    metrics = evaluate(
        labels,
        probabilities,
        threshold=threshold,
        threshold_from="command line" if given else inference.card.threshold_from,
        patients=patients,
        seed=seed,
    )
    bins = reliability(labels, probabilities)
    return _performance("cohort", inference.class_names, predictions, metrics, bins, threshold, patients)


def is_part_of(cohort: Performance, evaluation: Performance, names: Names = AS_THEY_ARE) -> bool:
    """Whether the cohort's labelled slides are among those of the evaluation, so that they tell nothing more.

    Those of the evaluation count as they are called there, and as ``names`` calls them.
    """
    known = {
        (name, one.label): one.probabilities
        for one in evaluation.predictions
        for name in (one.slide_id, names.slide(one.slide_id))
    }
    pairs = [(one.probabilities, known.get((one.slide_id, one.label))) for one in cohort.predictions]
    return all(theirs is not None and np.allclose(mine, theirs, atol=SAME) for mine, theirs in pairs)


def _performance(
    name: str,
    class_names: Sequence[str],
    predictions: Sequence[Prediction],
    metrics: Metrics,
    bins: Sequence[ReliabilityBin],
    threshold: Threshold,
    patients: Sequence[str | None] | None,
) -> Performance:
    labels = np.array([prediction.label for prediction in predictions])
    probabilities = np.array([prediction.probabilities for prediction in predictions])
    shown = [1] if len(class_names) == 2 else range(len(class_names))
    drawn = {"resamples": metrics.bootstrap.resamples, "seed": metrics.seed}
    found = (
        (class_names[index], curves(labels == index, ranks(probabilities)[:, index], patients=patients, **drawn))
        for index in shown
    )
    return Performance(
        name=name,
        class_names=tuple(class_names),
        predictions=tuple(predictions),
        metrics=metrics,
        curves=tuple((of_class, pair) for of_class, pair in found if pair is not None),
        bins=tuple(bins),
        confusion=confusion_matrix(
            labels, predicted_classes(probabilities, threshold), labels=np.arange(len(class_names))
        ),
        patients_drawn=drawn_from(len(predictions), patients).unit == "patient",
    )
