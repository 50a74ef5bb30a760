"""DeLong's test: two correlated AUC on the same slides."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from .metrics import Floats


@dataclass(frozen=True)
class DeLong:
    """Two AUC and their difference.

    Attributes:
        first: AUC of the first scores.
        second: AUC of the second.
        difference: second - first.
        standard_error: of the difference.
        z: difference / standard error; ``None`` where that is 0.
        p: two-sided; ``None`` where the difference is not 0 and has no spread.
        ci95: normal interval of the difference.
    """

    first: float
    second: float
    difference: float
    standard_error: float
    z: float | None
    p: float | None
    ci95: tuple[float, float]


def delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong | None:
    """Compare the AUC of two scores of the same N slides (DeLong et al. 1988, by midranks: Sun and Xu 2014).

    The slides are taken as independent: where patients have several, the standard error is too small, and the bootstrap by
    patient (`.compare.compare`) is to be used. Where both scores rank the slides so that the difference has no spread, z is
    ``None``, and p is 1 if the difference is 0 and otherwise undefined.

    Args:
        labels: (N,) of 0 and 1.
        first: (N,) scores, higher for class 1.
        second: (N,) scores.

    Returns:
        the comparison; ``None`` with fewer than two slides of a class, where there is no variance.
    """
    positive = np.asarray(labels) == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m < 2 or n < 2:
        return None
    placements = [_placements(np.asarray(scores, dtype=np.float64), positive) for scores in (first, second)]
    of_positive, of_negative = (np.stack(values) for values in zip(*placements, strict=True))
    aucs = of_positive.mean(axis=1)
    covariance = np.cov(of_positive) / m + np.cov(of_negative) / n
    contrast = np.array([-1.0, 1.0])
    difference = float(contrast @ aucs)
    error = float(np.sqrt(max(contrast @ covariance @ contrast, 0.0)))
    if error < 1e-12:
        z, p = None, 1.0 if abs(difference) < 1e-12 else None
    else:
        z = difference / error
        p = float(2 * norm.sf(abs(z)))
    half = float(norm.ppf(0.975)) * error
    return DeLong(float(aucs[0]), float(aucs[1]), difference, error, z, p, (difference - half, difference + half))


def _placements(scores: Floats, positive: np.ndarray) -> tuple[Floats, Floats]:
    """Structural components: of each positive the share of negatives below it, of each negative of positives above it.

    Ties count half. Their means are both the AUC.
    """
    m, n = int(positive.sum()), int((~positive).sum())
    overall = rankdata(scores)
    of_positive = (overall[positive] - rankdata(scores[positive])) / n
    of_negative = 1 - (overall[~positive] - rankdata(scores[~positive])) / m
    return of_positive, of_negative
