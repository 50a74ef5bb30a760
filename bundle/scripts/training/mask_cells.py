"""What the masks of a training's slides mark on V's grid; see :mod:`.lesion_targets`."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from ..encoding.embedding_file import embedding_file
from ..slides.lesion_mask import digest_of_masks, lesion_cells
from .slide_item import LesionItem

_LOGGER = logging.getLogger(__name__)


class MaskCells:
    """The lesion cells of slides of class 1, by their masks.

    As a handler of the trainer it reads all before the first epoch, so that no process that loads slides does, and the log counts
    those without a lesion cell. No process reads a mask twice.

    Args:
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.
    """

    def __init__(self, *, mask_px: int | None, lesion_from: int) -> None:
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self._items: dict[str, LesionItem] = {}
        self._cells: dict[str, NDArray[np.bool_]] = {}

    def expect(self, items: Iterable[LesionItem]) -> None:
        """Name slides that will be asked for."""
        self._items |= {item["slide_id"]: item for item in items}

    def of(self, slide_id: str) -> NDArray[np.bool_]:
        """Return the cells (H, W) of a slide that was named.

        Raises:
            SlideError: its mask cannot be read or does not fit the slide.
        """
        if slide_id not in self._cells:
            self._cells[slide_id] = self._cells_of(self._items[slide_id])
        return self._cells[slide_id]

    def digest(self, mask_of: Mapping[str, Path]) -> str:
        """SHA-256 of what cells are made from, of masks by slide id."""
        return digest_of_masks(mask_of, mask_px=self.mask_px, lesion_from=self.lesion_from)

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._read)

    def _read(self, engine: Engine) -> None:
        if empty := sum(not self.of(slide_id).any() for slide_id in self._items):
            _LOGGER.warning(
                "%d of %d positive slides have a mask without a lesion cell, which teaches that they have no lesion; expected one "
                "that fills half of some cell: look at these masks' channel and values (--lesion_from), and scale (--mask_px)",
                empty,
                len(self._items),
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
