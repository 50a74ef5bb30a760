"""Lesion masks: pictures in which lesions are marked, brought to the grid of V by where they lie on the slide.

A mask covers the whole level 0 of its slide, as the viewers show it. Its first pixel begins at level-0 pixel (0, 0), and each
pixel is a square of k x k level-0 pixels. The whole number k goes from 1 (a mask as large as the slide) to the side of a patch
(one pixel per patch) and beyond. A cell of V is lesion where at least half of its area is.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..common.apart import run_apart
from ..common.errors import RequestError, SlideError
from .geometry import PatchGrid, area_average
from .opening import open_slide
from .table import SlideRow

MASK_SUFFIXES = (".png", ".tif", ".tiff")
MASK_COLUMN = "mask"
LESION_SHARE = 0.5


def find_masks(rows: Sequence[SlideRow], source: Path, masks: str | Path | None = None) -> dict[str, Path]:
    """Find the mask of every slide that has one, by slide id.

    Args:
        rows: the slides.
        source: the table they come from; paths in its column ``mask`` are relative to it.
        masks: folder of masks named by the slide's id; None takes the column.

    Raises:
        RequestError: the folder is missing, or a mask that the table names.
    """
    if masks is None:
        named = {row.slide_id: source.parent / row.extra[MASK_COLUMN] for row in rows if row.extra.get(MASK_COLUMN)}
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
    candidates = ((row.slide_id, folder / f"{row.slide_id}{suffix}") for row in rows for suffix in MASK_SUFFIXES)
    return {slide_id: path for slide_id, path in candidates if path.is_file()}


def lesion_cells(
    mask: Path, grid: PatchGrid, *, slide: Path, mask_px: int | None = None, lesion_from: int = 1
) -> NDArray[np.bool_]:
    """Read a mask on a grid, in a process that may die of it.

    Args:
        mask: an image of one channel, or of several of which the first counts.
        grid: the cells.
        slide: the slide's file, whose size says k where ``mask_px`` does not.
        mask_px: k, level-0 pixels along the side of a pixel of the mask.
        lesion_from: lowest value of a pixel that is lesion.

    Returns:
        (H, W), True where at least half of the cell is lesion. What lies outside the mask is none.

    Raises:
        SlideError: the mask or the slide cannot be read, or their sizes do not fit.
    """
    return run_apart(partial(_lesion_cells, grid, slide, mask_px, lesion_from), mask, mask)


def _lesion_cells(grid: PatchGrid, slide: Path, mask_px: int | None, lesion_from: int, mask: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(mask) as image:
            pixels = np.asarray(image)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise SlideError(
            f"{mask}: not a readable mask ({error}); expected a PNG or TIFF of at most {Image.MAX_IMAGE_PIXELS} pixels: write it "
            "at a coarser whole scale of the slide"
        ) from error
    lesion = (pixels[..., 0] if pixels.ndim == 3 else pixels) >= lesion_from
    k = mask_px or _scale(mask, lesion.shape, slide)
    edges = [
        (start + np.arange(cells + 1) * grid.patch_px_level0) / k
        for start, cells in zip(grid.origin_xy_px[::-1], grid.shape_yx, strict=True)
    ]
    margins = [
        (max(0, int(np.ceil(-edge[0]))), max(0, int(np.ceil(edge[-1])) - size))
        for edge, size in zip(edges, lesion.shape, strict=True)
    ]
    padded = torch.from_numpy(np.pad(lesion, margins).astype(np.uint8))[None, :, :, None]
    edges_y, edges_x = ((edge + before).tolist() for edge, (before, _) in zip(edges, margins, strict=True))
    share = area_average(padded, edges_y, edges_x)[0, :, :, 0].numpy()
    return share >= LESION_SHARE - 1e-6


def _scale(mask: Path, shape_yx: tuple[int, ...], slide: Path) -> int:
    """Return k from the sizes of the mask and of the slide.

    Raises:
        SlideError: no k fits both sides.
    """
    if not slide.is_file():
        raise SlideError(
            f"{mask}: the slide {slide} is not there to tell the mask's scale: give level-0 pixels per mask pixel with --mask_px"
        )
    with open_slide(slide) as reader:
        width, height = reader.level_sizes_xy_px[0]
    k = max(1, round(max(height, width) / max(shape_yx)))  # the longer side tells it best
    if any(abs(side / k - pixels) >= 1 for side, pixels in zip((height, width), shape_yx, strict=True)):
        raise SlideError(
            f"{mask}: {shape_yx[1]} x {shape_yx[0]} pixels, the slide has {width} x {height} at level 0; expected the slide's "
            "size over one whole number on both sides: write the mask anew, or give level-0 pixels per mask pixel with --mask_px"
        )
    return k
