"""Lesion masks in tiles, read by tifffile: one number per pixel, which no colour conversion touches."""

import numpy as np
from numpy.typing import NDArray

from .tifffile_reader import TifffileReader


class MaskReader(TifffileReader):
    """Reads a file that :func:`..tiff_slide.examine_mask` takes; a tile that it does not hold is without lesion."""

    blank = 0
    remedy = "compare it with its source, or write the mask anew"

    def values(self, level: int, low_xy: tuple[int, int], high_xy: tuple[int, int]) -> NDArray[np.uint8]:
        """Read the numbers (height, width) of a box inside ``level``, in its pixels.

        Raises:
            SlideError: A tile cannot be decoded.
        """
        size_xy_px = high_xy[0] - low_xy[0], high_xy[1] - low_xy[1]
        pixels = self._read_level(np.array([low_xy]), size_xy_px=size_xy_px, level=level)
        return pixels[0, :, :, 0]  # the reader repeats the one channel as R, G and B
