"""What is known of a slide before its patches are encoded: where tissue is, and what they will be read from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import NoTissueError
from ..slides.geometry import PATCH_PX, PatchGrid, ReadPlan, plan_reading
from ..slides.reader import SlideReader
from ..slides.table import SlideRow
from ..tissue.mask import find_tissue
from ..tissue.threshold import TissueMask
from .settings import EncodingSettings


@dataclass(frozen=True)
class PreparedSlide:
    """A slide's reading plan and tissue; it can be handed to another process.

    Attributes:
        plan: the grid over the whole slide and the level to read from.
        tissue: which of its patches are observed.
        finest: mean colour of every quarter of a patch, float32 (2 rows, 2 columns, 3) in 0..255 over the whole grid; None where
            the thumbnail comes from the pyramid.
        left_out: patches of the whole grid that lie on tiles unreadable so far, and so could not be judged.
    """

    plan: ReadPlan
    tissue: TissueMask
    finest: torch.Tensor | None = None
    left_out: int = 0

    @cached_property
    def grid(self) -> PatchGrid:
        """The tightest box of the tissue."""
        return self.plan.grid.crop(*self.tissue.box)

    @cached_property
    def grid_yx(self) -> NDArray[np.int32]:
        """Rows and columns of the observed patches in the box, row by row, (N, 2)."""
        row0, column0, rows, columns = self.tissue.box
        return np.argwhere(self.tissue.mask[row0 : row0 + rows, column0 : column0 + columns]).astype(np.int32)

    @cached_property
    def coords_xy_px(self) -> NDArray[np.int64]:
        """Their top-left corners in level-0 pixels, (N, 2)."""
        return self.grid.coords_xy_px(self.grid_yx)


def plan_of(reader: SlideReader, row: SlideRow, settings: EncodingSettings) -> ReadPlan:
    """Lay the grid and choose the level.

    Raises:
        SlideError: the slide cannot be read at the resolution asked for.
    """
    return plan_reading(
        reader, patch_um=settings.patch_um, patch_px=PATCH_PX, read_level=settings.read_level, mpp=row.mpp
    )


def prepare_slide(reader: SlideReader, plan: ReadPlan, settings: EncodingSettings) -> PreparedSlide:
    """Find the tissue of a slide on its low levels.

    Raises:
        NoTissueError: there is none.
        SlideError: the pixels cannot be decoded.
    """
    tissue = find_tissue(reader, plan.grid, method=settings.tissue_method, patch_um=settings.patch_um)
    lost = on_unreadable_tiles(reader, whole_grid_xy_px(plan.grid), plan.grid.patch_px_level0)
    return require_tissue(PreparedSlide(plan, tissue, left_out=int(lost.sum())))


def whole_grid_xy_px(grid: PatchGrid) -> NDArray[np.int64]:
    """Top-left corners of all patches of the grid, row by row, (N, 2) in level-0 pixels."""
    return grid.coords_xy_px(np.indices(grid.shape_yx, dtype=np.int32).reshape(2, -1).T)


def on_unreadable_tiles(
    reader: SlideReader, coords_xy_px: NDArray[np.int64], side_px: int, *, level: int | None = None
) -> NDArray[np.bool_]:
    """Tell which patches (N,) lie on something that could not be decoded, at ``level`` or (None) at any."""
    hit = np.zeros(len(coords_xy_px), dtype=bool)
    for region in reader.unreadable_regions:
        if level in (None, region.level):
            corner = np.array((region.x_px, region.y_px))
            size = np.array((region.width_px, region.height_px))
            hit |= ((coords_xy_px < corner + size) & (coords_xy_px + side_px > corner)).all(axis=1)
    return hit


def require_tissue(prepared: PreparedSlide) -> PreparedSlide:
    """Return ``prepared``, or raise a NoTissueError with the reason."""
    if not prepared.tissue.mask.any():
        raise NoTissueError(prepared.tissue.reason)
    return prepared
