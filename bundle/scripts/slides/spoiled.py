"""Patches that one level has and another lacks.

A bad tile of a low level covers hundreds of patches, and the finer levels hold the same pixels: they are read again from there.
What is tissue on a low level cannot be bare on a finer one: there, the file lacks tiles.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from .geometry import PatchGrid
from .reader import SlideReader
from .sweep import WHITE

BATCH = 64  # patches read at once: 12.6 MB at 256 px
GLANCE_PX = 16  # step of the pixels that a first look takes


def spoiled_cells(reader: SlideReader, grid: PatchGrid, level: int) -> NDArray[np.int32]:
    """Rows and columns (n, 2) of the patches of a grid that lie on a tile of ``level`` found undecodable so far."""
    cells = np.indices(grid.shape_yx, dtype=np.int32).reshape(2, -1).T
    return cells[
        reader.unreadable(grid.coords_xy_px(cells), size_xy_px=(_side_px(reader, grid, level),) * 2, level=level)
    ]


def read_again(
    reader: SlideReader, grid: PatchGrid, level: int
) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.uint8]]]:
    """Read the :func:`spoiled_cells` of a level again, each from the coarsest finer level on which it can be decoded.

    Yields:
        The level, rows and columns (n, 2), RGB (n, side, side, 3). What no level holds is not among them.

    Raises:
        SlideError: The slide is read with ``unreadable_tiles`` "fail", and a finer tile cannot be decoded either.
    """
    left = spoiled_cells(reader, grid, level)
    for finer in range(level - 1, -1, -1):
        size = (_side_px(reader, grid, finer),) * 2
        still_left = []
        for start in range(0, len(left), BATCH):
            cells = left[start : start + BATCH]
            coords_xy_px = grid.coords_xy_px(cells)
            patches = reader.read_patches(coords_xy_px, size_xy_px=size, level=finer)
            spoiled = reader.unreadable(coords_xy_px, size_xy_px=size, level=finer)
            still_left.append(cells[spoiled])
            if not spoiled.all():
                yield finer, cells[~spoiled], patches[~spoiled]
        left = np.concatenate(still_left) if still_left else left


def recorded(
    reader: SlideReader, coords_xy_px: NDArray[np.int64], patches: NDArray[np.uint8], level: int
) -> NDArray[np.bool_]:
    """Tell which patches of tissue (N, h, w, 3) the level holds: what is not in the file is white from corner to corner.

    Args:
        reader: the slide.
        coords_xy_px: top-left corners in level-0 pixels, (N, 2).
        patches: what was read there.
        level: from where.

    Raises:
        SlideError: The slide is read with ``unreadable_tiles`` "fail", and one is white.
    """
    blank = (patches[:, ::GLANCE_PX, ::GLANCE_PX] == WHITE).all(axis=(1, 2, 3))
    if blank.any():
        blank[blank] = (patches[blank] == WHITE).all(axis=(1, 2, 3))
    if blank.any() and reader.unreadable_tiles == "fail":
        x, y = coords_xy_px[blank.argmax()].tolist()
        raise SlideError(
            f"{reader.path}: level {level} holds nothing at x {x}, y {y} of level 0, where a coarser level shows tissue, "
            "expected a whole file: compare it with its source, or leave out the patches there with --reading#unreadable_tiles mask"
        )
    return ~blank


def _side_px(reader: SlideReader, grid: PatchGrid, level: int) -> int:
    return max(1, round(grid.patch_px_level0 / reader.level_downsamples[level]))
