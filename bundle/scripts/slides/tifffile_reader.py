"""Slides read by tifffile: OME-TIFF and other tiled RGB TIFF that neither cuCIM nor OpenSlide takes."""

import logging
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from ..common.errors import SlideError
from .geometry import MPP_RANGE
from .reader import WHITE, Decoded, SlideReader
from .tiff_vendors import require_directories_that_tell

BATCH = 32
BATCH_PX = 2**24
"""Pixels decoded before they are handed on; with large tiles a batch holds fewer regions."""

UM_PER_UNIT = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}
"""Micrometres in the units of OME's PhysicalSizeXUnit (the micro sign, or the Greek letter); its default is the micrometre."""

UM_PER_RESOLUTION_UNIT = {2: 25400.0, 3: 1e4}  # TIFF: inch, centimetre
JPEG, END_OF_IMAGE = 7, b"\xff\xd9"
_DAMAGED = (tifffile.TiffFileError, ValueError, RuntimeError, OSError, IndexError, KeyError, struct.error)
_MALFORMED = (TypeError, ZeroDivisionError, ElementTree.ParseError)  # what tags of a wrong type or value lead to
_LOGGER = logging.getLogger(__name__)


class TifffileReader(SlideReader):
    """Decodes only the tiles that are asked for, by tifffile and imagecodecs, in threads.

    Args:
        path: Slide file; its first series is the slide, with that series' pyramid.
        num_workers: Threads that decode.

    Raises:
        SlideError: The file is no TIFF, its first series is not a tiled 8-bit RGB image in this file, or its directories do not tell
            where the pixels lie.
    """

    backend = "tifffile"

    def __init__(self, path: Path, *, num_workers: int = 0) -> None:
        content = open(path, "rb")  # noqa: SIM115 (closed with the reader)
        try:
            file = tifffile.TiffFile(content)
            require_directories_that_tell(file)
            series = file.series[0]
            levels = [_Level(level, file) for level in series.levels]
            super().__init__(
                path,
                level_sizes_xy_px=tuple((level.width, level.height) for level in levels),
                mpp_xy=_ome_mpp_xy(file.ome_metadata) or _tag_mpp_xy(series.keyframe),
                tile_sizes_xy_px=tuple((level.tile_width, level.tile_height) for level in levels),
            )
        except SlideError:
            content.close()
            raise
        except (*_DAMAGED, *_MALFORMED) as error:
            content.close()
            raise SlideError(f"not opened ({error})") from error
        self._levels = levels
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
            tiles = dict(zip(wanted, self._pool.map(lambda tile: self._tile(chosen, *tile), wanted), strict=True))
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

    def _tile(self, level: "_Level", row: int, column: int) -> NDArray[np.uint8] | None:
        """Decode a tile, (height, width, 3); None where that fails."""
        try:
            return level.tile(self._content.fileno(), row, column)
        except _DAMAGED as error:
            _LOGGER.debug("%s: tile at row %d, column %d: %s", self.path, row, column, error)
            return None

    def close(self) -> None:
        """Release the file."""
        self._pool.shutdown()
        self._content.close()


def is_ome_tiff(path: Path) -> bool:
    """Whether a file is a TIFF whose description is OME's metadata."""
    try:
        with open(path, "rb") as content, tifffile.TiffFile(content) as file:
            return bool(file.is_ome)
    except (*_DAMAGED, *_MALFORMED):
        return False


