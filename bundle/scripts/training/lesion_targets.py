"""Lesion masks as targets: what each cell of V's grid teaches, and which slides teach.

Positive slides without a mask are kept by :class:`PatchTargets` (masks.yaml, wang.yaml), as their label teaches, and left out by
:class:`SegmentationTargets` (segment_train.yaml), as nothing would. The losses are in :mod:`.lesion_losses`.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from ..common.errors import RequestError
from ..common.option_words import Split
from ..slides.lesion_mask import find_masks
from ..slides.table import find_label
from .mask_cells import MaskCells
from .slide_item import LesionItem
from .training_table import EmbeddingTable

_LOGGER = logging.getLogger(__name__)

UNKNOWN, NO_LESION, LESION = range(3)
"""What a target holds per cell of V's grid; what is filled up or left out with zeros teaches nothing."""


def training_masks(table: EmbeddingTable, masks: str | Path | None = None) -> dict[str, Path]:
    """Return the masks of the training slides of class 1, by slide id.

    Args:
        table: the dataset.
        masks: folder of masks named by slide id; None takes the table's column ``mask``.

    Raises:
        RequestError: the folder is missing, or a mask that the table names.
    """
    found = find_masks(table.rows, table.source, masks)
    train = (row for row in table.rows if row.split == "train" and row.slide_id in found)
    return {row.slide_id: found[row.slide_id] for row in train if find_label(row, table.class_names) == 1}


class LesionTargets(MapTransform):
    """Set ``lesion`` (1, H, W), uint8, the target of each cell of V's grid: `LESION`, `NO_LESION` or `UNKNOWN`.

    Slides of class 0 have no lesion anywhere. Of a slide of class 1 the mask says where; without one nothing is known. Where no
    patch was observed nothing is known either. Stands behind ``LoadEmbeddingd``.

    ``cells``, a handler of the trainer, reads the masks before the first epoch.

    Args:
        table: the dataset.
        masks: folder of masks named by slide id; None takes the table's column ``mask``.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.
        keys: where each cell's vector is, 0 for none, with ``slide_id`` and ``label`` beside it.

    Raises:
        RequestError: there are not two classes, or the folder is missing, or a mask that the table names.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        masks: str | Path | None = None,
        mask_px: int | None = None,
        lesion_from: int = 1,
        keys: KeysCollection = "places",
    ) -> None:
        super().__init__(keys)
        if len(table.class_names) != 2:
            raise RequestError(
                f"{table.source}: {len(table.class_names)} classes, expected 2 for masks, without and with lesion: leave out the "
                "overlay that learns from masks, masks.yaml, wang.yaml or segment_train.yaml"
            )
        self.table = table
        self.mask_of = self._masks(masks)
        self.cells = MaskCells(mask_px=mask_px, lesion_from=lesion_from)

    def _masks(self, masks: str | Path | None) -> dict[str, Path]:
        """The masks that targets are made from, by slide id."""
        raise NotImplementedError

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``lesion``.

        Raises:
            SlideError: a mask cannot be read or does not fit its slide.
        """
        item = dict(data)
        observed = item[self.keys[0]][0] != 0
        target = torch.full(observed.shape, UNKNOWN if item["label"] else NO_LESION, dtype=torch.uint8)
        if item["label"] == 1 and item["slide_id"] in self.mask_of:
            cells = self.cells.of(item["slide_id"])
            target = torch.where(torch.from_numpy(cells), LESION, NO_LESION).to(torch.uint8)
        target[~observed] = UNKNOWN
        item["lesion"] = target[None]
        return item

    def digest(self) -> str:
        """SHA-256 of what the targets are made from."""
        return self.cells.digest(self.mask_of)

    def _with_masks(self, split: Split) -> list[LesionItem]:
        """Items of a split, each with the path of its mask or ""."""
        return [{**item, "mask": str(self.mask_of.get(item["slide_id"], ""))} for item in self.table.items(split)]


class PatchTargets(LesionTargets):
    """Targets of the training slides, of which some of class 1 may have no mask; see :class:`LesionTargets` for the arguments.

    Raises:
        RequestError: as there, or no training slide of class 1 has a mask.
    """

    def __init__(self, table: EmbeddingTable, **common: Any) -> None:
        super().__init__(table, **common)
        if not self.mask_of:
            raise RequestError(
                f"{table.source}: no training slide of class {table.class_names[1]} has a mask; expected some: name their folder "
                "with --masks, fill the column mask, or leave out the overlay that learns from masks, masks.yaml or wang.yaml"
            )
        positive = [item for item in self._with_masks("train") if item["label"] == 1]
        self.cells.expect(item for item in positive if item["mask"])
        self._to_tell = f"{len(self.mask_of)} of {len(positive)} positive training slides have a mask"

    def _masks(self, masks: str | Path | None) -> dict[str, Path]:
        return training_masks(self.table, masks)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """As the base; the first call tells how many slides have a mask."""
        if self._to_tell:
            _LOGGER.info("%s", self._to_tell)
            self._to_tell = ""
        return super().__call__(data)


class SegmentationTargets(LesionTargets):
    """Targets of the slides of a split, those of class 1 by their masks; see :class:`LesionTargets` for the arguments."""

    def _masks(self, masks: str | Path | None) -> dict[str, Path]:
        return find_masks(self.table.rows, self.table.source, masks)

    def digest(self) -> str:
        """SHA-256 of what the network is trained and chosen by: test slides have no part in it."""
        used = {row.slide_id for row in self.table.rows if row.split in ("train", "val")}
        return self.cells.digest({slide_id: mask for slide_id, mask in self.mask_of.items() if slide_id in used})

    def items(self, split: Split) -> list[LesionItem]:
        """Items of :meth:`.training_table.EmbeddingTable.items`, without those of class 1 that have no mask.

        Raises:
            RequestError: no slide of the split shows a lesion.
        """
        items = self._with_masks(split)
        usable = [item for item in items if item["label"] == 0 or item["mask"]]
        self.cells.expect(item for item in usable if item["label"] == 1)
        if len(usable) < len(items):
            _LOGGER.warning("%d of %d positive slides have no mask and are left out of %s", len(items) - len(usable),
                            sum(item["label"] == 1 for item in items), split)  # fmt: skip
        if not any(item["label"] == 1 for item in usable):
            raise RequestError(
                f"{self.table.source}: no slide of class {self.table.class_names[1]} in split {split!r} has a mask; expected "
                "some: name their folder with --masks, or fill the column mask"
            )
        return usable
