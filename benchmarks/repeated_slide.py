"""Slides of any size: a tiled JPEG pyramid that repeats some encoded tiles of generated tissue inside a disc on glass.

    python benchmarks/repeated_slide.py slide.tif --side 31744

Memory stays constant, for every tile is written as it was encoded once. All levels show the same tissue: at each, the repeated
picture is half of the one before.
"""

import argparse
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.slides.synthetic import scan
from scripts.slides.synthetic_tissue import draw_layout, render_stains

TILE_PX = 256
MPP = 0.25
QUALITY = 85
GLASS = 243
MOTIF_PX = 4096  # side of the picture that is repeated
TISSUE_SHARE = 0.5
SIDES_PX = {"1e8": 9984, "1e9": 31744, "1e10": 99840}  # of squares of about so many pixels


@lru_cache
def motif(seed: int = 0) -> NDArray[np.uint8]:
    """Paint a square of tissue without glass, (MOTIF_PX, MOTIF_PX, 3)."""
    rng = np.random.default_rng(seed)
    layout = draw_layout(rng, cells=16, lesion_share=0.0)
    haematoxylin, eosin = render_stains(rng, layout, mpp=MPP, bank_seed=seed)
    picture = scan(rng, haematoxylin, eosin, ink=None)
    cells = np.argwhere(layout.tissue_cells)
    cell_px = picture.shape[0] // layout.tissue_cells.shape[0]
    chosen = cells[rng.integers(len(cells), size=(MOTIF_PX // cell_px) ** 2)]
    canvas = np.empty((MOTIF_PX, MOTIF_PX, 3), dtype=np.uint8)
    for number, (row, column) in enumerate(chosen):
        y, x = (cell_px * part for part in divmod(number, MOTIF_PX // cell_px))
        source = picture[row * cell_px : (row + 1) * cell_px, column * cell_px : (column + 1) * cell_px]
        canvas[y : y + cell_px, x : x + cell_px] = source
    return canvas


def write_repeated_slide(path: Path, *, side_px: int, tissue_share: float = TISSUE_SHARE, flat: bool = False) -> Path:
    """Write a square slide of ``side_px``, a multiple of the tile; ``flat`` leaves out all levels but the first."""
    picture = motif()
    glass = imagecodecs.jpeg_encode(np.full((TILE_PX, TILE_PX, 3), GLASS, dtype=np.uint8), level=QUALITY)
    radius = (tissue_share / np.pi) ** 0.5
    path.parent.mkdir(parents=True, exist_ok=True)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        side, level = side_px, 0
        while True:
            count = len(picture) // TILE_PX
            tiles = picture.reshape(count, TILE_PX, count, TILE_PX, 3).swapaxes(1, 2)
            encoded = [[imagecodecs.jpeg_encode(np.ascontiguousarray(t), level=QUALITY) for t in row] for row in tiles]

            def content(side: int = side, count: int = count, encoded: list[list[bytes]] = encoded) -> Iterator[bytes]:
                across = -(-side // TILE_PX)
                centre = (np.arange(across) + 0.5) * TILE_PX / side - 0.5
                inside = centre[:, None] ** 2 + centre**2 < radius**2
                for row in range(across):
                    for column in range(across):
                        yield encoded[row % count][column % count] if inside[row, column] else glass

            file.write(
                content(),
                shape=(side, side, 3),
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="jpeg",
                subfiletype=int(level > 0),
                resolution=(1e4 / (MPP * 2**level),) * 2,
                resolutionunit="CENTIMETER",
            )
            if flat or side <= 2 * TILE_PX:
                return path
            side, level = side // 2, level + 1
            half = picture.reshape(len(picture) // 2, 2, len(picture) // 2, 2, 3).mean(axis=(1, 3))
            picture = np.rint(half).astype(np.uint8)
            if len(picture) < TILE_PX:
                picture = np.tile(picture, (TILE_PX // len(picture),) * 2 + (1,))


def main() -> None:
    """Write one slide."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--side", type=int, required=True, help=f"pixels, a multiple of {TILE_PX}")
    parser.add_argument("--flat", action="store_true", help="level 0 alone")
    arguments = parser.parse_args()
    write_repeated_slide(arguments.path, side_px=arguments.side, flat=arguments.flat)


if __name__ == "__main__":
    main()
