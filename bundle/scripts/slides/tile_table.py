"""A look at the tiles of a TIFF before anyone decodes them: damage may end a native decoder, or give other pixels.

Such damage is a tile past the end of the file, or a JPEG or JPEG 2000 tile of another size than the directory says. A broken
header of a JPEG 2000 tile is such, too.
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from .jpeg2000 import is_whole_codestream, jpeg2000_head
from .tiff_codes import APERIO_JPEG2000, JPEG, JPEG2000, UNCOMPRESSED
from .tiff_levels import TiffLevel
from .tile_heads import HEAD_BYTES, TileHead, jpeg_head

_HEADER_BYTES = 8
_UNKNOWN, _GOOD, _BAD = 0, 1, 2


class TileTable:
    """Where the tiles of a TIFF's levels lie in the file, and which of them may be decoded.

    A tile of offset 0 and 0 bytes is not recorded, and white; such a tile may be "decoded".

    Args:
        path: the file.
        levels: its levels, whose offsets and counts cover their grids.

    Raises:
        SlideError: A level's tiles are of another size than its directory says, or all lie at one place.
    """

    def __init__(self, path: Path, levels: tuple[TiffLevel, ...]) -> None:
        self._path = path
        self._tables = tuple(_LevelTable(level) for level in levels)
        if levels:
            _mark_outside(self._tables, path.stat().st_size)
        with open(path, "rb") as file:
            for number, table in enumerate(self._tables):
                table.require_agreement(file.fileno(), number)

    @property
    def lost(self) -> int:
        """Tiles of all levels that are not in the file, as where it was cut off, or lie over each other."""
        return sum(int((table.state == _BAD).any(axis=0).sum()) for table in self._tables)

    def colour(self, level: int) -> str | None:
        """What the first JPEG tile of a level says of its colours: "rgb", "ycbcr" or nothing."""
        return self._tables[level].colour

    def whole(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> NDArray[np.bool_]:
        """Tell which regions (M,) of a level lie on tiles alone that may be decoded."""
        table = self._tables[level]
        if not len(corners_xy):
            return np.ones(0, dtype=bool)
        rows, columns = table.state.shape[1:]
        first = corners_xy // table.tile_xy_px
        stop = np.minimum((corners_xy + np.array(size_xy_px) - 1) // table.tile_xy_px, (columns - 1, rows - 1)) + 1
        (left, top), (right, bottom) = first.min(axis=0), stop.max(axis=0)
        box = np.s_[:, top:bottom, left:right]
        if (table.state[box] == _GOOD).all():
            return np.ones(len(corners_xy), dtype=bool)
        first, stop = first - (left, top), stop - (left, top)
        needed = np.zeros(table.state[box].shape[1:], dtype=bool)
        for column, row in np.unique(stop - first, axis=0).tolist():  # regions of as many tiles at once
            alike = first[(stop - first == (column, row)).all(axis=1)]
            for y, x in np.ndindex(row, column):
                needed[alike[:, 1] + y, alike[:, 0] + x] = True
        with open(self._path, "rb") as file:
            table.look_at(file.fileno(), box, needed)
        bad = np.zeros(np.array(needed.shape) + 1, dtype=np.int64)  # summed from the corner
        bad[1:, 1:] = (needed & (table.state[box] != _GOOD).any(axis=0)).cumsum(0).cumsum(1)
        (x0, y0), (x1, y1) = first.T, stop.T
        return (bad[y1, x1] - bad[y0, x1] - bad[y1, x0] + bad[y0, x0]) == 0

    def is_whole(self, row: int, column: int, *, level: int) -> bool:
        """Tell whether one tile may be decoded."""
        table = self._tables[level]
        if (table.state[:, row, column] == _UNKNOWN).any():
            with open(self._path, "rb") as file:
                table.look_at(file.fileno(), np.s_[:, row : row + 1, column : column + 1], np.ones((1, 1), dtype=bool))
        return bool((table.state[:, row, column] == _GOOD).all())


class _LevelTable:
    """The tiles of one level: offsets, counts and what is known of them, each (planes, rows, columns)."""

    def __init__(self, level: TiffLevel) -> None:
        page = level.page
        shape = (-1, *page.grid_yx)
        self.compression = page.compression
        self.tile_xy_px = np.array(level.tile_xy_px)
        self.offsets = np.concatenate([plane.offsets for plane in level.planes]).reshape(shape)
        self.counts = np.concatenate([plane.counts for plane in level.planes]).reshape(shape)
        self.state = np.full(self.offsets.shape, _UNKNOWN, dtype=np.uint8)
        self._samples = page.samples if page.planar == 1 else 1
        self.colour: str | None = None
        self._last: tuple[bytes, TileHead] | None = None  # how a JPEG tile began, and what that says

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Which tiles the file claims to hold."""
        return (self.offsets != 0) | (self.counts != 0)

    def require_agreement(self, descriptor: int, number: int) -> None:
        """Refuse a level of whose tiles none is as its directory says; one or two that are not may be damaged."""
        known = np.flatnonzero((self.recorded & (self.state == _UNKNOWN)).ravel())
        offsets, counts = self.offsets.ravel()[known], self.counts.ravel()[known]
        if len(known) > 3 and (offsets == offsets[0]).all():
            raise SlideError(f"all {len(known)} tiles of level {number} lie at one place of the file")
        width, height = self.tile_xy_px.tolist()
        if self.compression == UNCOMPRESSED and len(known) and not (counts == width * height * self._samples).any():
            raise SlideError(
                f"the tiles of level {number} have {counts[0]} bytes, expected {width * height * self._samples} of {width} x "
                f"{height} px"
            )
        if self.compression != JPEG and self.compression not in JPEG2000:
            return
        looked_at = known[[0, len(known) // 2, -1]] if len(known) else known
        heads = [
            self._head(descriptor, int(self.offsets.flat[tile]), int(self.counts.flat[tile])) for tile in looked_at
        ]
        found = [head for head in heads if head]
        if not found and len(known) > 1:
            raise SlideError(
                f"the tiles of level {number} are not of the compression {self.compression} that the directory states"
            )
        self.colour = found[0].colour if found else None
        if found and not any(self._agrees(head) for head in found):
            head = found[0]
            raise SlideError(
                f"the tiles of level {number} are {head.width} x {head.height} px of {head.components} samples of {head.bits} bit, "
                f"expected {width} x {height} px of {self._samples} samples of 8 bit, as the directory says"
            )

    def look_at(self, descriptor: int, box: tuple[slice, slice, slice], needed: NDArray[np.bool_]) -> None:
        """Look at the tiles of ``box`` that are ``needed`` (rows, columns) and not known yet."""
        state = self.state[box]
        unknown = np.nonzero((state == _UNKNOWN) & needed)
        places = zip(self.offsets[box][unknown].tolist(), self.counts[box][unknown].tolist(), strict=True)
        state[unknown] = [_GOOD if self._is_good(descriptor, offset, count) else _BAD for offset, count in places]

    def _is_good(self, descriptor: int, offset: int, count: int) -> bool:
        if self.compression in APERIO_JPEG2000:
            content = os.pread(descriptor, count, offset)
            head = jpeg2000_head(content) if is_whole_codestream(content) else None
        elif self.compression == JPEG or self.compression in JPEG2000:
            head = self._head(descriptor, offset, count)
        else:
            width, height = self.tile_xy_px.tolist()
            return self.compression != UNCOMPRESSED or count == width * height * self._samples
        return head is not None and self._agrees(head)

    def _head(self, descriptor: int, offset: int, count: int) -> TileHead | None:
        read = jpeg_head if self.compression == JPEG else jpeg2000_head
        begin = os.pread(descriptor, min(count, HEAD_BYTES), offset)
        last = self._last  # another thread may replace it meanwhile
        if last and begin.startswith(last[0]):
            return last[1]
        head = read(begin)
        if head and head.length:
            self._last = begin[: head.length], head
        return head or (read(os.pread(descriptor, count, offset)) if count > HEAD_BYTES else None)

    def _agrees(self, head: TileHead) -> bool:
        said = (head.width, head.height, head.components, head.bits)
        return said == (*self.tile_xy_px.tolist(), self._samples, 8) and head.colour == self.colour


def _mark_outside(tables: tuple[_LevelTable, ...], size_bytes: int) -> None:
    """Mark the tiles that lie past the end of the file, in its header, or over each other; those not recorded are good."""
    for table in tables:
        in_file = (table.offsets >= _HEADER_BYTES) & (table.counts > 0) & (table.counts <= size_bytes - table.offsets)
        table.state[~in_file] = _BAD
        table.state[~table.recorded] = _GOOD
    places = [
        (number, tile) for number, table in enumerate(tables) for tile in (np.flatnonzero(table.state == _UNKNOWN),)
    ]
    offsets = np.concatenate([tables[number].offsets.ravel()[tile] for number, tile in places])
    counts = np.concatenate([tables[number].counts.ravel()[tile] for number, tile in places])
    bad = _overlapping(offsets, counts)
    start = 0
    for number, tile in places:
        tables[number].state.ravel()[tile[bad[start : start + len(tile)]]] = _BAD
        start += len(tile)


def _overlapping(offsets: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which extents (N,) begin inside another, or have one that does; the same extent may be stated many times."""
    bad = np.zeros(len(offsets), dtype=bool)
    order = np.lexsort((counts, offsets))
    starts, lengths = offsets[order], counts[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(starts) != 0) | (np.diff(lengths) != 0)
    starts, ends = starts[fresh], (starts + lengths)[fresh]
    clash = np.zeros(len(starts), dtype=bool)
    clash[1:] = starts[1:] < np.maximum.accumulate(ends)[:-1]
    clash[:-1] |= clash[1:]
    bad[order] = clash[np.cumsum(fresh) - 1] if len(order) else False
    return bad
