"""Slides whose every patch is known: noise with the texture of tissue, dark (nucleus-rich) or pale."""

from pathlib import Path

import numpy as np
import tifffile

CELL_PX = 32  # a patch of 64 um at 2 um/px
MEANS = {"rich": 120, "pale": 200}


def write_plain_slide(path: Path, *, rich: int, pale: int, columns: int = 10) -> Path:
    """Write a lossless TIFF that holds so many patches of each kind, ``columns`` a row, and glass below them."""
    rng = np.random.default_rng(0)
    kinds = rng.permutation(["rich"] * rich + ["pale"] * pale)
    rows = len(kinds) // columns + 2
    image = np.full((rows * CELL_PX, columns * CELL_PX, 3), 243, dtype=np.uint8)
    for index, kind in enumerate(kinds):
        y, x = (place * CELL_PX for place in divmod(index, columns))
        grey = MEANS[kind] + rng.integers(-50, 50, (CELL_PX, CELL_PX, 1))
        image[y : y + CELL_PX, x : x + CELL_PX] = grey + rng.integers(-5, 5, (CELL_PX, CELL_PX, 3))
    tifffile.imwrite(
        path,
        image,
        photometric="rgb",
        tile=(64, 64),
        compression="zlib",
        resolution=(5000, 5000),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    return path
