"""What a strict reading of a damaged TIFF would notice, by decoders of other libraries; nothing of the bundle is used."""

import struct
from collections.abc import Container
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
from tiff_bytes import (
    BITS,
    COMPRESSION,
    COUNTS,
    JPEG_TABLES,
    LENGTH,
    OFFSETS,
    SAMPLES,
    TILE_LENGTH,
    TILE_WIDTH,
    WIDTH,
    Tiff,
)

JPEG, JPEG2000 = 7, (33003, 33004, 33005, 34712)
DECODERS = {
    5: imagecodecs.lzw_decode,
    8: imagecodecs.zlib_decode,
    32946: imagecodecs.zlib_decode,
    50000: imagecodecs.zstd_decode,
}


def complaint(
    path: Path, *, unread_width: int, read: Container[tuple[int, int]] | None = None, of_levels: bool = True
) -> str | None:
    """Why the file cannot be what its writer wrote; None where nothing in the file says so.

    Every directory must be readable; on its tiled pages the number of tiles must be that of the grid, each must lie in the file, state the
    size that the page states and decode without a warning to as many bytes as a tile has.

    Args:
        path: the file.
        unread_width: width of a level that nobody reads: what its tiles say cannot explain other vectors.
        read: column and row of the tiles of the first tiled page that are read, for the same reason; None: all.
        of_levels: whether what the tiles of the other pages say can explain it.
    """
    content = path.read_bytes()
    try:
        tiff = Tiff(content)
        pages = [{entry.tag: tiff.values(entry) for entry in directory.entries} for directory in tiff.directories]
    except (struct.error, KeyError, MemoryError, OverflowError) as error:
        return f"directories: {error}"
    tiled = [page for page in pages if OFFSETS in page]
    if not tiled:
        return "no tiled page"
    for number, page in enumerate(tiled):
        if page.get(WIDTH) == [unread_width]:
            continue
        try:
            found = _complaint_of_page(content, page, read if not number else None if of_levels else ())
        except (KeyError, IndexError, ValueError, OverflowError, MemoryError) as error:
            found = f"{type(error).__name__}: {error}"
        if found:
            return f"page {number}: {found}"
    return None


def _complaint_of_page(
    content: bytes, page: dict[int, list[int]], read: Container[tuple[int, int]] | None
) -> str | None:
    width, height, across, down = (page[tag][0] for tag in (WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH))
    if not 0 < across <= 4096 or not 0 < down <= 4096 or set(page[BITS]) != {8} or page.get(SAMPLES) != [3]:
        return "tiles, bits or samples"
    grid = -(-width // across) * -(-height // down)
    if not len(page[OFFSETS]) == len(page[COUNTS]) == grid:
        return f"{len(page[OFFSETS])} tiles on a grid of {grid}"
    tables = bytes(page.get(JPEG_TABLES, ()))
    for index, (offset, count) in enumerate(zip(page[OFFSETS], page[COUNTS], strict=True)):
        if read is not None and divmod(index, -(-width // across))[::-1] not in read:
            continue
        if not count or offset + count > len(content):
            return f"tile {index} lies outside the file"
        found = _complaint_of_tile(content[offset : offset + count], page[COMPRESSION][0], tables, (down, across))
        if found:
            return f"tile {index}: {found}"
    return None


def _complaint_of_tile(tile: bytes, compression: int, tables: bytes, shape: tuple[int, int]) -> str | None:
    wanted = (*shape, 3)
    try:
        if compression == JPEG:
            whole = tables[:-2] + tile[2:] if tables else tile
            got = simplejpeg.decode_jpeg(whole, strict=True).shape
        elif compression in JPEG2000:
            got = np.asarray(imagecodecs.jpeg2k_decode(tile)).shape
        elif compression == 1:
            return None if len(tile) == np.prod(wanted) else "bytes"
        else:
            return None if len(DECODERS[compression](tile)) == np.prod(wanted) else "bytes"
    except (ValueError, KeyError, RuntimeError, IndexError) as error:  # what the decoders raise
        return f"{type(error).__name__}: {error}"
    return None if got == wanted else f"{got} in a tile of {wanted}"
