"""Probabilities that can be taken at their word: one temperature, fitted on the validation slides."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from .metrics import Floats, Ints
from .predictions import Prediction
from .score_interval import wilson

_LOGGER = logging.getLogger(__name__)

RANGE = (53 / 1022, 100.0)
"""Of the temperature T. Where float64 tells a probability from 1 its odds are at most 2^53; raised to 1/T they stay under 2^1022.
So the smaller probability never becomes 0, and the order of the slides stays (`.metrics.ranks`)."""
RELIABILITY_BINS = 10
_SMALLEST = np.finfo(np.float64).tiny  # a probability of 0 has no logarithm


def fit_temperature(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the temperature T > 0 for which softmax(logits / T) has the smallest cross-entropy (Guo et al. 2017).

    To be called with VALIDATION slides only. There are n_c slides of class c among them. The target of each is
    (n_c + 1) / (n_c + K) for c, and 1 / (n_c + K) for any other class (Platt 1999). The cross-entropy with plain
    labels has no minimum where the scores separate the classes: T would go to 0 and every probability to 0 or 1. Where the
    scores are no better than chance T would go to infinity, and 1 is returned with a warning in the log.

    Args:
        labels: (N,) class indices.
        probabilities: (N, K), softmax of the logits; their logarithms are the logits but for a constant per slide.
    """
    label_of, logits = np.asarray(labels, dtype=np.int64), _logits(probabilities)
    targets = smoothed_targets(label_of, logits.shape[1])

    def loss(log_t: float) -> float:
        return cross_entropy(targets, logits / np.exp(log_t))

    # The loss is convex in 1/T; at 1/T = 0 it falls only if the targets go with the logits.
    if ((targets - 1 / logits.shape[1]) * logits).sum() <= 0:
        _LOGGER.warning("validation scores are no better than chance: probabilities stay as they are (temperature 1)")
        return 1.0
    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def smoothed_targets(labels: Ints, classes: int) -> Floats:
    """Platt's targets (N, K); see `fit_temperature`."""
    of_class = np.bincount(labels, minlength=classes)[labels]
    targets = np.repeat(1 / (of_class + classes), classes).reshape(len(labels), classes)
    targets[np.arange(len(labels)), labels] = (of_class + 1) / (of_class + classes)
    return targets


def cross_entropy(targets: Floats, logits: Floats) -> float:
    """Mean over slides of -sum of target times log-probability."""
    return float(-(targets * log_softmax(logits, axis=1)).sum(axis=1).mean())


def calibrated(probabilities: ArrayLike, temperature: float) -> Floats:
    """Return softmax(logits / T), (N, K).

    Of two classes the order of the slides by `.metrics.ranks` stays for every T of `RANGE`, and with it the AUC. Sure slides may
    all have a probability of 1 after rounding, but not the same other probability. Of more the highest class of each slide stays.
    """
    if temperature == 1:
        return np.asarray(probabilities, dtype=np.float64)
    return np.asarray(softmax(_logits(probabilities) / temperature, axis=1))


def calibrated_predictions(predictions: Sequence[Prediction], temperature: float) -> list[Prediction]:
    """Return the predictions with calibrated probabilities."""
    if not predictions:
        return []
    rows = calibrated([prediction.probabilities for prediction in predictions], temperature)
    return [replace(old, probabilities=tuple(map(float, row))) for old, row in zip(predictions, rows, strict=True)]


def _logits(probabilities: ArrayLike) -> Floats:
    return np.log(np.maximum(np.asarray(probabilities, dtype=np.float64), _SMALLEST))


@dataclass(frozen=True)
class ReliabilityBin:
    """Slides whose probability lies in (low, high], the first bin with 0.

    Attributes:
        low: lower end.
        high: upper end.
        slides: how many.
        mean_probability: of them; ``None`` in an empty bin.
        observed: share of them in which it came true.
        ci95: Wilson's interval of that share, which takes slides as independent.
    """

    low: float
    high: float
    slides: int
    mean_probability: float | None = None
    observed: float | None = None
    ci95: tuple[float, float] | None = None


def reliability(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = RELIABILITY_BINS) -> list[ReliabilityBin]:
    """Return what was predicted against what came true, by bins of the probability.

    Two classes: P(class 1), and the slide being of class 1. More: the highest probability, and its class being right.
    """
    label_of, probability = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    if probability.shape[1] == 2:
        confidence, event = probability[:, 1], label_of == 1
    else:
        confidence, event = probability.max(axis=1), probability.argmax(axis=1) == label_of
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for index in range(bins):
        inside = bin_of == index
        low, high, slides = index / bins, (index + 1) / bins, int(inside.sum())
        if not slides:
            found.append(ReliabilityBin(low, high, 0))
            continue
        found.append(
            ReliabilityBin(
                low,
                high,
                slides,
                float(confidence[inside].mean()),
                float(event[inside].mean()),
                wilson(float(event[inside].mean()), slides),
            )
        )
    return found
