"""Slides read by OpenSlide: NDPI, MRXS, SCN, DICOM and the rest that cuCIM does not take."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...common.errors import SlideError
from ..companions import passed_over
from ..reader import DEFAULT_TILE_XY_PX, WHITE, Decoded, SlideReader
from ..tiff_slide import TiffSlide
from .mirax_index import require_settings
from .sound_jpeg import SoundJpegs

BATCH = 32
THIN_PX, READ_PX = 32, 256
"""Tiles of a side under the first, such as the 8 rows of NDPI and VMS, are read by so many at once that they make the second:
a call costs more than such a tile. No others, because what is read at once is what a damaged tile costs."""

MAX_SKEW, ROUNDED_PX = 0.05, 2
"""How far the factors of a level along x and y may lie apart, by share or by pixels of that level."""

_LOGGER = logging.getLogger(__name__)

if TYPE_CHECKING:
    from openslide import OpenSlide


class OpenSlideReader(SlideReader):
    """Reads through ``openslide.OpenSlide`` in threads.

    On levels whose downsample is not a whole number OpenSlide shifts by the fraction of a pixel and blends neighbours:
    there, its pixels differ slightly from cuCIM's.

    Args:
        path: slide file.
        tiff: what the directories of a TIFF say; without levels where OpenSlide alone knows where the pixels lie.
        num_workers: threads that decode; OpenSlide lets them share the slide.

    Raises:
        SlideError: OpenSlide is not installed, does not read the file, does not list the levels of the directories, or would take
            the settings of a MIRAX slide that cannot be.
    """

    backend = "openslide"

    def __init__(self, path: Path, tiff: TiffSlide | None, *, num_workers: int = 0) -> None:
        try:
            import openslide
        except (ImportError, OSError) as error:
            raise SlideError(f"OpenSlide is not installed ({error})") from error
        if path.suffix.lower() == ".mrxs":
            require_settings(path)
        self._error, self._open = openslide.OpenSlideError, openslide.OpenSlide
        try:
            slide = self._open(path)
        except openslide.OpenSlideError as error:
            raise SlideError(f"not opened ({error})") from error
        listed = tuple(slide.level_dimensions)
        try:
            native = _native_levels(slide, path, tiff)
        except SlideError:
            slide.close()
            raise
        super().__init__(
            path,
            level_sizes_xy_px=tuple(listed[level] for level in native),
            level_downsamples=None
            if _is_mean_of_sides(slide)
            else tuple(slide.level_downsamples[level] for level in native),
            mpp_xy=tiff.mpp_xy if tiff and tiff.tiles else _mpp_xy(slide),
            bounds_xywh_px=_bounds_xywh_px(slide),
            tile_sizes_xy_px=tuple(_tile_size(slide, level) for level in native),
        )
        self._native = native
        self._own_downsamples = tuple(slide.level_downsamples[level] for level in native)
        self._tiles = tiff.tiles if tiff else None
        self.lost_tiles = self._tiles.lost if self._tiles else 0
        self._slide = slide
        self._jpegs = SoundJpegs(path, tiff)
        self.checks_levels = self._jpegs.checks_levels
        self._pool = ThreadPoolExecutor(max(1, num_workers), thread_name_prefix="openslide")

    def _require_sound(self, level: int) -> None:
        self._jpegs.require(self._native[level], downsample=self._own_downsamples[level], pool=self._pool)

    def _decode(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> Iterator[Decoded]:
        locations = np.rint(corners_xy * self._own_downsamples[level]).astype(np.int64).tolist()
        allowed = np.ones(len(corners_xy), dtype=bool)
        if self._tiles is not None:
            allowed = self._tiles.whole(corners_xy, size_xy_px=size_xy_px, level=level)
        for start in range(0, len(locations), BATCH):
            batch = locations[start : start + BATCH]
            try:
                if allowed[start : start + BATCH].all():
                    read = list(self._pool.map(lambda at: self._region(at, size_xy_px, level), batch))
                    yield np.stack(read), np.ones(len(batch), dtype=bool)
                    continue
            except self._error as error:  # from now on it fails whatever is asked: opened again, regions one by one
                _LOGGER.debug("%s: level %d: %s", self.path, level, error)
                self._slide = self._open(self.path)
            for at, may_be_read in zip(batch, allowed[start : start + BATCH].tolist(), strict=True):
                yield self._readable_region(at, size_xy_px, level) if may_be_read else _unreadable_region(size_xy_px)

    def _region(self, location: tuple[int, int], size_xy_px: tuple[int, int], level: int) -> NDArray[np.uint8]:
        return on_white(np.asarray(self._slide.read_region(location, self._native[level], size_xy_px)))

    def _readable_region(self, location: tuple[int, int], size_xy_px: tuple[int, int], level: int) -> Decoded:
        try:
            return self._region(location, size_xy_px, level)[None], np.array([True])
        except self._error:
            self._slide = self._open(self.path)
            return _unreadable_region(size_xy_px)

    def close(self) -> None:
        """Release the file."""
        self._pool.shutdown()
        self._slide.close()


def _native_levels(slide: "OpenSlide", path: Path, tiff: TiffSlide | None) -> tuple[int, ...]:
    """Return the numbers of the levels among those that OpenSlide lists.

    Raises:
        SlideError: It takes the file for another format, lacks a level, or lists what is none.
    """
    listed = tuple(slide.level_dimensions)
    if tiff and tiff.vendor and slide.properties.get("openslide.vendor") != tiff.vendor:
        raise SlideError(f"OpenSlide does not take it for what its directories say, {tiff.reason}")
    if tiff is None and (lost := passed_over(path, listed)):
        raise SlideError(
            f"{lost.name} beside it should be a level of it, and is damaged or no DICOM: compare it with its source, or "
            "move it away if it belongs to another slide"
        )
    return tiff.native_levels(listed) if tiff and tiff.tiles else _reduced_levels(listed)


def _reduced_levels(sizes_xy_px: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Number all levels that OpenSlide alone knows.

    Raises:
        SlideError: One of them has not both sides reduced by about one factor.
    """
    width, height = sizes_xy_px[0]
    for number, (w, h) in enumerate(sizes_xy_px):
        x, y = width / w, height / h
        if abs(x - y) > MAX_SKEW * min(x, y) and abs(w - width / y) > ROUNDED_PX and abs(h - height / x) > ROUNDED_PX:
            raise SlideError(
                f"its level {number} is of {w} x {h} px, expected {width} x {height} reduced by one factor"
            )
    return tuple(range(len(sizes_xy_px)))


