"""The pixels of a lesion mask, box by box, at the pyramid level nearest to the cells that they are counted in.

A tiled TIFF of one 8-bit channel goes through the slide reader and may have any size. Other masks are small pictures, read whole;
one in colours has to be grey, as nobody says which colour is lesion.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import SlideError
from .reader import whole_factor
from .tiff_slide import examine_mask

CELL_PX = 8
"""Pixels along a cell, at least, where the mask has a level that fine: a share of its area is then known to some 1 / 16."""

_TRANSPARENCY = frozenset({"A", "a", "X"})
"""What Pillow calls a last band that is no colour."""

Corner = tuple[int, int]


@dataclass(frozen=True)
class MaskPixels:
    """An open mask.

    Attributes:
        level_sizes_xy_px: Width and height of every level, finest first; a picture has one.
        values: Reads the box from corner to corner of a level, (height, width).
    """

    level_sizes_xy_px: tuple[tuple[int, int], ...]
    values: Callable[[int, Corner, Corner], NDArray[Any]]

    def level_for(self, cell_px: float) -> tuple[int, float]:
        """Return the coarsest level that has `CELL_PX` pixels along a cell, or level 0.

        Args:
            cell_px: side of a cell in pixels of level 0.

        Returns:
            the level, and the side of its pixels in pixels of level 0.
        """
        largest = self.level_sizes_xy_px[0]
        factors = [whole_factor(largest, size) or max(largest) / max(size) for size in self.level_sizes_xy_px]
        level = max((level for level, factor in enumerate(factors) if cell_px / factor >= CELL_PX), default=0)
        return level, factors[level]


@contextmanager
def open_mask(path: Path) -> Iterator[MaskPixels]:
    """Open a mask until the block ends.

    Raises:
        SlideError: It cannot be read; values that are damaged say so when they are read.
    """
    with ExitStack() as stack:
        try:
            pixels = _opened(path, stack)
        except (SlideError, OSError, ValueError, Image.DecompressionBombError) as error:
            raise SlideError(
                f"{path}: not a readable mask ({error}); expected a PNG or TIFF of at most {Image.MAX_IMAGE_PIXELS} pixels, or a "
                "TIFF of any size in tiles of one 8-bit channel: compare it with its source, or write it so, or at a coarser "
                "whole scale of the slide"
            ) from error
        yield pixels


def _opened(path: Path, stack: ExitStack) -> MaskPixels:
    tiff = examine_mask(path)
    if tiff is not None:
        from .backends.mask_reader import MaskReader  # its libraries are imported where a mask needs them

        reader = MaskReader(path, tiff)
        stack.enter_context(reader)
        return MaskPixels(reader.level_sizes_xy_px, reader.values)
    with Image.open(path) as image:
        pixels, bands = np.atleast_3d(np.asarray(image)), image.getbands()
    colours = len(bands) - (bands[-1] in _TRANSPARENCY)
    return MaskPixels(((pixels.shape[1], pixels.shape[0]),), partial(_values_of_picture, path, pixels[..., :colours]))


def _values_of_picture(path: Path, pixels: NDArray[Any], level: int, low: Corner, high: Corner) -> NDArray[Any]:
    box = pixels[low[1] : high[1], low[0] : high[0]]
    first: NDArray[Any] = box[..., 0]
    if (box != first[..., None]).any():
        raise SlideError(
            f"{path}: a mask in colours, expected one number per pixel, as nobody says which colour is lesion: save it as one "
            "channel, with 0 where there is no lesion"
        )
    return first
