"""T, the thumbnail matrix: low magnifications of the slide on a grid exactly twice as fine as V's (III-A, Table IV)."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.pipeline import map_ahead
from ..common.process import compute_with
from ..slides.geometry import T_PIXELS_PER_PATCH, PatchGrid, area_average
from ..slides.reader import SlideReader
from ..slides.spoiled import read_again

DEFAULT_LEVELS = 3
MIN_READ_PX = (
    16  # a patch is read at no fewer pixels per side than this, so that level rounding shifts T by 3 % at most
)
BLOCK_PX = 2048  # side of the region read at once


def build_thumbnail(reader: SlideReader, grid: PatchGrid, *, levels: int = DEFAULT_LEVELS) -> NDArray[np.uint8]:
    """Make T of the box that ``grid`` covers.

    The finest thumbnail averages every quarter of a patch (factor K); those of factor 2K ... LK are area means of it,
    repeated (nearest) on to its grid.

    Args:
        reader: an open slide.
        grid: patches of the box.
        levels: L.

    Returns:
        RGB of each level, the finest first, (2 rows, 2 columns, 3 levels).
    """
    return stack_thumbnails(_finest(reader, grid), levels=levels)


def stack_thumbnails(finest: torch.Tensor, *, levels: int = DEFAULT_LEVELS) -> NDArray[np.uint8]:
    """Stack the finest thumbnail (2 rows, 2 columns, 3), float32 in 0..255, and its coarser means: T."""
    stack = [finest]
    for factor in range(2, levels + 1):
        coarse = area_average(finest[None], _steps(finest.shape[0], factor), _steps(finest.shape[1], factor))[0]
        upsampled = coarse.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
        stack.append(upsampled[: finest.shape[0], : finest.shape[1]])
    return torch.cat(stack, dim=2).round().clamp(0, 255).to(torch.uint8).numpy()


def thumbnail_level(reader: SlideReader, grid: PatchGrid) -> int:
    """Choose the coarsest level at which a patch still has ``MIN_READ_PX`` pixels per side."""
    sides_px = (grid.patch_px_level0 / downsample for downsample in reader.level_downsamples)
    return max((index for index, side in enumerate(sides_px) if side >= MIN_READ_PX), default=0)


class _Block(NamedTuple):
    """Some patches of the box: row and column of the first, rows and columns of patches, and their pixels (1, h, w, 3)."""

    cell_yx: tuple[int, int]
    shape_yx: tuple[int, int]
    pixels: NDArray[np.uint8]


def _steps(size: int, factor: int) -> list[float]:
    """Borders every ``factor`` pixels; the last interval may be shorter."""
    return [float(edge) for edge in range(0, size, factor)] + [float(size)]


def _finest(reader: SlideReader, grid: PatchGrid) -> torch.Tensor:
    """Read and average the box block by block, and what a bad tile spoils on a finer level; float32 (2 rows, 2 columns, 3)."""
    level = thumbnail_level(reader, grid)
    side_px = grid.patch_px_level0 / reader.level_downsamples[level]
    block = max(1, int(BLOCK_PX // side_px))
    rows, columns = grid.shape_yx
    finest = torch.empty(T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns, 3)

    def blocks() -> Iterator[_Block]:
        for row in range(0, rows, block):
            for column in range(0, columns, block):
                height, width = min(block, rows - row), min(block, columns - column)
                corner = grid.coords_xy_px(np.array([[row, column]], dtype=np.int32))
                size = (int(np.ceil(width * side_px - 1e-6)), int(np.ceil(height * side_px - 1e-6)))
                region = reader.read_patches(corner, size_xy_px=size, level=level)
                yield _Block((row, column), (height, width), region)

    def average(cut: _Block) -> None:
        compute_with(threads=1)  # a team of threads waits for its slowest, and one block is soon done
        edges_y, edges_x = (
            np.minimum(np.linspace(0, cells * side_px, T_PIXELS_PER_PATCH * cells + 1), pixels).tolist()
            for cells, pixels in zip(cut.shape_yx, cut.pixels.shape[1:3], strict=True)
        )
        (y, x), (height, width) = ((T_PIXELS_PER_PATCH * side for side in pair) for pair in (cut.cell_yx, cut.shape_yx))
        finest[y : y + height, x : x + width] = area_average(torch.from_numpy(cut.pixels), edges_y, edges_x)[0]

    for _ in map_ahead(average, blocks(), threads=torch.get_num_threads()):
        pass
    quarters = finest.view(rows, T_PIXELS_PER_PATCH, columns, T_PIXELS_PER_PATCH, 3)
    for _, cells_yx, patches in read_again(reader, grid, level):
        edges = np.linspace(0, patches.shape[1], T_PIXELS_PER_PATCH + 1).tolist()
        cell_rows, cell_columns = torch.from_numpy(cells_yx.astype(np.int64)).T
        quarters[cell_rows, :, cell_columns] = area_average(torch.from_numpy(patches), edges, edges)
    return finest
