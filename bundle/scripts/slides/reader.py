"""What every slide reader offers."""

import abc
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.option_words import Backend
from ..common.watch import reading
from .damage import DamagedTiles
from .sweep import WHITE, sweep

DEFAULT_TILE_XY_PX = (512, 512)
"""Side of what is read at once where a format does not tell its tiles."""

Decoded = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Pixels (m, height, width, 3) of m regions, and which of them could be decoded."""


class SlideReader(abc.ABC):
    """One open slide, read patch by patch on the host.

    A reader holds handles of native libraries, so it is opened in the process that uses it and is neither pickled nor
    kept over a fork.

    Attributes:
        path: File of the slide.
        backend: ``"cucim"``, ``"openslide"`` or ``"tifffile"``.
        remedy: What to do about a tile that cannot be decoded, for messages.
        level_sizes_xy_px: Width and height of every pyramid level, finest first.
        level_downsamples: Size of a pixel of every level in level-0 pixels: as the format tells, else the whole number that fits
            both sides, else by the longer ones. The mean of both would follow the rounding of a thin slide's shorter side.
        mpp_xy: Micrometres per level-0 pixel along x and y as the metadata say; ``None`` where they say nothing.
        bounds_xywh_px: Region that holds the scan: left, top, width, height in level-0 pixels. The whole slide where
            the format has no bounds.
        tile_sizes_xy_px: Width and height of what is read at once at every level: a tile, or several that are thin.
        lost_tiles: Tiles of all levels that are not in the file, as where it was cut off, or lie over each other; 0 where nothing
            tells before they are read.
        checks_levels: Whether the first patch that is read of a level costs the decoding of all of it.
        unreadable_tiles: ``"fail"``: a tile that cannot be decoded is an error. ``"mask"``: its pixels become white, and
            :meth:`unreadable` tells which patches lie on it.
    """

    backend: Backend
    lost_tiles = 0
    checks_levels = False
    remedy = "compare it with its source, or leave out the patches there with --reading#unreadable_tiles mask"

    def __init__(
        self,
        path: Path,
        *,
        level_sizes_xy_px: tuple[tuple[int, int], ...],
        mpp_xy: tuple[float, float] | None,
        level_downsamples: tuple[float, ...] | None = None,
        bounds_xywh_px: tuple[int, int, int, int] | None = None,
        tile_sizes_xy_px: tuple[tuple[int, int], ...] | None = None,
    ) -> None:
        width, height = level_sizes_xy_px[0]
        self.path = path
        self.level_sizes_xy_px = level_sizes_xy_px
        self.level_downsamples = level_downsamples or tuple(
            float(whole_factor((width, height), sizes) or max(width, height) / max(sizes))
            for sizes in level_sizes_xy_px
        )
        self.mpp_xy = mpp_xy
        self.bounds_xywh_px = bounds_xywh_px or (0, 0, width, height)
        self.tile_sizes_xy_px = tile_sizes_xy_px or (DEFAULT_TILE_XY_PX,) * len(level_sizes_xy_px)
        self.unreadable_tiles = "fail"
        self._damage = DamagedTiles(self.level_sizes_xy_px, self.tile_sizes_xy_px)

    def read_patches(
        self, coords_xy_px: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        """Read patches of one size from one level, in the order asked for.

        What lies past the border of the slide is white, and so is what the scanner did not record.

        Args:
            coords_xy_px: top-left corners in level-0 pixels, (N, 2); they may be negative or past the border. They are
                rounded to the nearest pixel of ``level``.
            size_xy_px: width and height of a patch in pixels of ``level``.
            level: pyramid level, 0 the finest.

        Returns:
            RGB, (N, height, width, 3).

        Raises:
            SlideError: The slide has no such level, or its pixels cannot be decoded.
        """
        corners = self._corners(coords_xy_px, level)
        size = np.array(size_xy_px)
        level_size = np.array(self.level_sizes_xy_px[level])
        if len(corners) and ((corners >= 0) & (corners + size <= level_size)).all():
            return self._read_level(corners, size_xy_px=size_xy_px, level=level)
        patches = np.full((len(corners), size[1], size[0], 3), WHITE, dtype=np.uint8)
        wanted = np.flatnonzero(((corners < level_size) & (corners + size > 0)).all(axis=1))
        if not len(wanted):
            return patches
        inside = np.maximum(corners[wanted], 0)
        read = self._read_level(inside, size_xy_px=size_xy_px, level=level)
        shifts = inside - corners[wanted]
        extents = np.minimum(size - shifts, level_size - inside)
        for index, source, (x, y), (width, height) in zip(wanted, read, shifts, extents, strict=True):
            patches[index, y : y + height, x : x + width] = source[:height, :width]
        return patches

    def iter_patches(
        self, coords_xy_px: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int, batch_size: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Read patches as :meth:`read_patches` does, ``batch_size`` at a time, decoding every tile of the level once.

        Args:
            coords_xy_px: top-left corners in level-0 pixels, (N, 2); best in the order of a grid, row by row, for then only two
                rows of tiles are in memory.
            size_xy_px: width and height of a patch in pixels of ``level``.
            level: pyramid level, 0 the finest.
            batch_size: patches per batch; the last one may hold fewer.

        Yields:
            RGB, (n, height, width, 3), in the order asked for.

        Raises:
            SlideError: The slide has no such level, or its pixels cannot be decoded.
        """
        tile_xy_px = self.tile_sizes_xy_px[level] if 0 <= level < len(self.tile_sizes_xy_px) else DEFAULT_TILE_XY_PX
        return sweep(
            self._corners(coords_xy_px, level),
            size_xy_px=size_xy_px,
            tile_xy_px=tile_xy_px,
            level_xy_px=self.level_sizes_xy_px[level],
            batch_size=batch_size,
            decode=lambda corners_xy: self._checked(corners_xy, size_xy_px=tile_xy_px, level=level),
        )

    def _corners(self, coords_xy_px: NDArray[np.int64], level: int) -> NDArray[np.int64]:
        """Turn level-0 pixels (N, 2) into the nearest pixels of ``level``."""
        if not 0 <= level < len(self.level_sizes_xy_px):
            raise SlideError(
                f"{self.path}: no pyramid level {level}, expected 0 to {len(self.level_sizes_xy_px) - 1}: "
                "choose read_level auto or highest"
            )
        coords_xy_px = np.asarray(coords_xy_px).reshape(-1, 2)
        return np.floor(coords_xy_px / self.level_downsamples[level] + 0.5).astype(np.int64)

    def _read_level(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        """Read (M, height, width, 3) at corners (M, 2) inside the level, in its pixels; anything past its border."""
        batches = self._checked(corners_xy, size_xy_px=size_xy_px, level=level)
        first = next(batches)
        if len(first) == len(corners_xy):
            return first.copy()
        pixels = np.empty((len(corners_xy), *first.shape[1:]), dtype=np.uint8)
        pixels[: len(first)] = first
        done = len(first)
        for batch in batches:
            pixels[done : done + len(batch)] = batch
            done += len(batch)
        return pixels

    def unreadable(
        self, coords_xy_px: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.bool_]:
        """Tell which patches (N,), given as for :meth:`read_patches`, lie on a tile that could not be decoded so far."""
        return self._damage.under(self._corners(coords_xy_px, level), size_xy_px, level)

    def _checked(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode regions as :meth:`_decode` does, and do what ``unreadable_tiles`` says with those that cannot be."""
        done = 0
        self._require_sound(level)
        for pixels, readable in _watched(self._decode(corners_xy, size_xy_px=size_xy_px, level=level)):
            if not readable.all():
                pixels = pixels.copy()
                for index in np.flatnonzero(~readable):
                    corner = corners_xy[done + index]
                    if self.unreadable_tiles == "fail":
                        raise self._undecodable(corner, size_xy_px, level)
                    pixels[index] = self._readable_part(corner, size_xy_px, level)[: pixels.shape[1], : pixels.shape[2]]
            done += len(pixels)
            yield pixels

    def _undecodable(self, corner_xy: NDArray[np.int64], size_xy_px: tuple[int, int], level: int) -> SlideError:
        x, y, width, height = (round(float(side) * self.level_downsamples[level]) for side in (*corner_xy, *size_xy_px))
        return SlideError(
            f"{self.path}: level {level} cannot be decoded at x {x}, y {y} ({width} x {height} px of level 0), expected a whole "
            f"file: {self.remedy}"
        )

    def _readable_part(
        self, corner_xy: NDArray[np.int64], size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        """Decode a region (height, width, 3) tile by tile; white where a tile cannot be decoded, which is recorded."""
        part = np.full((size_xy_px[1], size_xy_px[0], 3), WHITE, dtype=np.uint8)
        tile_xy_px = self.tile_sizes_xy_px[level]
        stop = np.minimum(corner_xy + size_xy_px, self.level_sizes_xy_px[level])
        for column, row in self._damage.tiles_under(corner_xy, size_xy_px, level):
            if self._damage.has(level, column, row):
                continue
            start: NDArray[np.int64] = np.array((column, row), dtype=np.int64) * tile_xy_px
            pixels, readable = next(_watched(self._decode(start[None], size_xy_px=tile_xy_px, level=level)))
            if not readable[0]:
                self._damage.add(level, column, row)
                continue
            low, high = np.maximum(start, corner_xy), np.minimum(start + tile_xy_px, stop)
            part[_box(low - corner_xy, high - corner_xy)] = pixels[0][_box(low - start, high - start)]
        return part

    def _require_sound(self, level: int) -> None:  # noqa: B027 (most decoders say themselves what they cannot decode)
        """Refuse a level whose damage :meth:`_decode` would not tell.

        Raises:
            SlideError: It is damaged.
        """

    @abc.abstractmethod
    def _decode(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> Iterator[Decoded]:
        """Decode regions at corners (M, 2) inside the level, in its pixels, some at a time.

        What is past the level's border may hold anything, or be missing where the region is larger than the level. A batch is
        valid until the next one is asked for.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release the file; the reader cannot be used after that."""

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _box(low_xy: NDArray[np.int64], high_xy: NDArray[np.int64]) -> tuple[slice, slice]:
    """Rows and columns of a rectangle."""
    return slice(low_xy[1], high_xy[1]), slice(low_xy[0], high_xy[0])


def _watched(decoded: Iterator[Decoded]) -> Iterator[Decoded]:
    """Yield what a decoder gives, each call of it marked as one that reads."""
    while True:
        with reading():
            batch = next(decoded, None)
        if batch is None:
            return
        yield batch


def whole_factor(large_xy: tuple[int, int], small_xy: tuple[int, int], factor: int | None = None) -> int | None:
    """Return the whole number that both sides of one image are over those of another, a pixel rounded off; None: there is none.

    Args:
        large_xy: sides of the one.
        small_xy: sides of the other.
        factor: the only number that will do; None: the one that the longer sides tell.
    """
    factor = factor or max(1, round(max(large_xy) / max(small_xy)))
    fits = all(abs(large / factor - small) < 1 for large, small in zip(large_xy, small_xy, strict=True))
    return factor if fits else None
