"""Metrics with intervals: the content of ``metrics.json``."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import RequestError
from .interval import Bootstrap, Drawn, Estimate, estimate, missing_in_words
from .measured import Metrics
from .metrics import METRICS, UNDEFINED_BECAUSE, Floats, Ints, Threshold, predicted_classes, shares, weighted_metrics
from .score_interval import Ends, separated_auc_interval, share_interval

logger = logging.getLogger(__name__)

RESAMPLES = 2000
_CHUNK_ELEMENTS = 4_000_000  # resamples times slides computed at once: bounds memory to some 100 MB


@dataclass(frozen=True)
class Run:
    """What one trained network says of N slides.

    Attributes:
        probabilities: (N, classes).
        threshold: decision threshold on P(class 1), one or one per slide; ``None`` for more than two classes.
    """

    probabilities: ArrayLike
    threshold: Threshold


@dataclass(frozen=True)
class Resampled:
    """Every metric of `METRICS`, as the mean over the runs.

    Attributes:
        values: on the slides as they are; NaN where undefined.
        spread: on the resamples, (R,); NaN where undefined, as that of a metric that needs a class in a resample without it.
        degenerate: number of resamples that lack a class of the model.
        drawn: what each resample drew.
        ends: intervals by formula of one run, see `evaluate`.
    """

    values: dict[str, float]
    spread: dict[str, Floats]
    degenerate: int
    drawn: Drawn
    ends: dict[str, Ends]

    def estimate(self, name: str, *, undefined: str = "undefined") -> Estimate:
        """The metric with its interval; ``undefined`` says why it is so, where it is."""
        return estimate(self.values[name], self.spread[name], self.drawn, ends=self.ends.get(name), undefined=undefined)


def evaluate(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: Threshold,
    threshold_from: str | None,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metrics:
    """Return the metrics of N classified slides, as they stand in ``metrics.json``.

    Accuracy and, of two classes, precision, recall, F1 and specificity have Wilson's interval, with the number of slides cut by
    what those of a patient have in common (`.score_interval.share_interval`); an AUC of 0 or 1 of two classes has Newcombe's.

    All other intervals are 2.5 to 97.5 percentiles over a bootstrap of patients, or of slides where no patients are given. It is a
    cluster bootstrap: all slides of a drawn patient enter together. Each metric takes the resamples in which it is defined
    (``bootstrap.used``): accuracy, Brier score and ECE all of them, recall those with a slide of the class. Of too few
    patients or resamples no interval of either kind is given, and what is undefined is ``None``; ``bootstrap.no_interval`` and
    the log say why.

    Args:
        labels: (N,) class indices.
        probabilities: (N, classes).
        threshold: decision threshold on P(class 1), one or one per slide (then reported as ``None``); ``None`` for more than
            two classes, where the highest probability decides.
        threshold_from: where the threshold comes from, such as ``"val"``.
        patients: (N,) patient of each slide; one without (``None`` or empty) stands for itself.
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        RequestError: there is no slide.
        ValueError: shapes do not fit, a label is no class, or a probability is not in [0, 1].
    """
    run = Run(probabilities, threshold)
    result = resampled_metrics(labels, [run], patients=patients, resamples=resamples, seed=seed)
    label_of, probability = _checked(labels, probabilities)
    found = {name: result.estimate(name, undefined=UNDEFINED_BECAUSE[name]) for name in METRICS}
    for name, one in found.items():
        if one.value is None:
            logger.warning("%s is undefined: %s", name, one.reason)
    if missing := missing_in_words({name: one for name, one in found.items() if one.value is not None}):
        logger.warning("no interval of %s", missing)
    two_classes = probability.shape[1] == 2
    return Metrics(
        figures=found,
        bootstrap=Bootstrap(result.drawn, resamples, result.degenerate),
        seed=seed,
        threshold=threshold if isinstance(threshold, int | float) else None,
        threshold_from=threshold_from,
        n_positive=int((label_of == 1).sum()) if two_classes else None,
        n_negative=int((label_of == 0).sum()) if two_classes else None,
    )


def resampled_metrics(
    labels: ArrayLike,
    runs: Sequence[Run],
    *,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Resampled:
    """Compute every metric, as the mean over runs of one method, on the slides and on bootstrap resamples of them.

    A resample draws patients (see `resample_weights`) and, of several runs, as many runs with replacement, so that its
    spread holds the uncertainty of the slides and that of further seeds. Calls that agree in labels, patients, number of
    runs and seed draw alike. Their spreads may be subtracted: run i of one is then paired with run i of the other.

    Args:
        labels: (N,) class indices.
        runs: predictions of one or more networks for the same slides, such as one per seed.
        patients: as for `evaluate`.
        resamples: number of resamples.
        seed: seed of the resampling.

    Raises:
        RequestError: there is no slide.
        ValueError: as for `evaluate`.
    """
    checked = [_checked(labels, run.probabilities) for run in runs]
    label_of, classes = checked[0][0], checked[0][1].shape[1]
    weights = resample_weights(len(label_of), patients=patients, resamples=resamples, seed=seed)
    complete = np.all([weights @ (label_of == index) > 0 for index in range(classes)], axis=0)
    of_run = np.random.default_rng((seed, 1)).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), size=resamples)
    chunks = np.array_split(weights, max(1, weights.size // _CHUNK_ELEMENTS))
    values, spread = dict.fromkeys(METRICS, 0.0), {name: np.zeros(resamples) for name in METRICS}
    for run, (_, probability), drawn in zip(runs, checked, of_run.T, strict=True):
        point = weighted_metrics(label_of, probability, np.ones((1, len(label_of))), threshold=run.threshold)
        parts = [weighted_metrics(label_of, probability, chunk, threshold=run.threshold) for chunk in chunks]
        for name in METRICS:
            values[name] += float(point[name][0]) / len(runs)
            of_resample = np.concatenate([part[name] for part in parts])
            spread[name] += np.where(drawn > 0, drawn * of_resample, 0) / len(runs)
    ends = (
        _by_formula(label_of, checked[0][1], runs[0].threshold, patients, auc=values["auc"]) if len(runs) == 1 else {}
    )
    return Resampled(values, spread, int((~complete).sum()), drawn_from(len(label_of), patients), ends)


def _by_formula(
    labels: Ints, probabilities: Floats, threshold: Threshold, patients: Sequence[str | None] | None, *, auc: float
) -> dict[str, Ends]:
    """Intervals of one run by formula, by the name of the metric; see `evaluate`."""
    predicted = predicted_classes(probabilities, threshold)
    group_of_slide, _ = group_by_patient(len(labels), patients)
    of_metric = {"accuracy": (predicted == labels, np.ones(len(labels)))}
    ends: dict[str, Ends] = {}
    if probabilities.shape[1] == 2:
        of_metric |= shares(labels == 1, predicted == 1)
        if auc in (0, 1):
            low, high = separated_auc_interval(*(len(np.unique(group_of_slide[labels == index])) for index in (1, 0)))
            ends["auc"] = (low, high) if auc == 1 else (1 - high, 1 - low)
    found = {name: share_interval(*terms, group_of_slide) for name, terms in of_metric.items()}
    return ends | {name: one for name, one in found.items() if one is not None}


def drawn_from(slides: int, patients: Sequence[str | None] | None) -> Drawn:
    """Say what `resample_weights` draws of so many slides."""
    return Drawn("patient" if patients and any(patients) else "slide", group_by_patient(slides, patients)[1])


def resample_weights(
    slides: int, *, patients: Sequence[str | None] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Return how often each slide enters each resample, (resamples, slides).

    With G patients, G are drawn with replacement in each resample, and every slide counts as often as its patient.
    """
    group_of_slide, groups = group_by_patient(slides, patients)
    counts = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return counts[:, group_of_slide].astype(np.float64)


