"""From micrometres to pixels: where patches lie, which level they are read from, how they are resized."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, floor

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ..common.errors import SlideError
from ..common.option_table import checked
from ..common.option_words import ReadLevel
from .reader import SlideReader

PATCH_UM = 64.0
"""Side of a patch on the slide in micrometres (the paper: 256 px at 0.25 um/px, section IV-B)."""

PATCH_PX = 112
"""Side S of the network input in pixels (section IV-B): with ``PATCH_UM``, 0.571 um/px."""

T_PIXELS_PER_PATCH = 2
"""Pixels per side of a patch in the finest thumbnail of T (2x2 per patch), so that T's grid is exactly twice V's (III-A)."""

MPP_RANGE = (0.05, 10.0)
MAX_ENLARGEMENT = 8.0
MAX_ANISOTROPY = 0.05

BAND = 16
"""Output rows (columns) that one product of ``area_average`` makes; measured for 112 px."""

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class PatchGrid:
    """A regular grid of square patches that touch, in level-0 pixels.

    Attributes:
        patch_px_level0: Side of a patch, and step of the grid.
        origin_xy_px: Top-left corner of the patch at row 0, column 0.
        shape_yx: Rows and columns.
    """

    patch_px_level0: int
    origin_xy_px: tuple[int, int]
    shape_yx: tuple[int, int]

    def coords_xy_px(self, grid_yx: NDArray[np.int32]) -> NDArray[np.int64]:
        """Turn rows and columns (N, 2) into the patches' top-left corners x, y (N, 2) in level-0 pixels."""
        xy = np.asarray(grid_yx, dtype=np.int64).reshape(-1, 2)[:, ::-1]
        return xy * self.patch_px_level0 + np.array(self.origin_xy_px, dtype=np.int64)

    def crop(self, row0: int, col0: int, rows: int, cols: int) -> "PatchGrid":
        """Keep ``rows`` x ``cols`` patches from row ``row0``, column ``col0`` on; the origin moves with them."""
        x, y = self.origin_xy_px
        origin_xy_px = (x + col0 * self.patch_px_level0, y + row0 * self.patch_px_level0)
        return replace(self, origin_xy_px=origin_xy_px, shape_yx=(rows, cols))


@dataclass(frozen=True)
class ReadPlan:
    """How the patches of one slide are read.

    Attributes:
        grid: Where they lie.
        level: Pyramid level they are read from.
        read_px: Side of a patch in pixels of that level.
        mpp_xy: Micrometres per level-0 pixel along x and y; a patch has as many pixels along both, by their mean.
    """

    grid: PatchGrid
    level: int
    read_px: int
    mpp_xy: tuple[float, float]


def plan_reading(
    reader: SlideReader,
    *,
    patch_um: float = PATCH_UM,
    read_level: ReadLevel = "auto",
    mpp: float | None = None,
) -> ReadPlan:
    """Lay the patch grid over a slide and choose the level to read from.

    The grid starts at the corner of the region that was scanned and covers it to the last pixel.

    Args:
        reader: the slide.
        patch_um: side of a patch on the slide; over ``PATCH_PX`` it is the target resolution.
        read_level: ``"auto"``: the coarsest level that is still at least as fine as the target. ``"highest"``: level 0,
            as in the paper. A number: that level.
        mpp: micrometres per level-0 pixel (column ``mpp`` of slides.csv); goes before what the metadata say.

    Raises:
        SlideError: The resolution is missing, absurd, not square, or more than 8 times coarser than the target; or the
            slide has no level ``read_level``.
        RequestError: ``read_level`` is another word, or ``patch_um`` is not positive.
    """
    checked("patch_um", patch_um)
    checked("read_level", read_level)
    mpp_xy = _usable_mpp_xy(reader, mpp)
    mean_mpp = sum(mpp_xy) / 2
    left, top, width, height = reader.bounds_xywh_px
    patch_px_level0 = max(1, round(patch_um / mean_mpp))
    grid = PatchGrid(
        patch_px_level0=patch_px_level0,
        origin_xy_px=(left, top),
        shape_yx=(ceil(height / patch_px_level0), ceil(width / patch_px_level0)),
    )
    sides_px = [max(1, round(patch_px_level0 / downsample)) for downsample in reader.level_downsamples]
    level = _choose_level(reader, sides_px, read_level)
    level_mpp = mean_mpp * reader.level_downsamples[level]
    target_mpp = patch_um / PATCH_PX
    coarseness = level_mpp / target_mpp
    if coarseness > MAX_ENLARGEMENT:
        raise SlideError(
            f"{reader.path}: level {level} has {level_mpp:.4g} um/px, {coarseness:.1f} times coarser than the target "
            f"of {target_mpp:.3g} um/px, expected at most {MAX_ENLARGEMENT:g} times: use a finer level or "
            "scan; if the resolution in the metadata is wrong, give the right one in the column mpp of slides.csv"
        )
    if sides_px[level] < PATCH_PX:
        _LOGGER.warning(
            "a slide is read at %.4g um/px, coarser than the target of %.3g um/px: its patches are enlarged %.1f times",
            level_mpp,
            target_mpp,
            PATCH_PX / sides_px[level],
        )
    return ReadPlan(grid, level, read_px=sides_px[level], mpp_xy=mpp_xy)


