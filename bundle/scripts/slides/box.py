"""What a grid of patches covers, as a picture of the slide."""

import logging
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.apart import run_apart
from ..common.errors import SlideError
from .geometry import PatchGrid
from .opening import open_slide
from .reader import SlideReader

MOST_READ_PX = 24_000_000
"""Pixels that are read of a slide for its picture: one without a pyramid is shown by its thumbnail instead."""

LEVEL_SLACK = 1.05  # a level may be so much coarser than asked for

_LOGGER = logging.getLogger(__name__)


def read_box(reader: SlideReader, grid: PatchGrid, side_px: int) -> NDArray[np.uint8] | None:
    """Read what a grid covers from the coarsest level on which its longer side has ``side_px``, else from the finest.

    Returns:
        RGB, (height, width, 3), as large as the level has it; None where that is more than ``MOST_READ_PX``.

    Raises:
        SlideError: The pixels cannot be decoded.
    """
    height, width = (cells * grid.patch_px_level0 for cells in grid.shape_yx)
    enough = max(1.0, max(height, width) / side_px)
    fine = [level for level, downsample in enumerate(reader.level_downsamples) if downsample <= LEVEL_SLACK * enough]
    level = max(fine, default=0)
    size = tuple(max(1, round(side / reader.level_downsamples[level])) for side in (width, height))
    if size[0] * size[1] > MOST_READ_PX:
        return None
    return reader.read_patches(np.array([grid.origin_xy_px]), size_xy_px=(size[0], size[1]), level=level)[0]


def box_of_slide(path: Path, grid: PatchGrid, side_px: int) -> NDArray[np.uint8] | None:
    """Read the box of a slide file, in a process that may die; None where it is not there, too large, or cannot be read."""
    if not path.is_file():
        return None
    try:
        return run_apart(partial(_read_file, grid, side_px), path, path)
    except SlideError as error:  # its thumbnail still shows what was classified
        _LOGGER.debug("%s", error)
        return None


def _read_file(grid: PatchGrid, side_px: int, path: Path) -> NDArray[np.uint8] | None:
    with open_slide(path) as reader:
        return read_box(reader, grid, side_px)
