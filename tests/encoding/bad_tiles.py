"""A pyramid that is all tissue, or less, and what takes tiles away from it."""

from pathlib import Path

import numpy as np
import tifffile
from encoding.painted import GLASS, paint, quarter_colours, write_tiff

ROWS, COLUMNS = 6, 8
LEVELS = (4, 2, 1)  # enlargement of what is painted: patches of 128, 64 and 32 px in tiles of 64 px


def write_pyramid(path: Path, tissue: tuple[slice, slice] = np.s_[:, :]) -> Path:
    """Write three levels that hold the same; tissue on some patches, glass on the others."""
    painted = paint(quarter_colours(ROWS, COLUMNS))
    shown = np.zeros((ROWS, COLUMNS), dtype=bool)
    shown[tissue] = True
    picture = np.where(shown.repeat(32, 0).repeat(32, 1)[..., None], painted, np.uint8(GLASS))
    return write_tiff(path, [picture.repeat(n, axis=0).repeat(n, axis=1) for n in LEVELS], mpp=0.5)


def spoil(path: Path, level: int, patch_yx: tuple[int, int]) -> None:
    """Make the tile with a patch's upper left corner unreadable."""
    row, column = (32 * LEVELS[level] * side // 64 for side in patch_yx)
    spoil_tile(path, level, row * (COLUMNS * 32 * LEVELS[level] // 64) + column)


def spoil_tile(path: Path, level: int, tile: int) -> None:
    with tifffile.TiffFile(path) as file:
        page = file.pages[level].aspage()
        offset, count = page.dataoffsets[tile], page.databytecounts[tile]
    with open(path, "r+b") as content:
        content.seek(offset)
        content.write(bytes(count))


def take_out(path: Path, level: int, tiles: list[int]) -> None:
    """Let the file say that it does not hold these tiles."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[level].aspage()
        for name in ("TileOffsets", "TileByteCounts"):
            tag = page.tags[name]
            values = [0 if number in tiles else value for number, value in enumerate(tag.value)]
            tag.overwrite(values)
