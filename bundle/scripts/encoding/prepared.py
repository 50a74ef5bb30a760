"""What is known of a slide before its patches are encoded: where tissue is, and what they will be read from."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import NoTissueError
from ..slides.geometry import PatchGrid, ReadPlan, plan_reading
from ..slides.reader import SlideReader
from ..slides.table import SlideRow
from ..tissue.mask import find_tissue, require_judged
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
    """

    plan: ReadPlan
    tissue: TissueMask
    finest: torch.Tensor | None = None

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
    return plan_reading(reader, patch_um=settings.patch_um, read_level=settings.read_level, mpp=row.mpp)


def prepare_slide(reader: SlideReader, plan: ReadPlan, settings: EncodingSettings) -> PreparedSlide:
    """Find the tissue of a slide on its low levels.

    Raises:
        NoTissueError: there is none.
        SlideError: the pixels cannot be decoded, or there is none where they can.
    """
    tissue = find_tissue(
        reader, plan.grid, method=settings.tissue_method, patch_um=settings.patch_um, drop_pen=settings.drop_pen
    )
    return require_tissue(reader, PreparedSlide(plan, tissue))


def require_tissue(reader: SlideReader, prepared: PreparedSlide) -> PreparedSlide:
    """Return ``prepared`` if it has tissue.

    Raises:
        NoTissueError: there is none, with the reason.
        SlideError: there is none among the patches that can be read, and there are others.
    """
    require_judged(prepared.tissue, reader.path)
    if not prepared.tissue.mask.any():
        raise NoTissueError(prepared.tissue.reason)
    return prepared