def _unreadable_region(size_xy_px: tuple[int, int]) -> Decoded:
    return np.zeros((1, size_xy_px[1], size_xy_px[0], 3), dtype=np.uint8), np.array([False])


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay RGBA (..., 4) over white and return RGB (..., 3); what the scanner did not record is transparent."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if (alpha == WHITE).all():
        return rgba[..., :3]
    blended = (rgba[..., :3] * alpha + WHITE * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)


def _tile_size(slide: "OpenSlide", level: int) -> tuple[int, int]:
    """Width and height of a level's tiles, where the format tells, or of several thin ones."""
    try:
        sides = [int(slide.properties[f"openslide.level[{level}].tile-{side}"]) for side in ("width", "height")]
    except (KeyError, ValueError):
        return DEFAULT_TILE_XY_PX
    width, height = (side * ceil(READ_PX / side) if side < THIN_PX else side for side in sides)
    return width, height


def _mpp_xy(slide: "OpenSlide") -> tuple[float, float] | None:
    try:
        return float(slide.properties["openslide.mpp-x"]), float(slide.properties["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None


def _bounds_xywh_px(slide: "OpenSlide") -> tuple[int, int, int, int] | None:
    try:
        x, y, width, height = (
            int(slide.properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return x, y, width, height


def _is_mean_of_sides(slide: "OpenSlide") -> bool:
    """Whether the downsamples come from the levels' sizes alone, as OpenSlide takes them where the format says nothing."""
    (width, height), told = slide.level_dimensions[0], slide.level_downsamples
    return all(
        abs((width / w + height / h) / 2 - own) < 1e-6 for (w, h), own in zip(slide.level_dimensions, told, strict=True)
    )
