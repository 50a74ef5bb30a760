"""Where tissue begins on the scores of one slide."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label
from skimage.filters import threshold_otsu

from ..common.option_words import TissueMethod

GLASS_RANGE = (0.02, 0.2)
"""Bounds of the run-length score that ends the glass: real glass stays under the upper one, tissue over it."""

TISSUE_FLOOR = 0.1
"""Least median run-length score of tissue; a slide whose best group lies under it holds none."""

GROUPS_APART = 0.7
"""Ink and debris are believed only where their median is under this share of the tissue's median."""

VALLEY = 0.5
"""... and where the cut has at most this share of the patches that the tissue's median has, within ``VALLEY_WIDTH``."""

VALLEY_WIDTH = 0.05

INK_CEILING = 0.6
"""Where ink and debris were found, tissue begins no lower than at this share of its median: Otsu's cut leans to ink."""

DARKNESS_STEP = 0.05
"""Least difference in darkness (0..1) between the two groups of Otsu's method; less is uneven glass."""

HISTOGRAM_BINS = 64


@dataclass(frozen=True)
class TissueMask:
    """Which patches of a slide's grid hold tissue, and why.

    Attributes:
        mask: (rows, cols), true where there is tissue.
        scores: (rows, cols), what the threshold was applied to.
        pen: (rows, cols), true where the score is that of tissue and the colour that of pen; not in the mask.
        threshold: Least score of tissue. A patch over it can still be missing from the mask (a speck, pen colour).
        glass_threshold: Score that ends the glass; with Otsu's method, the threshold itself.
        histogram_counts: Patches in each bin of the scores, (64,).
        histogram_edges: Edges of the bins, (65,), from 0 to 1.
        method: ``"rle"`` or ``"otsu"``.
        reason: Why the mask is empty; an empty string where it is not.
        unjudged: Patches that lie on tiles that cannot be decoded on any level, and so are not in the mask.
    """

    mask: NDArray[np.bool_]
    scores: NDArray[np.float32]
    pen: NDArray[np.bool_]
    threshold: float
    glass_threshold: float
    histogram_counts: NDArray[np.int64]
    histogram_edges: NDArray[np.float64]
    method: TissueMethod
    reason: str
    unjudged: int = 0

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Tightest box of the mask (section IV-C): row0, col0, rows, cols; all 0 where the mask is empty."""
        if not self.mask.any():
            return (0, 0, 0, 0)
        rows = np.flatnonzero(self.mask.any(axis=1))
        cols = np.flatnonzero(self.mask.any(axis=0))
        return (int(rows[0]), int(cols[0]), int(rows[-1] - rows[0] + 1), int(cols[-1] - cols[0] + 1))


def glass_threshold(scores: NDArray[np.float32]) -> float:
    """Part glass from everything else: Otsu on the logarithm of the run-length scores, within ``GLASS_RANGE``.

    The bounds decide on slides of one group: all glass falls below them, all tissue above.
    """
    return float(np.clip(10 ** _otsu(np.log10(np.maximum(scores, 1e-4))), *GLASS_RANGE))


def tissue_threshold(scores: NDArray[np.float32], glass: float) -> float:
    """Part tissue from ink and debris among the run-length scores that are not glass.

    With glass taken out, Otsu's threshold of the rest is the upper one of three classes. It is believed only where the
    two groups lie apart (``GROUPS_APART``) with a valley between them (``VALLEY``), and then raised to ``INK_CEILING``.
    Otherwise there is one group, tissue, which is not cut: it begins where the glass ends.

    Args:
        scores: run-length scores of the slide, any shape.
        glass: what :func:`glass_threshold` gave.

    Returns:
        Least score of tissue; infinite where no group scores like tissue.
    """
    rest = scores[scores >= glass]
    if rest.size == 0:
        return float("inf")
    cut = _otsu(rest)
    lower, upper = rest[rest < cut], rest[rest >= cut]
    tissue = float(np.median(upper))
    at_cut, at_tissue = (np.count_nonzero(np.abs(rest - centre) <= VALLEY_WIDTH) for centre in (cut, tissue))
    if lower.size == 0 or np.median(lower) > GROUPS_APART * tissue or at_cut > VALLEY * at_tissue:
        cut, tissue = glass, float(np.median(rest))
    else:
        cut = max(cut, INK_CEILING * tissue)
    return cut if tissue >= TISSUE_FLOOR else float("inf")


def darkness_threshold(scores: NDArray[np.float32]) -> float:
    """Apply Otsu's method to the darkness of the patches; infinite where the two groups are one (``DARKNESS_STEP``)."""
    cut = _otsu(scores)
    lower, upper = scores[scores < cut], scores[scores >= cut]
    if lower.size == 0 or np.median(upper) - np.median(lower) < DARKNESS_STEP:
        return float("inf")
    return cut


def without_specks(mask: NDArray[np.bool_], *, min_patches: int) -> NDArray[np.bool_]:
    """Drop the connected parts of a mask (corners connect) that hold fewer than ``min_patches`` patches."""
    parts, _ = label(mask, structure=np.ones((3, 3), dtype=bool))
    sizes = np.bincount(parts.ravel())
    return mask & (sizes[parts] >= min_patches)


def histogram(scores: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Count the scores in ``HISTOGRAM_BINS`` equal bins from 0 to 1; return counts and edges."""
    counts, edges = np.histogram(scores, bins=HISTOGRAM_BINS, range=(0.0, 1.0))
    return counts.astype(np.int64), edges


def _otsu(values: NDArray[np.floating]) -> float:
    """Return Otsu's threshold; values at or above it form the upper group. The value itself where all are equal."""
    if values.min() == values.max():
        return float(values.min())
    return float(np.nextafter(threshold_otsu(values), np.inf))
