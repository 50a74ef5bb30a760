"""Lesion masks: pictures in which lesions are marked, brought to the grid of V by where they lie on the slide.

A mask covers the whole level 0 of its slide, or the part that was scanned, which is all that QuPath shows and exports of MRXS and
SCN; its size says which. Each pixel is a square of k x k level-0 pixels. The whole number k goes from 1 (a mask as large as the
slide) to the side of a patch (one pixel per patch) and beyond. A cell of V is lesion where at least half of its area is. Pixels are
counted at the level of the mask nearest to a cell (docs/decisions/0025).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.apart import run_apart
from ..common.errors import RequestError, SlideError
from ..common.files import blocks_of
from .geometry import PatchGrid, area_average
from .mask_pixels import Corner, MaskPixels, open_mask
from .opening import open_slide
from .reader import whole_factor
from .table import SlideRow

MASK_SUFFIXES = (".png", ".tif", ".tiff")
MASK_ENDINGS = ("", "_mask", "_Mask")
"""Between slide id and suffix; the later ones are Camelyon16's."""

LESION_SHARE = 0.5
BLOCK_PX = 2048
"""Side in pixels of what is read at once, so that memory does not grow with the mask."""

Edges = NDArray[np.floating[Any]]
Region = tuple[int, int, int, int]
"""Left, top, width and height in level-0 pixels."""
Regions = tuple[Region, Region]
"""The whole slide, and the part that was scanned."""


def find_masks(rows: Sequence[SlideRow], source: Path, masks: str | Path | None = None) -> dict[str, Path]:
    """Find the mask of every slide that has one, by slide id.

    Args:
        rows: the slides.
        source: the table they come from, for the error.
        masks: folder of masks named by the slide's id, as ``<slide_id>.png`` or ``<slide_id>_mask.tif``; None takes the column.

    Raises:
        RequestError: the folder is missing, or a mask that the table names.
    """
    if masks is None:
        named = {row.slide_id: row.mask for row in rows if row.mask}
        for slide_id, path in named.items():
            if not path.is_file():
                raise RequestError(
                    f"{source}: slide {slide_id} has the mask {path}, which does not exist: correct the column mask"
                )
        return named
    folder = Path(masks)
    if not folder.is_dir():
        raise RequestError(
            f"{folder}: no such folder, expected <slide_id>{' or '.join(MASK_SUFFIXES)} in it: correct --masks"
        )
    # Of several masks of one slide the last counts.
    names = [ending + suffix for ending in reversed(MASK_ENDINGS) for suffix in MASK_SUFFIXES]
    candidates = ((row.slide_id, folder / f"{row.slide_id}{name}") for row in rows for name in names)
    return {slide_id: path for slide_id, path in candidates if path.is_file()}


def digest_of_masks(mask_of: Mapping[str, Path], *, mask_px: int | None, lesion_from: int) -> str:
    """SHA-256 of what targets are made from: the masks by slide id, and how they are read."""
    digest = hashlib.sha256(repr((mask_px, lesion_from)).encode())
    for slide_id, path in sorted(mask_of.items()):
        digest.update(slide_id.encode())
        for block in blocks_of(path):
            digest.update(block)
    return digest.hexdigest()


def lesion_cells(
    mask: Path,
    grid: PatchGrid,
    *,
    slide: Path,
    attributes: Mapping[str, Any] | None = None,
    mask_px: int | None = None,
    lesion_from: int = 1,
) -> NDArray[np.bool_]:
    """Read a mask on a grid, in a process that may die of it.

    Args:
        mask: an image of one channel, or of several that are the same; transparency does not count.
        grid: the cells.
        slide: the slide's file, which says what a mask may cover where ``attributes`` do not.
        attributes: root attributes of the slide's embedding file. Where neither tells the slide's size, the mask begins at
            level-0 pixel (0, 0).
        mask_px: k, level-0 pixels along the side of a pixel of the mask; None: from the sizes.
        lesion_from: lowest value of a pixel that is lesion.

    Returns:
        (H, W), True where at least half of the cell is lesion. What lies outside the mask is none.

    Raises:
        SlideError: the mask or the slide cannot be read, or their sizes do not fit.
    """
    stated = _stated_regions(attributes or {})
    return run_apart(partial(_lesion_cells, grid, slide, stated, mask_px, lesion_from, False), mask, mask)[0]


