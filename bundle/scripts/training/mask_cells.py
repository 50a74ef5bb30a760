"""What the masks of a training's slides mark on V's grid; see :mod:`.masks` and :mod:`.lesions`, which make targets of it."""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..encoding.embedding_file import embedding_file
from ..slides.lesion_mask import lesion_cells
from .slide_item import LesionItem

_LOGGER = logging.getLogger(__name__)


class MaskCells:
    """The lesion cells of slides of class 1, by their masks.

    They are read once, before other processes load the slides, and kept; the log counts those without a lesion cell.

    Args:
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.
    """

    def __init__(self, *, mask_px: int | None, lesion_from: int) -> None:
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self._cells: dict[str, NDArray[np.bool_]] = {}

    def read(self, items: Iterable[LesionItem]) -> None:
        """Read the masks of slides that will be asked for.

        Raises:
            SlideError: a mask cannot be read or does not fit its slide.
        """
        found = {item["slide_id"]: self._cells_of(item) for item in items if item["slide_id"] not in self._cells}
        self._cells |= found
        if empty := sum(not cells.any() for cells in found.values()):
            _LOGGER.warning(
                "%d of %d positive slides have a mask without a lesion cell, as if they had no lesion; expected one that fills half "
                "of some cell: look at the channel and values of these masks (--lesion_from), and at their scale (--mask_px)",
                empty,
                len(found),
            )

    def of(self, slide_id: str) -> NDArray[np.bool_]:
        """Return the cells (H, W) of a slide whose mask was read."""
        return self._cells[slide_id]

    def _cells_of(self, item: LesionItem) -> NDArray[np.bool_]:
        embedding = embedding_file(Path(item["embedding"]))
        return lesion_cells(
            Path(item["mask"]),
            embedding.grid,
            slide=Path(item["slide"]),
            attributes=embedding.header.attributes,
            mask_px=self.mask_px,
            lesion_from=self.lesion_from,
        )
