"""From a slide to its tissue mask."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.option_table import checked
from ..common.option_types import Whole
from ..common.option_words import TissueMethod
from ..slides.geometry import PATCH_UM, PatchGrid
from ..slides.reader import SlideReader
from .pen import INK_SHARE, pen_colour_scores
from .score import SCORE_UM_PX, Score, intensity_scores, rle_scores, slide_scores
from .threshold import (
    TissueMask,
    darkness_threshold,
    glass_threshold,
    histogram,
    tissue_threshold,
    without_specks,
)

DEAD_BAND = 4.0
"""Grey levels under which a step between neighbours is noise: a quarter of a step of the quantiser."""

DARK = 0.6
"""Darkness that the median tissue patch of a stained section does not reach; signal on black does."""


def find_tissue(
    reader: SlideReader,
    grid: PatchGrid,
    *,
    method: TissueMethod = "rle",
    patch_um: float = PATCH_UM,
    drop_pen: bool = True,
    min_speck_patches: int = 3,
    um_px: float = SCORE_UM_PX,
) -> TissueMask:
    """Find the patches of a slide that hold tissue (section IV-C, Fig. 5).

    An empty mask is a result, not an error; its ``reason`` says why.

    Args:
        reader: the slide.
        grid: where its patches lie.
        method: ``"rle"``: run lengths, glass first, then ink and debris; then pen colours. ``"otsu"``: Otsu's method on
            the mean intensity, the paper's comparison; it keeps ink.
        patch_um: side of a grid patch in micrometres.
        drop_pen: with ``"rle"``, also drop patches with the colour of pen, see :mod:`.pen`.
        min_speck_patches: drop connected parts of the mask with fewer patches; 1 keeps all.
        um_px: resolution to score at, see :func:`slide_scores`.

    Raises:
        RequestError: ``method`` is neither, or ``min_speck_patches`` is under 1.
        SlideError: The pixels cannot be decoded.
    """
    checked("tissue_method", method)
    checked("min_speck_patches", min_speck_patches, Whole(least=1))
    by_name = slide_scores(reader, grid, scores=score_functions(drop_pen=drop_pen), patch_um=patch_um, um_px=um_px)
    return tissue_mask(by_name, method=method, min_speck_patches=min_speck_patches)


def score_functions(*, drop_pen: bool = True) -> dict[str, Score]:
    """Name what :func:`tissue_mask` needs to know of every patch."""
    functions: dict[str, Score] = {"rle": partial(rle_scores, dead_band=DEAD_BAND), "otsu": intensity_scores}
    if drop_pen:
        functions["pen"] = pen_colour_scores
    return functions


def tissue_mask(
    by_name: Mapping[str, NDArray[np.float32]], *, method: TissueMethod = "rle", min_speck_patches: int = 3
) -> TissueMask:
    """Part tissue from everything else on the scores (rows, cols) of a slide, named as in :func:`score_functions`.

    A patch whose scores are NaN could not be read: it decides no threshold, and is not tissue. Pen colours do not move the
    thresholds, so that they cost no other patch.
    """
    judged = np.isfinite(by_name[method])
    scores, darkness = np.where(judged, by_name[method], 0), by_name["otsu"]
    pen = np.zeros(scores.shape, dtype=bool)
    if method == "rle" and "pen" in by_name:
        pen = judged & (by_name["pen"] >= INK_SHARE)
    glass, threshold = _thresholds(scores[judged], method)
    textured = judged & (scores >= threshold)
    with_pen = without_specks(textured, min_patches=min(min_speck_patches, int(judged.sum())))
    mask = with_pen & ~pen  # specks are judged without pen: what a stroke cuts off a section is none
    reason = ""
    if textured.any() and not with_pen.any():
        reason = f"all that has the texture of tissue are specks: {textured.sum()} patches, in pieces of under {min_speck_patches}"
    elif not with_pen.any():
        reason = "no patch has the texture of tissue" if method == "rle" else "no patch is darker than the glass"
    elif float(np.median(darkness[with_pen])) > DARK:
        reason = "what has texture is too dark for a stained section in bright field (fluorescence?)"
        mask = np.zeros_like(mask)
    elif not mask.any():
        reason = "what has texture has the colour of pen (where it is tissue of another stain: drop_pen false)"
    counts, edges = histogram(scores[judged])
    return TissueMask(
        mask=mask,
        scores=scores,
        pen=pen & textured,
        threshold=threshold,
        glass_threshold=glass,
        histogram_counts=counts,
        histogram_edges=edges,
        method=method,
        reason=reason,
        unjudged=int(scores.size - judged.sum()),
    )


def require_judged(tissue: TissueMask, path: Path) -> None:
    """Refuse an empty mask beside patches that could not be read: nobody knows whether the slide is without tissue.

    Args:
        tissue: the mask.
        path: file of the slide, for the message.

    Raises:
        SlideError: The mask is such.
    """
    if tissue.unjudged and not tissue.mask.any():
        raise SlideError(
            f"{path}: {tissue.unjudged} of {tissue.mask.size} patches lie on unreadable tiles and no tissue was found on the "
            "others, expected a whole file: compare it with its source"
        )


def _thresholds(scores: NDArray[np.float32], method: TissueMethod) -> tuple[float, float]:
    """Return where the glass ends and where tissue begins."""
    if scores.size == 0:
        return float("inf"), float("inf")
    if method == "otsu":
        threshold = darkness_threshold(scores)
        return threshold, threshold
    glass = glass_threshold(scores)
    return glass, tissue_threshold(scores, glass)