def all_lesion_cells(
    mask: Path,
    grid: PatchGrid,
    *,
    slide: Path,
    attributes: Mapping[str, Any] | None = None,
    mask_px: int | None = None,
    lesion_from: int = 1,
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Read a mask as :func:`lesion_cells` does, on a grid that goes on by whole cells as far as the mask.

    Returns:
        the cells, and at which row and column of them the grid itself begins.

    Raises:
        SlideError: as there.
    """
    stated = _stated_regions(attributes or {})
    return run_apart(partial(_lesion_cells, grid, slide, stated, mask_px, lesion_from, True), mask, mask)


def _lesion_cells(
    grid: PatchGrid,
    slide: Path,
    stated: Regions | None,
    mask_px: int | None,
    lesion_from: int,
    everywhere: bool,
    mask: Path,
) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    with open_mask(mask) as pixels:
        size_xy_px = pixels.level_sizes_xy_px[0]
        k, (left, top) = _place(mask, size_xy_px, slide, stated, mask_px)
        x, y = grid.origin_xy_px
        on_mask, begin_yx = replace(grid, origin_xy_px=(x - left, y - top)), (0, 0)
        if everywhere:
            on_mask, begin_yx = _grown(on_mask, (k * size_xy_px[0], k * size_xy_px[1]))
        return lesion_shares(pixels, on_mask, k, lesion_from=lesion_from) >= LESION_SHARE - 1e-6, begin_yx


def _grown(grid: PatchGrid, size_xy_px: Corner) -> tuple[PatchGrid, tuple[int, int]]:
    """Add whole cells until the grid covers (0, 0) to ``size_xy_px``; and the rows and columns that stand before its first cell."""
    step, starts_yx = grid.patch_px_level0, grid.origin_xy_px[::-1]
    before = [max(0, ceil(start / step)) for start in starts_yx]
    after = [
        max(0, ceil((size - start) / step) - cells)
        for size, start, cells in zip(size_xy_px[::-1], starts_yx, grid.shape_yx, strict=True)
    ]
    rows, columns = (sum(parts) for parts in zip(before, grid.shape_yx, after, strict=True))
    return grid.crop(-before[0], -before[1], rows, columns), (before[0], before[1])


def lesion_shares(pixels: MaskPixels, grid: PatchGrid, mask_px: int, *, lesion_from: int) -> NDArray[np.float32]:
    """Return the share of each cell's area that is lesion (H, W), read in blocks of cells; see :func:`lesion_cells`."""
    level, factor = pixels.level_for(grid.patch_px_level0 / mask_px)
    pixel_px = mask_px * factor
    edges_y, edges_x = (
        (start + np.arange(cells + 1) * grid.patch_px_level0) / pixel_px
        for start, cells in zip(grid.origin_xy_px[::-1], grid.shape_yx, strict=True)
    )
    shares = np.empty(grid.shape_yx, dtype=np.float32)
    step = max(1, int(BLOCK_PX * pixel_px // grid.patch_px_level0))
    for top, left in product(range(0, grid.shape_yx[0], step), range(0, grid.shape_yx[1], step)):
        block = np.s_[top : top + step, left : left + step]
        edges = edges_y[top : top + step + 1], edges_x[left : left + step + 1]
        shares[block] = _shares_of_block(pixels, level, edges, lesion_from)
    return shares


def _shares_of_block(pixels: MaskPixels, level: int, edges_yx: tuple[Edges, Edges], lesion_from: int) -> Edges:
    """Return the shares of the cells between edges in pixels of ``level``, which may lie outside of it."""
    low, high = (
        np.array([rounded(edges[end]) for edges in edges_yx], int) for end, rounded in ((0, np.floor), (-1, np.ceil))
    )
    size = np.array(pixels.level_sizes_xy_px[level][::-1])
    begin, end = np.clip(low, 0, size), np.clip(high, 0, size)
    lesion = np.zeros(high - low, dtype=np.uint8)
    if (begin < end).all():
        (top, left), (bottom, right) = (begin - low).tolist(), (end - low).tolist()
        values = pixels.values(level, tuple(begin[::-1].tolist()), tuple(end[::-1].tolist()))
        lesion[top:bottom, left:right] = values >= lesion_from
    within_y, within_x = ((edges - start).tolist() for edges, start in zip(edges_yx, low, strict=True))
    shares: Edges = area_average(torch.from_numpy(lesion)[None, :, :, None], within_y, within_x)[0, :, :, 0].numpy()
    return shares


def _place(
    mask: Path, size_xy_px: Corner, slide: Path, stated: Regions | None, mask_px: int | None
) -> tuple[int, Corner]:
    """Return k, and the level-0 pixel at which the mask begins: that of the whole slide or else of the scanned part.

    Where k is given, a slide that cannot be opened is as one that is not there.

    Raises:
        SlideError: no k, or not the one that is given, fits both sides of either; or one k fits the slide and another the part.
    """
    regions = stated or _regions_of(slide, mask, needed=mask_px is None)
    if regions is None:
        assert mask_px is not None  # else they were needed
        return mask_px, (0, 0)
    whole, scanned = regions
    places = [
        (factors, (left, top))
        for left, top, width, height in dict.fromkeys((whole, scanned))
        if (factors := _factors((width, height), size_xy_px, mask_px))
    ]
    if mask_px is None and len(places) > 1:
        raise SlideError(
            f"{mask}: {size_xy_px[0]} x {size_xy_px[1]} pixels fit the whole slide, {places[0][0][0]} level-0 pixels each, and the "
            f"scanned part, {places[1][0][0]} each; expected one of them: say which with --mask_px"
        )
    if not places:
        raise _misfit(mask, size_xy_px, regions, mask_px)
    factors, corner = places[0]
    if len(factors) > 1:
        raise SlideError(
            f"{mask}: {size_xy_px[0]} x {size_xy_px[1]} pixels may be of {factors[0]} to {factors[-1]} level-0 pixels each, "
            "so large are they; expected one whole number alone: give it with --mask_px"
        )
    return factors[0], corner


def _misfit(mask: Path, size_xy_px: Corner, regions: Regions, mask_px: int | None) -> SlideError:
    """Say that a mask covers neither region in whole numbers."""
    whole, scanned = regions
    part = "" if scanned == whole else f", of which {scanned[2]} x {scanned[3]} were scanned"
    scale, remedy = (
        ("one whole number", "give level-0 pixels per mask pixel with --mask_px")
        if mask_px is None
        else (f"{mask_px}, as --mask_px says,", "correct --mask_px")
    )
    return SlideError(
        f"{mask}: {size_xy_px[0]} x {size_xy_px[1]} pixels, the slide has {whole[2]} x {whole[3]} at level 0{part}; expected the "
        f"slide's size{' or that of the scanned part' if part else ''} over {scale} on both sides: write the mask anew, or {remedy}"
    )


def _factors(large_xy: tuple[int, int], small_xy: tuple[int, int], mask_px: int | None) -> list[int]:
    """Every k by which sides become those of a mask, rounded up or down; one that leaves no remainder stands alone."""
    if mask_px is not None:
        return [mask_px] if whole_factor(large_xy, small_xy, mask_px) else []
    large, small = max(large_xy), max(small_xy)
    most = large if small == 1 else min(large, large // (small - 1))
    fitting = [k for k in range(max(1, large // (small + 1)), most + 1) if whole_factor(large_xy, small_xy, k)]
    return [k for k in fitting if (k * small_xy[0], k * small_xy[1]) == large_xy] or fitting


def _stated_regions(attributes: Mapping[str, Any]) -> Regions | None:
    """Return what an embedding file says; None where it does not say both."""
    if not {"slide_size_xy_px", "bounds_xywh_px"} <= attributes.keys():
        return None
    width, height = map(int, attributes["slide_size_xy_px"])
    left, top, scan_width, scan_height = map(int, attributes["bounds_xywh_px"])
    return (0, 0, width, height), (left, top, scan_width, scan_height)


def _regions_of(slide: Path, mask: Path, *, needed: bool) -> Regions | None:
    """Return what the slide says; where that is not needed, None for a slide that is not there or cannot be opened."""
    if not slide.is_file():
        if needed:
            raise SlideError(
                f"{mask}: the slide {slide} is not there to tell the mask's scale: give level-0 pixels per mask pixel with "
                "--mask_px"
            )
        return None
    try:
        with open_slide(slide) as reader:
            return (0, 0, *reader.level_sizes_xy_px[0]), reader.bounds_xywh_px
    except SlideError:
        if needed:
            raise
        return None