def group_by_patient(slides: int, patients: Sequence[str | None] | None) -> tuple[Ints, int]:
    """Return the number of each slide's patient, and how many there are; a slide without a patient stands for itself."""
    if patients is None:
        return np.arange(slides), slides
    # A pair cannot collide with a patient's name.
    keys = [("patient", patient) if patient else ("slide", index) for index, patient in enumerate(patients)]
    index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return np.array([index_of[key] for key in keys]), len(index_of)


def _checked(labels: ArrayLike, probabilities: ArrayLike) -> tuple[Ints, Floats]:
    """Return labels (N,) and probabilities (N, classes) as arrays, or raise."""
    label_of, probability = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if label_of.size == 0:
        raise RequestError("no slide to evaluate: expected at least one with a label; label the slides of this split")
    if probability.ndim != 2 or probability.shape[1] < 2 or label_of.shape != probability.shape[:1]:
        raise ValueError(
            f"labels {label_of.shape} and probabilities {probability.shape}: expected (N,) and (N, classes)"
        )
    if not np.isin(label_of, np.arange(probability.shape[1])).all():
        raise ValueError(f"labels {np.unique(label_of)}: expected class indices below {probability.shape[1]}")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError(f"probabilities from {probability.min()} to {probability.max()}: expected all in [0, 1]")
    return label_of.astype(np.int64), probability
