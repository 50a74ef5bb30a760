"""Which tiles of a slide cannot be decoded, as far as is known."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Sizes = tuple[tuple[int, int], ...]


class DamagedTiles:
    """A map of the bad tiles of each level; no memory for levels without any.

    Args:
        level_sizes_xy_px: width and height of every level.
        tile_sizes_xy_px: of every level's tiles.
    """

    def __init__(self, level_sizes_xy_px: Sizes, tile_sizes_xy_px: Sizes) -> None:
        self._level_sizes, self._tile_sizes = level_sizes_xy_px, tile_sizes_xy_px
        self._bad: dict[int, NDArray[np.bool_]] = {}  # by level: (tile rows, tile columns)

    def add(self, level: int, column: int, row: int) -> None:
        """Note that a tile cannot be decoded."""
        width, height = self._level_sizes[level]
        tile_width, tile_height = self._tile_sizes[level]
        shape = -(-height // tile_height), -(-width // tile_width)
        self._bad.setdefault(level, np.zeros(shape, dtype=bool))[row, column] = True

    def has(self, level: int, column: int, row: int) -> bool:
        """Whether a tile is known not to be decodable."""
        return level in self._bad and bool(self._bad[level][row, column])

    def tiles_under(self, corner_xy: NDArray[np.int64], size_xy_px: tuple[int, int], level: int) -> Iterator[list[int]]:
        """Yield column and row of the tiles that a region inside a level touches, row by row."""
        stop = np.minimum(corner_xy + size_xy_px, self._level_sizes[level])
        first, last = corner_xy // self._tile_sizes[level], (stop - 1) // self._tile_sizes[level]
        for offset in np.ndindex(*(last - first + 1)[::-1].tolist()):
            yield (first + offset[::-1]).tolist()

    def under(self, corners_xy: NDArray[np.int64], size_xy_px: tuple[int, int], level: int) -> NDArray[np.bool_]:
        """Tell which regions (N,) at corners (N, 2), in pixels of the level, touch a bad tile."""
        if level not in self._bad:
            return np.zeros(len(corners_xy), dtype=bool)
        low = np.maximum(corners_xy, 0)
        high = np.minimum(corners_xy + size_xy_px, self._level_sizes[level])
        inside = (high > low).all(axis=1)[:, None]
        left, top = np.where(inside, low // self._tile_sizes[level], 0).T
        right, bottom = np.where(inside, (high - 1) // self._tile_sizes[level] + 1, 0).T
        # bad tiles above and left of each
        before = np.pad(self._bad[level].cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        return before[bottom, right] - before[top, right] - before[bottom, left] + before[top, left] > 0
