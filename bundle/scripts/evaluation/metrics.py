"""The figures of merit of a set of classified slides, for one or for many weightings of the slides at once.

Everything is computed from a matrix of weights, one row per resample. So the point estimate (one row of ones) and thousands of
bootstrap resamples (rows of counts) share one implementation.
"""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..common.errors import RequestError

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Threshold = float | Sequence[float] | None
"""On P(class 1), one for all slides or one per slide; ``None`` for more than two classes."""

METRICS = ("auc", "accuracy", "precision", "recall", "f1", "specificity", "brier", "ece")
ECE_BINS = 15
FALLBACK_THRESHOLD = 0.5
BESIDE_1 = 1e-6
"""Distance from 1 up to which the other probabilities tell more than the probability itself."""

UNDEFINED_BECAUSE = {
    "auc": "needs slides inside and outside each class",
    "accuracy": "needs a slide",
    "precision": "a class was predicted for no slide",
    "recall": "a class has no slide",
    "f1": "a class has no slide and was predicted for none",
    "specificity": "every slide is of one class",
    "brier": "needs a slide",
    "ece": "needs a slide",
}


def predicted_classes(probabilities: ArrayLike, threshold: Threshold) -> Ints:
    """Return the decision (N,) for probabilities (N, classes).

    Two classes: 1 where P(class 1) >= ``threshold``, which must be given (one, or one per slide). More: the class of
    highest probability, and ``threshold`` must be ``None``.
    """
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if (probabilities.shape[1] == 2) != (threshold is not None):
        raise ValueError(f"{probabilities.shape[1]} classes and threshold {threshold}: two classes need one, more none")
    if threshold is None:
        return probabilities.argmax(axis=1).astype(np.int64)
    return (probabilities[:, 1] >= np.asarray(threshold)).astype(np.int64)


