"""A look at the tiles of a TIFF before cuCIM decodes them: on some damage it ends the whole process instead of raising.

It does so where a tile lies past the end of the file, where the header of a JPEG 2000 tile is broken, and on any damage to a
deflate tile. The last could only be found by inflating every tile, so that such files are left to the other readers.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..common.errors import SlideError
from .tiff_vendors import require_directories_that_tell

JPEG2000 = frozenset({33003, 33004, 33005, 34712})
"""TIFF's codes of the compression: Aperio's three, and JPEG 2000."""

DEFLATE = frozenset({8, 32946})

_START_OF_CODESTREAM, _START_OF_TILE_PART, _END_OF_CODESTREAM = 0xFF4F, 0xFF90, 0xFFD9
_TILE_PART_BYTES = 10  # length of the segment that begins a tile part


@dataclass(frozen=True)
class _Level:
    offsets: NDArray[np.int64]  # (rows, columns)
    counts: NDArray[np.int64]
    in_file: NDArray[np.bool_]
    tile_xy_px: NDArray[np.int64]
    jpeg2000: bool


class TileTable:
    """Where the tiles of a TIFF's levels lie in the file.

    Args:
        path: the file.
        level_sizes_xy_px: its levels; their directories are found by size, which a vendor may have padded to whole tiles, and a level
            without one is not checked.

    Raises:
        SlideError: the directories cannot be read or do not tell where the pixels lie, or a level is compressed by deflate.
    """

    def __init__(self, path: Path, level_sizes_xy_px: tuple[tuple[int, int], ...]) -> None:
        self._path = path
        self._levels: dict[int, _Level] = {}
        size_bytes = path.stat().st_size
        try:
            with open(path, "rb") as content, tifffile.TiffFile(content) as file:
                require_directories_that_tell(file)
                pages = [page.aspage() for page in file.pages if page.is_tiled]  # type: ignore[union-attr]
                for page in pages:
                    tile = np.array((page.tilewidth, page.tilelength))
                    shape = -(-page.imagelength // page.tilelength), -(-page.imagewidth // page.tilewidth)
                    number = _level_of((page.imagewidth, page.imagelength), tile, level_sizes_xy_px)
                    if number is None or len(page.dataoffsets) != shape[0] * shape[1]:
                        continue
                    offsets = np.array(page.dataoffsets, dtype=np.int64).reshape(shape)
                    counts = np.array(page.databytecounts, dtype=np.int64).reshape(shape)
                    in_file = offsets + counts <= size_bytes
                    level = _Level(offsets, counts, in_file, tile, int(page.compression) in JPEG2000)
                    self._levels.setdefault(number, level)
                    if int(page.compression) in DEFLATE:
                        raise SlideError("compressed by deflate: a damaged tile would end the process")
        except (tifffile.TiffFileError, OSError, ValueError, IndexError) as error:
            raise SlideError(f"its TIFF directories cannot be read ({error})") from error

    def whole(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> NDArray[np.bool_]:
        """Tell which regions (M,) of a level lie on tiles alone that may be decoded."""
        result = np.ones(len(corners_xy), dtype=bool)
        found = self._levels.get(level)
        if found is None or (found.in_file.all() and not found.jpeg2000):
            return result
        rows, columns = found.in_file.shape
        first = corners_xy // found.tile_xy_px
        last = np.minimum((corners_xy + np.array(size_xy_px) - 1) // found.tile_xy_px, (columns - 1, rows - 1)) + 1
        with open(self._path, "rb") as file:
            for index, ((left, top), (right, bottom)) in enumerate(zip(first.tolist(), last.tolist(), strict=True)):
                under = np.s_[top:bottom, left:right]
                result[index] = found.in_file[under].all()
                if found.jpeg2000 and result[index]:
                    for offset, count in zip(
                        found.offsets[under].ravel().tolist(), found.counts[under].ravel().tolist(), strict=True
                    ):
                        file.seek(offset)
                        result[index] &= is_whole_codestream(file.read(count))
        return result


def _level_of(
    size_xy_px: tuple[int, int], tile_xy_px: NDArray[np.int64], level_sizes_xy_px: tuple[tuple[int, int], ...]
) -> int | None:
    """Find the level of a directory: of the same size, else of the size that was padded to the directory's."""
    if size_xy_px in level_sizes_xy_px:
        return level_sizes_xy_px.index(size_xy_px)
    padded = -(-np.array(level_sizes_xy_px) // tile_xy_px) * tile_xy_px
    fitting = np.flatnonzero((padded == size_xy_px).all(axis=1))
    return int(fitting[0]) if len(fitting) == 1 else None


def is_whole_codestream(content: bytes) -> bool:
    """Whether marker segments lead from the start of a code stream to its first tile part, and the end is there."""

    def word(at: int) -> int:
        return int.from_bytes(content[at : at + 2], "big")

    if word(0) != _START_OF_CODESTREAM or content[-2:] != _END_OF_CODESTREAM.to_bytes(2, "big"):
        return False
    at = 2
    while word(at) != _START_OF_TILE_PART:
        length = word(at + 2)
        if content[at : at + 1] != b"\xff" or length < 2:
            return False
        at += 2 + length
    length_of_part = int.from_bytes(content[at + 6 : at + 10], "big")
    return word(at + 2) == _TILE_PART_BYTES and length_of_part <= len(content) - at
