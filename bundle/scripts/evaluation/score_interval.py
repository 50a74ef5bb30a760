"""Intervals by formula, for figures of which the bootstrap is too sure in small sets: shares of slides, and an AUC of 1."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm

from .metrics import Ints

Ends = tuple[float, float]

_Z = float(norm.ppf(0.975))


def wilson(share: float, count: float) -> Ends:
    """Return the 95 % score interval of a share of ``count`` independent ones (Wilson 1927); at 0 and 1 it has a width, too."""
    shrink = 1 + _Z**2 / count
    middle = (share + _Z**2 / (2 * count)) / shrink
    half = _Z / shrink * (share * (1 - share) / count + (_Z / (2 * count)) ** 2) ** 0.5
    return 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half  # exactly, whatever the rounding


def share_interval(hits: ArrayLike, among: ArrayLike, group_of_slide: Ints) -> Ends | None:
    """Return Wilson's 95 % interval of sum(hits) / sum(among), with the effective number of slides that come in groups.

    The number is divided by the design effect, which is 1 at least: the variance of the linearised ratio between groups over that
    of independent slides (Rao and Scott 1992; Wilson's interval with it: Franco et al. 2019). A share of 0 or 1 does not
    tell that variance. There each group counts once: the number is (sum n)^2 / sum n^2 of groups of n (Kish 1965). With one slide
    per group it is Wilson's own interval.

    Args:
        hits: (N,) what counts of each slide, from 0 to ``among``.
        among: (N,) of how many; 0 for a slide that does not enter.
        group_of_slide: (N,) number of the patient, or of the slide where none is known.

    Returns:
        both ends; None where no slide enters.
    """
    hit, size = (np.bincount(group_of_slide, np.asarray(of_slide, dtype=np.float64)) for of_slide in (hits, among))
    count = float(size.sum())
    if count == 0:
        return None
    share = float(hit.sum()) / count
    between = float(((hit - share * size) ** 2).sum())
    if 0 < hit.sum() < count:
        return wilson(share, count / max(1.0, between / (count * share * (1 - share))))
    return wilson(share, count**2 / float((size**2).sum()))


def separated_auc_interval(positives: int, negatives: int) -> Ends:
    """Return the 95 % score interval of an AUC of 1 (Newcombe 2006, method 5): t where 1 - t is 1.96 standard errors at t.

    The variance is that of Hanley and McNeil (1982), with (m + n) / 2 - 1 in place of both m - 1 and n - 1.

    Args:
        positives: m, independent ones.
        negatives: n.
    """
    others = (positives + negatives) / 2 - 1

    def beyond(t: float) -> float:
        """Of 1 - t the square over that of its standard error, less 1.96 squared; a factor of both is left out."""
        spread = t * (1 + others * ((1 - t) / (2 - t) + t / (1 + t))) / (positives * negatives)
        return 1 - t - _Z**2 * spread

    return float(brentq(beyond, 0, 1)), 1.0
