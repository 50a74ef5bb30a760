"""What a grid of patches covers, as a picture of the slide."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..common.apart import Apart
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


class BoxReader:
    """Reads the boxes of slide files one after the other, in a process that may die; it begins with the first, and serves all."""

    def __init__(self) -> None:
        self._apart: Apart[_Box, NDArray[np.uint8] | None] = Apart(_read_file)

    def read(self, path: Path, grid: PatchGrid, side_px: int) -> NDArray[np.uint8] | None:
        """Read the box of a slide file, see :func:`read_box`; None where it is not there, too large, or cannot be read."""
        if not path.is_file():
            return None
        try:
            return self._apart.run(path, _Box(path, grid, side_px))
        except SlideError as error:  # its thumbnail still shows what was classified
            _LOGGER.debug("%s", error)
            return None

    def close(self) -> None:
        """End the process."""
        self._apart.end()


class _Box(NamedTuple):
    path: Path
    grid: PatchGrid
    side_px: int


def _read_file(box: _Box) -> NDArray[np.uint8] | None:
    with open_slide(box.path) as reader:
        return read_box(reader, box.grid, box.side_px)
