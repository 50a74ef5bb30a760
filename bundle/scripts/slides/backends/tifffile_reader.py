"""Slides read by tifffile and imagecodecs: OME-TIFF, and every tiled RGB TIFF that cuCIM and OpenSlide may not or do not read."""

import logging
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from ...common.errors import SlideError
from ..reader import WHITE, Decoded, SlideReader
from ..tiff_levels import TiffLevel
from ..tiff_slide import TiffSlide
from .openslide_reader import on_white
from .strict_decoding import decode_tile

BATCH = 32
BATCH_PX = 2**24
"""Pixels decoded before they are handed on; with large tiles a batch holds fewer regions."""

_DAMAGED = (tifffile.TiffFileError, ValueError, RuntimeError, OSError, IndexError, KeyError, struct.error)
_MALFORMED = (TypeError, ZeroDivisionError)  # what tags of a wrong type or value lead to
_LOGGER = logging.getLogger(__name__)


class TifffileReader(SlideReader):
    """Decodes only the tiles that are asked for, by tifffile and imagecodecs, in threads.

    Args:
        path: slide file.
        tiff: its levels and resolution.
        num_workers: threads that decode.

    Raises:
        SlideError: The file is no TIFF whose directories tell where the pixels lie, or its compression is not installed.
    """

    backend = "tifffile"
    blank = WHITE
    """What a tile holds that the file does not."""

    def __init__(self, path: Path, tiff: TiffSlide | None, *, num_workers: int = 0) -> None:
        if tiff is None or tiff.tiles is None:
            raise SlideError("no TIFF whose directories tell where the pixels lie")
        content = open(path, "rb")  # noqa: SIM115 (closed with the reader)
        try:
            file = tifffile.TiffFile(content)
            levels = [
                _Level(level, file, tiff.tiles.colour(number), self.blank) for number, level in enumerate(tiff.levels)
            ]
        except SlideError:
            content.close()
            raise
        except (*_DAMAGED, *_MALFORMED) as error:
            content.close()
            raise SlideError(f"not opened ({error})") from error
        super().__init__(
            path,
            level_sizes_xy_px=tuple((level.width, level.height) for level in tiff.levels),
            mpp_xy=tiff.mpp_xy,
            tile_sizes_xy_px=tuple(level.tile_xy_px for level in tiff.levels),
        )
        self._levels = levels
        self._tiles = tiff.tiles
        self.lost_tiles = tiff.tiles.lost
        self._content = content
        self._pool = ThreadPoolExecutor(max(1, num_workers), thread_name_prefix="tifffile")

    def _decode(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> Iterator[Decoded]:
        size = np.array(size_xy_px)
        chosen = self._levels[level]
        count = max(1, min(BATCH, BATCH_PX // int(size.prod())))
        for start in range(0, len(corners_xy), count):
            corners = corners_xy[start : start + count]
            first = corners // chosen.tile_xy
            stop = -(-np.minimum(corners + size, (chosen.width, chosen.height)) // chosen.tile_xy)
            under = [
                [(row, column) for row in range(top, bottom) for column in range(left, right)]
                for (left, top), (right, bottom) in zip(first.tolist(), stop.tolist(), strict=True)
            ]
            wanted = sorted({tile for tiles in under for tile in tiles})  # each once, in the order of the file
            tiles = dict(zip(wanted, self._pool.map(lambda tile: self._tile(level, *tile), wanted), strict=True))
            pixels = np.empty((len(corners), size_xy_px[1], size_xy_px[0], 3), dtype=np.uint8)
            readable = np.ones(len(corners), dtype=bool)
            for index, (x, y) in enumerate(corners.tolist()):
                for row, column in under[index]:
                    tile = tiles[row, column]
                    if tile is None:
                        readable[index] = False
                    else:
                        _paste(tile, pixels[index], column * chosen.tile_width - x, row * chosen.tile_height - y)
            yield pixels, readable

    def _tile(self, level: int, row: int, column: int) -> NDArray[np.uint8] | None:
        """Decode a tile, (height, width, samples); None where that fails."""
        if not self._tiles.is_whole(row, column, level=level):
            return None
        try:
            return self._levels[level].tile(self._content.fileno(), row, column)
        except _DAMAGED as error:
            _LOGGER.debug("%s: tile at row %d, column %d: %s", self.path, row, column, error)
            return None

    def close(self) -> None:
        """Release the file."""
        self._pool.shutdown()
        self._content.close()


class _Level:
    """One level of a pyramid: a page of RGB pixels, or three pages or planes of one colour each.

    Args:
        level: its pages.
        file: where they lie.
        colour: what the first JPEG tile says of its colours.
        blank: value of a tile that the file does not hold.

    Raises:
        SlideError: It is of a compression that is not installed.
    """

    def __init__(self, level: TiffLevel, file: tifffile.TiffFile, colour: str | None, blank: int) -> None:
        pages = [_page_at(file, page.offset, page.number) for page in level.planes]
        try:
            tifffile.TIFF.DECOMPRESSORS[pages[0].compression]
        except KeyError as error:
            raise SlideError(
                f"its compression cannot be decoded ({error}): update imagecodecs, or convert it"
            ) from error
        if colour == "ycbcr":
            pages[0].photometric = tifffile.PHOTOMETRIC.YCBCR  # whatever the directory says: the decoder goes by it
        self.width, self.height = level.width, level.height
        self.tile_width, self.tile_height = level.tile_xy_px
        self.tile_xy = np.array(level.tile_xy_px)
        self._blank = blank
        rows, self._columns = level.page.grid_yx
        planes = level.page.samples if level.page.planar == 2 else len(pages)
        self._planes = [
            (pages[plane % len(pages)], rows * self._columns * (plane if len(pages) < planes else 0))
            for plane in range(planes)
        ]

    def tile(self, descriptor: int, row: int, column: int) -> NDArray[np.uint8]:
        """Read and decode one tile, (height, width, samples); blank where the file holds none."""
        number = row * self._columns + column
        planes = [_segment(descriptor, page, first + number) for page, first in self._planes]
        stored = [plane for plane in planes if plane is not None]
        if len(stored) < len(planes):
            return np.full((self.tile_height, self.tile_width, 3), self._blank, dtype=np.uint8)
        pixels = stored[0] if len(stored) == 1 else np.concatenate(stored, axis=-1)
        return on_white(pixels) if pixels.shape[-1] == 4 else pixels


def _page_at(file: tifffile.TiffFile, offset: int, number: int) -> Any:
    """Let tifffile read the directory at ``offset``."""
    file.filehandle.seek(offset)
    return tifffile.TiffPage(file, index=number)


def _segment(descriptor: int, page: Any, index: int) -> NDArray[np.uint8] | None:
    """Read and decode one tile of a page, (height, width, samples); None where nothing is stored.

    ``pread`` because threads share the file: tifffile's own handle has one position for all.
    """
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not count:
        return None
    content = os.pread(descriptor, count, offset)
    if len(content) != count:
        raise ValueError(f"{count} bytes expected at {offset}, the file has {len(content)}")
    return decode_tile(page.keyframe, content, index)


def _paste(tile: NDArray[np.uint8], target: NDArray[np.uint8], left: int, top: int) -> None:
    """Copy what a tile shares with a region; its corner lies at ``left``, ``top`` of the region."""
    source = tile[max(0, -top) :, max(0, -left) :]
    shared = target[max(0, top) :, max(0, left) :][: source.shape[0], : source.shape[1]]
    shared[:] = source[: shared.shape[0], : shared.shape[1]]
