"""Pen ink by its colour: what no mixture of haematoxylin and eosin absorbs.

A stain adds its optical density to that of what lies under it (Beer-Lambert). Haematoxylin absorbs green most, then red, then
blue, in the proportion .70 : .65 : .29; eosin absorbs .99 : .07 : .11 (Ruifrok and Johnston 2001). So any mixture, however
thick, absorbs no more red than green, and little blue. Blue, green, cyan and black ink absorb more red; black, brown, red, orange
and yellow ink absorb more blue. Purple and pink ink absorb as the stains do, and are not found this way.
"""

import numpy as np
from numpy.typing import NDArray

INK_SHARE = 0.55
"""A patch with at least this share of pen-coloured pixels is ink: half, and the error of the share at the edge of a stroke."""

_FULL_SAMPLING_PX = 16
# In thousandths: whole numbers give one answer on every machine.
_DENSITY = np.rint(-1000 * np.log10((np.arange(256) + 1) / 256)).astype(np.int16)
_RED_OVER_GREEN = 100  # red - green: pale blue, green, cyan; 7 at most in the median of a real patch
_RED_OVER_HALF_GREEN = 250  # red - green / 2: the same where they are dense, over tissue too, and black; 109 at most
_BLUE_OVER_GREEN_3 = 330  # blue - 0.3 green: black, brown, red, orange, yellow; 250 at most


def pen_colour_scores(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the share of each patch (N, h, w, 3) that has the colour of pen, (N,).

    Of patches of 16 pixels per side and more, one pixel in four is looked at. docs/tissue.md says how the limits were found.
    """
    step = 2 if min(patches.shape[1:3]) >= _FULL_SAMPLING_PX else 1
    red, green, blue = (_DENSITY[patches[:, ::step, ::step, channel]] for channel in range(3))
    pen = red - green > _RED_OVER_GREEN
    pen |= 2 * red - green > 2 * _RED_OVER_HALF_GREEN
    pen |= 10 * blue - 3 * green > 10 * _BLUE_OVER_GREEN_3
    return pen.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
