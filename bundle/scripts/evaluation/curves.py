"""Curves of one class against the rest, from the same bootstrap resamples as the metrics."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from .bootstrap import RESAMPLES, drawn_from, resample_weights
from .interval import CI95_PERCENTILES, Estimate, estimate, is_defined_often
from .metrics import Floats

BAND_POINTS = 101


@dataclass(frozen=True)
class Curves:
    """ROC and precision-recall curve of a class, each with a point per distinct score, the highest score first.

    Attributes:
        false_positive_rate: (P,), from 0 to 1.
        recall: the true positive rate, (P,), from 0 to 1.
        precision: (P - 1,): of the points behind (0, 0), where nothing is called.
        band_at: false positive rates of the band, (`BAND_POINTS`,).
        band: pointwise 95 % interval of the recall there: (lower, upper); None where the average precision has no interval either.
        average_precision: with its interval.
    """

    false_positive_rate: Floats
    recall: Floats
    precision: Floats
    band_at: Floats
    band: tuple[Floats, Floats] | None
    average_precision: Estimate


def curves(
    is_class: ArrayLike,
    scores: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Curves | None:
    """Return the curves of N slides, or None where all or none are of the class.

    Average precision is the sum over the points of (recall gained) times precision. Resamples that lack a class are left out, as
    for the AUC in :func:`.bootstrap.evaluate`, whose draws are the same for the same patients, resamples and seed.

    Args:
        is_class: (N,) whether a slide is of the class.
        scores: (N,) its probability, or its place by it (:func:`.metrics.ranks`).
        patients: (N,) patient of each slide; all slides of a drawn patient enter together.
        resamples: number of resamples.
        seed: of the resampling.
    """
    positive, score = np.asarray(is_class, dtype=bool), np.asarray(scores, dtype=np.float64)
    if positive.all() or not positive.any():
        return None
    weights = resample_weights(len(positive), patients=patients, resamples=resamples, seed=seed)
    complete = (weights @ positive > 0) & (weights @ ~positive > 0)
    (fpr,), (recall,), (precision,) = _rates(positive, score, np.ones((1, len(positive))))
    fprs, recalls, precisions = _rates(positive, score, weights[complete])
    spread = np.full(resamples, np.nan)
    spread[complete] = (np.diff(recalls, axis=1) * precisions).sum(axis=1)
    drawn = drawn_from(len(positive), patients)
    average_precision = estimate(float((np.diff(recall) * precision).sum()), spread, drawn)
    band_at, band = np.linspace(0, 1, BAND_POINTS), None
    if average_precision.ci95 is not None:
        resampled = np.stack([np.interp(band_at, *pair) for pair in zip(fprs, recalls, strict=True)])
        lower, upper = np.percentile(resampled, CI95_PERCENTILES, axis=0)
        band = (lower, upper)
    return Curves(
        false_positive_rate=fpr,
        recall=recall,
        precision=precision,
        band_at=band_at,
        band=band,
        average_precision=average_precision,
    )


@dataclass(frozen=True)
class MeanRoc:
    """The mean ROC curve of several networks on the same slides.

    Attributes:
        at: false positive rates, (`BAND_POINTS`,).
        recall: mean recall there.
        band: pointwise 95 % interval of it: (lower, upper); None where the AUC has no interval either.
    """

    at: Floats
    recall: Floats
    band: tuple[Floats, Floats] | None


def mean_roc(
    is_class: ArrayLike,
    scores: Sequence[ArrayLike],
    *,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> MeanRoc | None:
    """Average the ROC curves of several networks at fixed false positive rates; None where all or no slides are of the class.

    Args:
        is_class: (N,) whether a slide is of the class.
        scores: per network its probability of each slide, (N,), or its place by it (:func:`.metrics.ranks`).
        patients: as for :func:`curves`.
        resamples: number of resamples, the same for every network.
        seed: of the resampling.
    """
    positive = np.asarray(is_class, dtype=bool)
    if positive.all() or not positive.any():
        return None
    weights = resample_weights(len(positive), patients=patients, resamples=resamples, seed=seed)
    weights = weights[(weights @ positive > 0) & (weights @ ~positive > 0)]
    at = np.linspace(0, 1, BAND_POINTS)
    total = np.zeros((len(weights) + 1, BAND_POINTS))
    for score in scores:
        every = np.concatenate([np.ones((1, len(positive))), weights])
        fprs, recalls, _ = _rates(positive, np.asarray(score, dtype=np.float64), every)
        total += np.stack([np.interp(at, *pair) for pair in zip(fprs, recalls, strict=True)])
    mean, resampled = total[0] / len(scores), total[1:] / len(scores)
    if drawn_from(len(positive), patients).too_few or not is_defined_often(len(weights), resamples):
        return MeanRoc(at, mean, None)
    lower, upper = np.percentile(resampled, CI95_PERCENTILES, axis=0)
    return MeanRoc(at, mean, (lower, upper))


def _rates(positive: NDArray[np.bool_], score: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """False positive rate and recall (R, P), and precision (R, P - 1), for R weightings of the slides."""
    order = np.argsort(-score, kind="stable")
    _, first_of_tie = np.unique(-score[order], return_index=True)
    hits = np.cumsum(np.add.reduceat((weights * positive)[:, order], first_of_tie, axis=1), axis=1)
    alarms = np.cumsum(np.add.reduceat((weights * ~positive)[:, order], first_of_tie, axis=1), axis=1)
    called = hits + alarms
    precision = np.divide(
        hits, called, out=np.zeros_like(hits), where=called > 0
    )  # gains nothing where nobody was drawn
    start = np.zeros((len(weights), 1))
    recall = np.concatenate([start, hits / hits[:, -1:]], axis=1)
    return np.concatenate([start, alarms / alarms[:, -1:]], axis=1), recall, precision


def rank_correlation(
    x: ArrayLike,
    y: ArrayLike,
    *,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """Return Spearman's correlation of N pairs with its interval by the bootstrap; undefined where one of them does not vary.

    Args:
        x: (N,).
        y: (N,).
        patients: as for :func:`curves`.
        resamples: number of resamples.
        seed: of the resampling.
    """
    pairs = np.column_stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)])
    weights = resample_weights(len(pairs), patients=patients, resamples=resamples, seed=seed).astype(int)
    spread = [_spearman(np.repeat(pairs, drawn, axis=0)) for drawn in weights]
    drawn = drawn_from(len(pairs), patients)
    return estimate(_spearman(pairs), np.array(spread), drawn, undefined="the values do not vary")


def _spearman(pairs: Floats) -> float:
    if len(pairs) < 3 or (np.ptp(pairs, axis=0) == 0).any():
        return float("nan")
    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