def _usable_mpp_xy(reader: SlideReader, mpp: float | None) -> tuple[float, float]:
    """Return mpp along x and y from slides.csv, else the metadata; refuse what no slide has, and pixels far from square."""
    source = "the metadata say" if mpp is None else "slides.csv says"
    mpp_xy = reader.mpp_xy if mpp is None else (mpp, mpp)
    if mpp_xy is None:
        raise SlideError(
            f"{reader.path}: the metadata hold no resolution, expected micrometres per pixel: "
            "add a column mpp to slides.csv"
        )
    mpp_x, mpp_y = mpp_xy
    said = f"{reader.path}: {source} {mpp_x:.4g} x {mpp_y:.4g} um/px"
    if not is_plausible(mpp_xy):
        raise SlideError(
            f"{said}, expected {MPP_RANGE[0]:g} to {MPP_RANGE[1]:g}: give the right resolution in the column mpp of "
            "slides.csv, or leave this slide out if it is as coarse as that"
        )
    if abs(mpp_x - mpp_y) > MAX_ANISOTROPY * min(mpp_x, mpp_y):
        raise SlideError(
            f"{said}, expected square pixels (5 % apart at most): give the right resolution in the column mpp of slides.csv, or "
            "resample the slide"
        )
    return mpp_xy


def is_plausible(mpp_xy: tuple[float, float]) -> bool:
    """Whether a slide may have so many micrometres per level-0 pixel along x and y."""
    return all(MPP_RANGE[0] <= mpp <= MPP_RANGE[1] for mpp in mpp_xy)


def _choose_level(reader: SlideReader, sides_px: list[int], read_level: ReadLevel) -> int:
    """Return the level to read from; ``sides_px`` holds the side of a patch at every level."""
    if isinstance(read_level, int):
        if read_level >= len(sides_px):
            raise SlideError(
                f"{reader.path}: no pyramid level {read_level}, expected 0 to {len(sides_px) - 1}: "
                "choose read_level auto or highest"
            )
        return read_level
    if read_level == "highest":
        return 0
    return max((level for level, side_px in enumerate(sides_px) if side_px >= PATCH_PX), default=0)


def area_average(images: torch.Tensor, edges_y_px: Sequence[float], edges_x_px: Sequence[float]) -> torch.Tensor:
    """Average images over rectangles whose sides fall anywhere between or within pixels.

    Pixels weigh by the share of their area that lies in the rectangle, so the mean is exact (kept to float32).

    Args:
        images: (B, H, W, C), uint8 or floating.
        edges_y_px: the n_y + 1 increasing borders between the rows of rectangles, in pixels from 0 to H.
        edges_x_px: the n_x + 1 increasing borders between their columns, from 0 to W.

    Returns:
        float32 (B, n_y, n_x, C).

    Raises:
        ValueError: The edges do not increase, or leave the image.
    """
    batch, height, width, channels = images.shape
    rows_first = images.reshape(batch, height, width * channels)
    rows = [
        torch.matmul(w, rows_first[:, i:j].to(torch.float32))
        for i, j, w in _bands(tuple(edges_y_px), height, images.device)
    ]
    by_channel = (
        torch.cat(rows, dim=1).view(batch, len(edges_y_px) - 1, width, channels).permute(0, 3, 1, 2).contiguous()
    )
    columns = [torch.matmul(by_channel[..., i:j], w.T) for i, j, w in _bands(tuple(edges_x_px), width, images.device)]
    return torch.cat(columns, dim=-1).permute(0, 2, 3, 1)


def resize_patches(patches: torch.Tensor, patch_px: int = PATCH_PX) -> torch.Tensor:
    """Resize patches to the network input: area average to reduce, bilinear to enlarge.

    Args:
        patches: (B, h, w, 3) uint8, as read.
        patch_px: side S of the network input.

    Returns:
        float32 (B, 3, S, S), on the scale of 0 to 255.
    """
    height, width = patches.shape[1:3]
    if (height, width) == (patch_px, patch_px):
        return patches.permute(0, 3, 1, 2).to(torch.float32)
    if min(height, width) < patch_px:
        images = patches.permute(0, 3, 1, 2).to(torch.float32)
        return functional.interpolate(images, size=(patch_px, patch_px), mode="bilinear", align_corners=False)
    edges_y_px, edges_x_px = (np.linspace(0, side, patch_px + 1).tolist() for side in (height, width))
    return area_average(patches, edges_y_px, edges_x_px).permute(0, 3, 1, 2)


@lru_cache(maxsize=64)
def _bands(
    edges_px: tuple[float, ...], size_px: int, device: torch.device
) -> tuple[tuple[int, int, torch.Tensor], ...]:
    """Cut the weights of the intervals between ``edges_px`` into bands without the zeros far from the diagonal.

    Returns:
        For every ``BAND`` intervals the first pixel they touch, the pixel after their last, and their weights
        (intervals, pixels) on ``device``, whose rows sum to 1. Bands make the product some four times faster than the full matrix.
    """
    edges = np.asarray(edges_px, dtype=np.float64)
    lengths = np.diff(edges)
    if len(edges) < 2 or (lengths <= 0).any() or edges[0] < 0 or edges[-1] > size_px:
        raise ValueError(f"edges {edges_px}: expected two or more that increase, from 0 to {size_px}")
    bands = []
    for start in range(0, len(lengths), BAND):
        low, high = edges[:-1][start : start + BAND, None], edges[1:][start : start + BAND, None]
        first, last = floor(low[0, 0]), ceil(high[-1, 0])
        pixels = np.arange(first, last)
        overlaps = np.maximum(np.minimum(high, pixels + 1) - np.maximum(low, pixels), 0)
        weights = torch.from_numpy((overlaps / (high - low)).astype(np.float32))
        bands.append((first, last, weights.to(device)))
    return tuple(bands)