class _Level:
    """One level of a pyramid: a page of RGB pixels, or three pages or planes of one colour each.

    Args:
        series: The level, as tifffile groups the pages of a file.
        file: Where its pages must lie; OME lets them lie in others too.

    Raises:
        SlideError: It is not such a level, or of a compression that is not installed.
    """

    def __init__(self, series: tifffile.TiffPageSeries, file: tifffile.TiffFile) -> None:
        axes = series.axes.replace("C", "S") if "S" not in series.axes else series.axes
        if series.dtype != np.uint8 or axes not in ("YXS", "SYX") or series.shape[axes.index("S")] != 3:
            sides = " x ".join(f"{axis} {side}" for axis, side in zip(series.axes, series.shape, strict=True))
            raise SlideError(f"an image of {series.dtype}, {sides}, expected 8-bit RGB in one plane: convert it")
        keyframe = series.keyframe
        if not keyframe.is_tiled:
            raise SlideError(
                "not tiled, so that reading a patch would decode the whole image: convert it to a tiled TIFF"
            )
        pages: list[Any] = list(series.pages)
        if any(page is None or page.parent is not file for page in pages):
            raise SlideError("its planes lie in several files, expected one file: convert it")
        try:
            tifffile.TIFF.DECOMPRESSORS[keyframe.compression]
        except KeyError as error:
            raise SlideError(
                f"its compression cannot be decoded ({error}): update imagecodecs, or convert it"
            ) from error
        self.width, self.height = keyframe.imagewidth, keyframe.imagelength
        self.tile_width, self.tile_height = keyframe.tilewidth, keyframe.tilelength
        self.tile_xy = np.array((self.tile_width, self.tile_height))
        self._columns = -(-self.width // self.tile_width)
        tiles = self._columns * -(-self.height // self.tile_height)
        planes = 1 if axes == "YXS" else 3
        self._planes = [
            (pages[plane % len(pages)], tiles * (plane if len(pages) < planes else 0)) for plane in range(planes)
        ]

    def tile(self, descriptor: int, row: int, column: int) -> NDArray[np.uint8]:
        """Read and decode one tile, (height, width, 3); white where the file holds none."""
        number = row * self._columns + column
        planes = [_segment(descriptor, page, first + number) for page, first in self._planes]
        stored = [plane[0] for plane in planes if plane is not None]
        if len(stored) < len(planes):
            return np.full((self.tile_height, self.tile_width, 3), WHITE, dtype=np.uint8)
        return stored[0] if len(stored) == 1 else np.concatenate(stored, axis=-1)


def _segment(descriptor: int, page: Any, index: int) -> NDArray[np.uint8] | None:
    """Read and decode one tile of a page, (1, height, width, samples); None where nothing is stored.

    ``pread`` because threads share the file: tifffile's own handle has one position for all.
    """
    offset, count = page.dataoffsets[index], page.databytecounts[index]
    if not count:
        return None
    content = os.pread(descriptor, count, offset)
    if len(content) != count:
        raise ValueError(f"{count} bytes expected at {offset}, the file has {len(content)}")
    keyframe = page.keyframe
    if int(keyframe.compression) == JPEG and END_OF_IMAGE not in content[-16:]:
        raise ValueError(f"the JPEG tile at {offset} has no end")  # the decoder would make something up
    decoded, _, _ = keyframe.decode(content, index, jpegtables=keyframe.jpegtables)
    return decoded


def _paste(tile: NDArray[np.uint8], target: NDArray[np.uint8], left: int, top: int) -> None:
    """Copy what a tile shares with a region; its corner lies at ``left``, ``top`` of the region."""
    source = tile[max(0, -top) :, max(0, -left) :]
    shared = target[max(0, top) :, max(0, left) :][: source.shape[0], : source.shape[1]]
    shared[:] = source[: shared.shape[0], : shared.shape[1]]


def _ome_mpp_xy(description: str | None) -> tuple[float, float] | None:
    """Return PhysicalSizeX and PhysicalSizeY of the first image, in micrometres."""
    if not description:
        return None
    for element in ElementTree.fromstring(description).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            try:
                x, y = (
                    float(element.attrib[f"PhysicalSize{axis}"])
                    * UM_PER_UNIT[element.get(f"PhysicalSize{axis}Unit", "µm")]
                    for axis in "XY"
                )
            except (KeyError, ValueError):
                return None
            return x, y
    return None


def _tag_mpp_xy(page: Any) -> tuple[float, float] | None:
    """Return the resolution that the TIFF tags state; None without a unit, and for a screen's, such as 72 dots an inch."""
    tags = {
        name: page.tags[name].value for name in ("XResolution", "YResolution", "ResolutionUnit") if name in page.tags
    }
    um = UM_PER_RESOLUTION_UNIT.get(int(tags.get("ResolutionUnit", 1)))
    if um is None or len(tags) < 3:
        return None
    (x, per_x), (y, per_y) = tags["XResolution"], tags["YResolution"]
    if not x or not y:
        return None
    mpp_xy = um * per_x / x, um * per_y / y
    return mpp_xy if all(MPP_RANGE[0] <= mpp <= MPP_RANGE[1] for mpp in mpp_xy) else None