def choose_threshold(labels: ArrayLike, p: ArrayLike) -> float:
    """Return the threshold on P(class 1) that maximises Youden's J = sensitivity + specificity - 1.

    To be called with VALIDATION slides only: a threshold chosen on the slides it is reported on flatters every figure.
    Candidates are the midpoints between neighbouring distinct scores. Of candidates with equal J the one nearest to 0.5
    is taken, then the lower (more sensitive). Where none has J > 0 the scores do not separate the classes, and 0.5 is
    returned with a warning in the log.

    Args:
        labels: (N,) of 0 and 1.
        p: (N,) probabilities of class 1.

    Raises:
        RequestError: the validation slides are of one class only.
    """
    positive = np.asarray(labels) == 1
    scores = np.asarray(p, dtype=np.float64)
    if positive.all() or not positive.any():
        raise RequestError(
            f"validation set: {positive.sum()} positive and {(~positive).sum()} negative slides, but a threshold needs "
            "both; put labelled slides of both classes into the split 'val'"
        )
    distinct = np.unique(scores)
    middle = distinct[:-1] + np.diff(distinct) / 2
    candidates = np.where(middle > distinct[:-1], middle, distinct[1:])
    called = scores[None, :] >= candidates[:, None]
    # Counts, not rates: ties must compare equal. J * positives * negatives is a whole number.
    j_scaled = called[:, positive].sum(1) * (~positive).sum() - called[:, ~positive].sum(1) * positive.sum()
    if not (j_scaled > 0).any():
        logger.warning("validation scores do not separate the classes: threshold set to %s", FALLBACK_THRESHOLD)
        return FALLBACK_THRESHOLD
    best = candidates[j_scaled == j_scaled.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def ranks(probabilities: ArrayLike) -> Ints:
    """Return the place of each slide by its probability of each class, (N, K), from 0 for the lowest; equal ones share a place.

    Of two that are equal beside 1, the one whose other probabilities have the smaller sum is higher. Near 0 float64 tells apart
    what it rounds to one number near 1.
    """
    probability = np.asarray(probabilities, dtype=np.float64)
    others = np.minimum(probability @ (1 - np.eye(probability.shape[1])), BESIDE_1)
    return np.stack([_places(p, rest) for p, rest in zip(probability.T, others.T, strict=True)], axis=1)


def _places(p: Floats, others: Floats) -> Ints:
    """Place of each slide (N,), by ``p`` and, of equals, by ``others``, the lower the higher."""
    order = np.lexsort((-others, p))
    differs = (np.diff(p[order]) != 0) | (np.diff(others[order]) != 0)
    places = np.empty(len(p), dtype=np.int64)
    places[order] = np.cumsum(np.r_[0, differs])
    return places


def shares(is_class: NDArray[np.bool_], called: NDArray[np.bool_]) -> dict[str, tuple[Floats, Floats]]:
    """Return the metrics of a class that are a sum over a sum: numerator and denominator of each slide, (N,), by name.

    Args:
        is_class: (N,) whether the slide is of the class.
        called: (N,) whether it was called so.
    """
    positive, said = is_class.astype(np.float64), called.astype(np.float64)
    return {
        "precision": (positive * said, said),
        "recall": (positive * said, positive),
        "f1": (2 * positive * said, positive + said),
        "specificity": ((1 - positive) * (1 - said), 1 - positive),
    }


def weighted_metrics(
    labels: Ints, probabilities: Floats, weights: Floats, *, threshold: Threshold
) -> dict[str, Floats]:
    """Compute every metric of `METRICS` for R weightings of N slides.

    Two classes: figures of class 1 at ``threshold``. More: decision by the highest probability; auc (one against the
    rest), precision, recall, f1 and specificity are unweighted means over the classes, undefined where one class's is.

    - auc: P(score of a positive > score of a negative) + half of P(equal), the rank statistic, of `ranks`.
    - brier: mean (P(class 1) - label)^2; for more classes the mean over slides of the sum over classes (Brier 1950).
    - ece: expected calibration error over `ECE_BINS` equal bins (lo, hi], the first with 0: sum over bins of share
      times |mean probability - observed frequency|. Two classes: probability and frequency of class 1. More: of the
      highest probability and of its class being right (Guo et al. 2017).

    Args:
        labels: (N,) class indices.
        probabilities: (N, classes), rows sum to 1.
        weights: (R, N), non-negative.
        threshold: decision threshold on P(class 1), one or one per slide; ``None`` for more than two classes.

    Returns:
        (R,) values by metric name, NaN where undefined.
    """
    classes = probabilities.shape[1]
    predicted = predicted_classes(probabilities, threshold)
    total = weights.sum(axis=1)
    scored = [1] if classes == 2 else range(classes)
    one_hot = np.eye(classes)[labels]
    if classes == 2:
        confidence, event = probabilities[:, 1], labels == 1
        squared = (confidence - event) ** 2
    else:
        top = probabilities.argmax(axis=1)
        confidence, event = probabilities.max(axis=1), top == labels
        squared = ((probabilities - one_hot) ** 2).sum(axis=1)

    rank = ranks(probabilities)
    per_class: dict[str, list[Floats]] = {name: [] for name in ("auc", "precision", "recall", "f1", "specificity")}
    for index in scored:
        is_class = labels == index
        per_class["auc"].append(_weighted_auc(is_class, rank[:, index], weights))
        for name, (hits, among) in shares(is_class, predicted == index).items():
            per_class[name].append(_ratio(weights @ hits, weights @ among))

    values = {name: np.mean(of_classes, axis=0) for name, of_classes in per_class.items()}
    values["accuracy"] = _ratio(weights @ (predicted == labels), total)
    values["brier"] = _ratio(weights @ squared, total)
    values["ece"] = _weighted_ece(event, confidence, weights)
    return {name: values[name] for name in METRICS}


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide, with NaN where the denominator is zero."""
    return np.divide(numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0)


def _weighted_auc(is_class: NDArray[np.bool_], scores: Ints, weights: Floats) -> Floats:
    """Rank statistic (R,) with ties counted half."""
    order = np.argsort(scores)
    _, first_of_tie = np.unique(scores[order], return_index=True)
    positive = np.add.reduceat((weights * is_class)[:, order], first_of_tie, axis=1)
    negative = np.add.reduceat((weights * ~is_class)[:, order], first_of_tie, axis=1)
    negative_below = np.cumsum(negative, axis=1) - negative / 2
    return _ratio((positive * negative_below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))


def _weighted_ece(event: NDArray[np.bool_], confidence: Floats, weights: Floats) -> Floats:
    """Expected calibration error (R,): |sum of (confidence - event)| a bin, over the total weight."""
    bin_of = np.clip(np.ceil(confidence * ECE_BINS).astype(int) - 1, 0, ECE_BINS - 1)
    gap_in_bin = np.eye(ECE_BINS)[bin_of] * (confidence - event)[:, None]
    return _ratio(np.abs(weights @ gap_in_bin).sum(axis=1), weights.sum(axis=1))
