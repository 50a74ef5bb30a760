"""A slide held in memory, and pictures to put on it."""

from pathlib import Path

import numpy as np

from scripts.slides.reader import SlideReader

CELL_PX = 32


class ArraySlide(SlideReader):
    """Levels given as arrays, finest first; remembers the levels read."""

    backend = "array"

    def __init__(self, levels):
        sizes = tuple((level.shape[1], level.shape[0]) for level in levels)
        super().__init__(Path("array.tif"), level_sizes_xy_px=sizes, mpp_xy=(2.0, 2.0))
        self.levels = levels
        self.levels_read = []

    def _decode(self, corners_xy, *, size_xy_px, level):
        self.levels_read.append(level)
        width, height = size_xy_px
        pixels = np.pad(self.levels[level], ((height, height), (width, width), (0, 0)), constant_values=255)
        yield (
            np.stack([pixels[y + height : y + 2 * height, x + width : x + 2 * width] for x, y in corners_xy]),
            np.ones(len(corners_xy), bool),
        )

    def close(self):
        pass


def draw(kinds, *, seed=0, glass=243.0):
    """Draw a picture of (rows, cols) letters: T tissue, I blue pen, G glass, K black; CELL_PX a cell."""
    generator = np.random.default_rng(seed)
    rows, cols = len(kinds), len(kinds[0])
    pixels = np.zeros((rows * CELL_PX, cols * CELL_PX, 3))
    for row, line in enumerate(kinds):
        for col, kind in enumerate(line):
            cell = pixels[row * CELL_PX : (row + 1) * CELL_PX, col * CELL_PX : (col + 1) * CELL_PX]
            noise = generator.normal(0, 1, (CELL_PX, CELL_PX, 1))
            if kind == "T":
                cell[:] = np.array([190, 120, 170]) + 30 * noise
            elif kind == "I":
                cell[:] = np.array([20, 60, 150]) + np.where(generator.random((CELL_PX, CELL_PX, 1)) < 0.12, 25, 0)
            elif kind == "K":
                cell[:] = 3
            else:
                cell[:] = glass + noise
    return np.clip(pixels, 0, 255).astype(np.uint8)
