"""Patches out of tiles: every tile of a level is decoded once, whatever patches share it.

A patch grid seldom falls on the tiles of the file. Read patch by patch, a tile is decoded once for each patch that touches it; here
the tiles are decoded in the file's order, row by row, and each is copied into the patches that it belongs to.
"""

import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 64 << 20
"""Pixels asked for in one call: the decoder's threads start anew with every call, and what it gives waits in memory."""

WHITE = 255

PIECE = 7
"""Numbers of a rectangle that a tile shares with a patch: patch (its index), height, width, tile_y, tile_x, patch_y, patch_x."""

Decode = Callable[[NDArray[np.int64]], Iterable[NDArray[np.uint8]]]
"""Decodes tiles, given by their corners x, y in the level's pixels, in order; yields them in batches that live until the next."""


def sweep(
    corners_xy: NDArray[np.int64],
    *,
    size_xy_px: tuple[int, int],
    tile_xy_px: tuple[int, int],
    level_xy_px: tuple[int, int],
    batch_size: int,
    decode: Decode,
) -> Iterator[NDArray[np.uint8]]:
    """Yield patches (n, height, width, 3) in the order of ``corners_xy``, ``batch_size`` at a time; white past the level's border.

    Where the corners run row by row, about two rows of tiles are in memory; any other order gives the same and may hold more.

    Args:
        corners_xy: top-left corners in the level's pixels, (N, 2); they may be negative or past the border.
        size_xy_px: of a patch.
        tile_xy_px: of a tile.
        level_xy_px: of the level.
        batch_size: patches per batch.
        decode: gives the tiles' pixels, at least as far as the level reaches.
    """
    batches = _Batches(corners_xy, size_xy_px=size_xy_px, level_xy_px=level_xy_px, batch_size=batch_size)
    plan = tiles_in_order(corners_xy, size_xy_px, tile_xy_px, level_xy_px)
    chunk_tiles = max(1, CHUNK_BYTES // (3 * tile_xy_px[0] * tile_xy_px[1]))
    chunk = list(islice(plan, chunk_tiles))
    while chunk:
        tiles = iter(decode(np.array([corner for corner, _ in chunk])))
        first = next(tiles)  # from here on the decoder's threads are at work, so the next chunk is laid out meanwhile
        following = list(islice(plan, chunk_tiles))
        batches.fill(chain([first], tiles), [pieces for _, pieces in chunk])
        yield from batches.full()
        chunk = following
    yield from batches.full()


def tiles_in_order(
    corners_xy: NDArray[np.int64],
    size_xy_px: tuple[int, int],
    tile_xy_px: tuple[int, int],
    level_xy_px: tuple[int, int],
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    """Yield the corner x, y of each tile that a patch touches, row by row, and what it shares with patches, `PIECE` numbers each.

    They stand in one flat list per tile: millions of small lists would keep Python's garbage collector busy.
    """
    tile, level, size = np.array(tile_xy_px), np.array(level_xy_px), np.array(size_xy_px)
    low, high = np.maximum(corners_xy, 0), np.minimum(corners_xy + size, level)
    first, last = low // tile, (high - 1) // tile  # x, y of the first and last tile of each patch
    wanted = np.flatnonzero((high > low).all(axis=1))
    by_row = wanted[np.argsort(first[wanted, 1], kind="stable")]
    starts = first[by_row, 1]
    active = np.empty(0, dtype=np.int64)
    taken, row = 0, -1
    while taken < len(by_row) or len(active):
        row = row + 1 if len(active) else int(starts[taken])
        upto = int(np.searchsorted(starts, row, side="right"))
        active = np.concatenate([active, by_row[taken:upto]])
        taken = upto
        yield from _tiles_of_row(row, active, corners_xy, low, high, first, last, tile)
        active = active[last[active, 1] > row]


def _tiles_of_row(
    row: int,
    active: NDArray[np.int64],
    corners_xy: NDArray[np.int64],
    low: NDArray[np.int64],
    high: NDArray[np.int64],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    tile: NDArray[np.int64],
) -> Iterator[tuple[tuple[int, int], list[int]]]:
    counts = last[active, 0] - first[active, 0] + 1
    patches = np.repeat(active, counts)
    columns = np.arange(len(patches)) - np.repeat(np.cumsum(counts) - counts, counts) + first[patches, 0]
    order = np.lexsort((patches, columns))
    patches, columns = patches[order], columns[order]
    corner = np.stack([columns * tile[0], np.full(len(columns), row * tile[1])], axis=1)
    begin = np.maximum(low[patches], corner)
    extent = np.minimum(high[patches], corner + tile) - begin
    in_tile, in_patch = begin - corner, begin - corners_xy[patches]
    pieces = np.column_stack([patches, extent[:, ::-1], in_tile[:, ::-1], in_patch[:, ::-1]]).ravel().tolist()
    borders = [0, *(np.flatnonzero(np.diff(columns)) + 1).tolist(), len(columns)]
    for start, stop in pairwise(borders):
        yield (int(corner[start, 0]), int(corner[start, 1])), pieces[PIECE * start : PIECE * stop]


class _Memory:
    """Blocks of one size, used again once nobody holds what lies in them: fresh memory costs as much as the copy into it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._blocks: list[tuple[bytearray, weakref.ref[NDArray[np.uint8]]]] = []

    def take(self) -> NDArray[np.uint8]:
        """Return an array of the shape, its values not set."""
        free = next((index for index, (_, lent) in enumerate(self._blocks) if lent() is None), None)
        block = bytearray(int(np.prod(self._shape))) if free is None else self._blocks.pop(free)[0]
        whole = np.frombuffer(block, dtype=np.uint8)  # every view of it, whoever made it, keeps this array alive
        self._blocks.append((block, weakref.ref(whole)))
        return whole.reshape(self._shape)


class _Batches:
    """Buffers of the batches that are begun, handed out in order when they are full."""

    def __init__(
        self,
        corners_xy: NDArray[np.int64],
        *,
        size_xy_px: tuple[int, int],
        level_xy_px: tuple[int, int],
        batch_size: int,
    ) -> None:
        self._size = size_xy_px
        self._count = len(corners_xy)
        self._batch_size = batch_size
        inside = ((corners_xy >= 0) & (corners_xy + np.array(size_xy_px) <= np.array(level_xy_px))).all(axis=1)
        starts = np.arange(0, self._count, batch_size)
        self._whole = np.logical_and.reduceat(inside, starts) if self._count else np.empty(0, dtype=bool)
        low = np.clip(corners_xy, 0, level_xy_px)
        extent = np.clip(corners_xy + np.array(size_xy_px), 0, level_xy_px) - low
        self._missing_px = np.add.reduceat(extent.prod(axis=1), starts).tolist() if self._count else []
        self._buffers: dict[int, NDArray[np.uint8]] = {}
        self._memory = _Memory((batch_size, size_xy_px[1], size_xy_px[0], 3))
        self._next = 0

    def fill(self, decoded: Iterable[NDArray[np.uint8]], pieces: list[list[int]]) -> None:
        """Copy tiles into the patches that share them."""
        of_tile = iter(pieces)
        for tiles in decoded:
            for pixels in tiles:
                shared = next(of_tile)
                for start in range(0, len(shared), PIECE):
                    patch, height, width, tile_y, tile_x, patch_y, patch_x = shared[start : start + PIECE]
                    batch, slot = divmod(patch, self._batch_size)
                    target = self._buffers.get(batch)
                    if target is None:
                        target = self._buffers[batch] = self._empty(batch)
                    target[slot, patch_y : patch_y + height, patch_x : patch_x + width] = pixels[
                        tile_y : tile_y + height, tile_x : tile_x + width
                    ]
                    self._missing_px[batch] -= height * width

    def full(self) -> Iterator[NDArray[np.uint8]]:
        """Yield, in order, the batches that nothing is missing from."""
        while self._next < len(self._missing_px) and not self._missing_px[self._next]:
            buffer = self._buffers.pop(self._next, None)
            yield self._empty(self._next) if buffer is None else buffer
            self._next += 1

    def _empty(self, batch: int) -> NDArray[np.uint8]:
        """Memory for a batch: white where a patch of it reaches past the border, else not set."""
        count = min(self._batch_size, self._count - batch * self._batch_size)
        buffer = self._memory.take()[:count]
        if not self._whole[batch]:
            buffer[:] = WHITE
        return buffer
