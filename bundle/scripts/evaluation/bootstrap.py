"""Metrics with bootstrap intervals: the content of ``metrics.json``."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import RequestError
from .metrics import METRICS, UNDEFINED_BECAUSE, Floats, Ints, weighted_metrics

logger = logging.getLogger(__name__)

RESAMPLES = 2000
CI95_PERCENTILES = (2.5, 97.5)
_CHUNK_ELEMENTS = 4_000_000  # resamples times slides computed at once: bounds memory to some 100 MB


def evaluate(
    labels: ArrayLike,
    probabilities: ArrayLike,
    *,
    threshold: float | None,
    threshold_from: str | None,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the content of ``metrics.json`` for N classified slides.

    Intervals are 2.5 to 97.5 percentiles over a bootstrap of patients (cluster bootstrap: all slides of a drawn patient
    enter together), or of slides where no patients are given. Resamples that lack one of the classes present in
    ``labels`` are left out of every interval and counted (``bootstrap.degenerate``). What is undefined is ``None``,
    with the reason in the log.

    Args:
        labels: (N,) class indices.
        probabilities: (N, classes).
        threshold: decision threshold on P(class 1); ``None`` for more than two classes, where the highest probability
            decides.
        threshold_from: where the threshold comes from, such as ``"val"``.
        patients: (N,) patient of each slide; one without (``None`` or empty) stands for itself.
        resamples: number of bootstrap resamples.
        seed: seed of the resampling.

    Raises:
        RequestError: there is no slide.
        ValueError: shapes do not fit, a label is no class, or a probability is not in [0, 1].
    """
    label_of, probability = _checked(labels, probabilities)
    point = weighted_metrics(label_of, probability, np.ones((1, len(label_of))), threshold=threshold)
    weights = resample_weights(len(label_of), patients=patients, resamples=resamples, seed=seed)
    complete = np.all([weights @ (label_of == index) > 0 for index in np.unique(label_of)], axis=0)
    chunks = np.array_split(weights[complete], max(1, weights.size // _CHUNK_ELEMENTS))
    parts = [weighted_metrics(label_of, probability, chunk, threshold=threshold) for chunk in chunks]

    report: dict[str, Any] = {}
    for name in METRICS:
        value, spread = float(point[name][0]), np.concatenate([part[name] for part in parts])
        spread = spread[np.isfinite(spread)]
        if not np.isfinite(value):
            logger.warning("%s is undefined: %s", name, UNDEFINED_BECAUSE[name])
        interval = [float(end) for end in np.percentile(spread, CI95_PERCENTILES)] if len(spread) else [None, None]
        report[name] = {"value": value if np.isfinite(value) else None, "ci95": interval}
    two_classes = probability.shape[1] == 2
    report["n_positive"] = int((label_of == 1).sum()) if two_classes else None
    report["n_negative"] = int((label_of == 0).sum()) if two_classes else None
    report["threshold"] = threshold
    report["threshold_from"] = threshold_from
    report["seed"] = seed
    report["bootstrap"] = {
        "resamples": resamples,
        "unit": "patient" if patients and any(patients) else "slide",
        "degenerate": int((~complete).sum()),
    }
    return report


def resample_weights(
    slides: int, *, patients: Sequence[str | None] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Return how often each slide enters each resample, (resamples, slides).

    With G patients, G are drawn with replacement in each resample, and every slide counts as often as its patient.
    """
    if patients is None:
        group_of_slide, groups = np.arange(slides), slides
    else:
        # A pair cannot collide with a patient's name.
        keys = [("patient", patient) if patient else ("slide", index) for index, patient in enumerate(patients)]
        index_of = {key: index for index, key in enumerate(dict.fromkeys(keys))}
        group_of_slide, groups = np.array([index_of[key] for key in keys]), len(index_of)
    counts = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
    return counts[:, group_of_slide].astype(np.float64)


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
