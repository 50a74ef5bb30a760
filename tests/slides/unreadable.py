"""Which tiles of a slide could not be decoded, for tests."""

import numpy as np

from scripts.slides.reader import SlideReader


def unreadable_tiles(reader: SlideReader, *, level: int = 0) -> list[list[int]]:
    """Column and row of a level's tiles that were found undecodable so far, row by row."""
    columns, rows = -(-np.array(reader.level_sizes_xy_px[level]) // reader.tile_sizes_xy_px[level])
    tiles = np.array([(column, row) for row in range(rows) for column in range(columns)])
    corners_xy_px = tiles * reader.tile_sizes_xy_px[level] * reader.level_downsamples[level]
    return tiles[reader.unreadable(corners_xy_px, size_xy_px=(1, 1), level=level)].tolist()
