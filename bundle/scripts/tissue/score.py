"""How much a patch looks like tissue: one figure per patch, and the figures of a whole slide."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.pipeline import map_ahead
from ..slides.geometry import PATCH_UM, PatchGrid
from ..slides.reader import SlideReader
from ..slides.spoiled import read_again, spoiled_cells

Score = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

SCORE_UM_PX = 2.0
"""Resolution that scores are taken at, um/px: the coarsest at which ink and tissue stayed apart (docs/tissue.md)."""

BLOCK_PATCHES = 16
"""Side, in patches, of the square read at once: bounds the memory and spares decoding a tile once per patch."""

_LEVEL_SLACK = 1.05


def rle_scores(patches: NDArray[np.uint8], levels: int = 16, *, dead_band: float = 0.0) -> NDArray[np.float32]:
    """Count the runs of the quantised grey of each patch, per pixel (section IV-C, Fig. 5).

    The grey of a pixel is the mean of R, G and B, quantised to ``levels`` equal steps. The scan is row-major over the
    whole patch: a row's end does not end a run, so a patch of one grey holds one run.

    Args:
        patches: RGB, (N, h, w, 3).
        levels: steps of the quantiser. 256 is the paper's raw grey, whose runs sensor noise breaks.
        dead_band: grey levels (of 255) that two neighbours must differ by for a run to end; keeps noise that sits on a
            step of the quantiser from passing for texture. 0 is the plain count.

    Returns:
        Runs / pixels, (N,), in (0, 1]: long where cells are, short in glass and ink.
    """
    grey = patches[..., 0].astype(np.int16)  # the sum of the three, which numpy adds faster than it reduces an axis
    grey += patches[..., 1]
    grey += patches[..., 2]
    grey = grey.reshape(len(patches), -1)
    step = (np.arange(3 * 255 + 1) * levels // (3 * 255 + 1)).astype(np.uint8)[grey]
    ends = step[:, 1:] != step[:, :-1]
    if dead_band > 0:
        ends &= np.abs(np.diff(grey, axis=1)) >= 3 * dead_band
    return ((np.count_nonzero(ends, axis=1) + 1) / grey.shape[1]).astype(np.float32)


def intensity_scores(patches: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Measure how dark each patch (N, h, w, 3) is: 0 white, 1 black, (N,). Otsu's method works on this in Fig. 5b."""
    return (1 - patches.mean(axis=(1, 2, 3), dtype=np.float64) / 255).astype(np.float32)


def score_level(
    reader: SlideReader, grid: PatchGrid, *, patch_um: float = PATCH_UM, um_px: float = SCORE_UM_PX
) -> tuple[int, int]:
    """Choose the pyramid level that scores are taken from, and the side in its pixels of the squares to average."""
    level0_um_px = patch_um / grid.patch_px_level0
    fine = (k for k, d in enumerate(reader.level_downsamples) if level0_um_px * d <= um_px * _LEVEL_SLACK)
    level = max(fine, default=0)
    return level, _pool(reader, grid, level, patch_um=patch_um, um_px=um_px)


def _pool(reader: SlideReader, grid: PatchGrid, level: int, *, patch_um: float, um_px: float) -> int:
    """Side, in pixels of a level, of the squares to average."""
    level_um_px = patch_um / grid.patch_px_level0 * reader.level_downsamples[level]
    return max(1, int(um_px * _LEVEL_SLACK / level_um_px))


def slide_scores(
    reader: SlideReader,
    grid: PatchGrid,
    *,
    scores: Mapping[str, Score],
    patch_um: float = PATCH_UM,
    um_px: float = SCORE_UM_PX,
) -> dict[str, NDArray[np.float32]]:
    """Score every patch of the grid at about ``um_px``: a block is read while those before are scored, in threads.

    Pixels come from the coarsest level that is still as fine as ``um_px`` (level 0 where none is). They are averaged over whole
    pixels to the finest resolution that is not over ``um_px`` by more than 5 %. The resolution is thus between
    ``um_px`` / 2 and ``um_px`` wherever the scan allows, on every slide.

    Args:
        reader: the slide.
        grid: where its patches lie.
        scores: score functions by name.
        patch_um: side of a grid patch in micrometres, the measure of ``um_px``.
        um_px: resolution to score at.

    Returns:
        By the names of ``scores``: (rows, cols). A patch on a tile that cannot be decoded is scored on the next finer level on
        which it can; NaN where there is none.

    Raises:
        SlideError: The pixels cannot be decoded.
    """
    rows, cols = grid.shape_yx
    level, pool = score_level(reader, grid, patch_um=patch_um, um_px=um_px)
    downsample = reader.level_downsamples[level]
    side_px = max(1, round(grid.patch_px_level0 / downsample))

    def blocks() -> Iterator[_Block]:
        for row in range(0, rows, BLOCK_PATCHES):
            for col in range(0, cols, BLOCK_PATCHES):
                shape_yx = (min(BLOCK_PATCHES, rows - row), min(BLOCK_PATCHES, cols - col))
                ys, xs = (
                    np.floor(np.arange(n) * grid.patch_px_level0 / downsample + 0.5).astype(np.int64) for n in shape_yx
                )
                pixels = reader.read_patches(
                    grid.coords_xy_px(np.array([[row, col]], dtype=np.int32)),
                    size_xy_px=(int(xs[-1]) + side_px, int(ys[-1]) + side_px),
                    level=level,
                )[0]
                yield _Block((row, col), ys, xs, pixels)

    def scored(block: _Block) -> None:
        row, col = block.cell_yx
        for i, y in enumerate(block.ys):
            strip = np.stack([block.pixels[y : y + side_px, x : x + side_px] for x in block.xs])
            strip = pooled(strip, pool)
            for name, score in scores.items():
                result[name][row + i, col : col + len(block.xs)] = score(strip)

    result = {name: np.zeros((rows, cols), dtype=np.float32) for name in scores}
    for _ in map_ahead(scored, blocks(), threads=torch.get_num_threads()):
        pass
    lost = tuple(spoiled_cells(reader, grid, level).T)
    for values in result.values():
        values[lost] = np.nan
    for finer, cells, patches in read_again(reader, grid, level):
        small = pooled(patches, _pool(reader, grid, finer, patch_um=patch_um, um_px=um_px))
        for name, score in scores.items():
            result[name][tuple(cells.T)] = score(small)
    return result


class _Block(NamedTuple):
    """A square of the slide: row and column of its first patch, where its patches lie in its pixels (h, w, 3)."""

    cell_yx: tuple[int, int]
    ys: NDArray[np.int64]
    xs: NDArray[np.int64]
    pixels: NDArray[np.uint8]


def pooled(patches: NDArray[np.uint8], pool: int) -> NDArray[np.uint8]:
    """Average (N, h, w, 3) over squares of ``pool`` pixels; a remainder at the right and bottom is left out."""
    if pool == 1:
        return patches
    count, height, width, _ = patches.shape
    h, w = height // pool, width // pool
    # sums of whole numbers, rows before columns: five times faster than the mean over two axes
    cut = patches[:, : h * pool, : w * pool].reshape(count, h, pool, w * pool * 3)
    rows = cut[:, :, 0].astype(np.uint32)
    for k in range(1, pool):
        rows += cut[:, :, k]
    columns = rows.reshape(count, h, w, pool, 3)
    sums = columns[:, :, :, 0].copy()
    for k in range(1, pool):
        sums += columns[:, :, :, k]
    return np.rint(sums / pool**2).astype(np.uint8)
