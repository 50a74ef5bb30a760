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

    Whoever asks for the first slide reads the masks of all. So the log counts those without a lesion cell before anything is
    learnt from them, also where other processes load the slides. A process reads no mask twice.

    Args:
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.
    """

    def __init__(self, *, mask_px: int | None, lesion_from: int) -> None:
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self._unread: dict[str, LesionItem] = {}
        self._cells: dict[str, NDArray[np.bool_]] = {}

    def expect(self, items: Iterable[LesionItem]) -> None:
        """Name slides that will be asked for."""
        self._unread |= {item["slide_id"]: item for item in items if item["slide_id"] not in self._cells}

    def of(self, slide_id: str) -> NDArray[np.bool_]:
        """Return the cells (H, W) of a slide that was named.

        Raises:
            SlideError: a mask cannot be read or does not fit its slide.
        """
        if self._unread:
            self._read()
        return self._cells[slide_id]

    def _read(self) -> None:
        found = {slide_id: self._cells_of(item) for slide_id, item in self._unread.items()}
        self._cells |= found
        self._unread = {}
        if empty := sum(not cells.any() for cells in found.values()):
            _LOGGER.warning(
                "%d of %d positive slides have a mask without a lesion cell, which teaches that they have no lesion; expected one "
                "that fills half of some cell: look at these masks' channel and values (--lesion_from), and scale (--mask_px)",
                empty,
                len(found),
            )

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
