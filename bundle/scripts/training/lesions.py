"""What a segmentation learns from, lesion masks, and the loss.

Used by segment_train.yaml. Targets hold 0 no lesion, 1 lesion, -1 ignored, as the loss takes them; :mod:`.masks`, for masks.yaml
and wang.yaml, has 0 unknown, 1 no lesion, 2 lesion.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.losses import DiceCELoss
from monai.transforms import MapTransform
from torch import Tensor, nn

from ..common.errors import RequestError
from ..common.option_words import Split
from ..dsnet.segmentation import NO_TISSUE_LOGIT
from ..slides.lesion_mask import digest_of_masks, find_masks
from .mask_cells import MaskCells
from .slide_item import LesionItem
from .training_table import EmbeddingTable

_LOGGER = logging.getLogger(__name__)

IGNORED = -1


class LesionTargets:
    """The slides that a segmentation can learn from, and how their targets are made.

    A target holds per cell of V's grid 1 for lesion, 0 for none, or `IGNORED`. Slides of class 0 are without lesion everywhere. A
    slide of class 1 takes its mask; without one it is left out. Where nothing was observed the target is ignored.

    Args:
        table: the dataset.
        masks: folder of masks named by slide id; None takes the table's column ``mask``.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.

    Raises:
        RequestError: there are not two classes.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        masks: str | Path | None = None,
        mask_px: int | None = None,
        lesion_from: int = 1,
    ) -> None:
        if len(table.class_names) != 2:
            raise RequestError(f"{table.source}: {len(table.class_names)} classes, expected 2: without and with lesion")
        self.table = table
        self.mask_of = find_masks(table.rows, table.source, masks)
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self.cells = MaskCells(mask_px=mask_px, lesion_from=lesion_from)

    def items(self, split: Split) -> list[LesionItem]:
        """Items of :meth:`.training_table.EmbeddingTable.items` with a target each, and ``mask``, the path of their mask or "".

        Raises:
            RequestError: no slide of the split shows a lesion.
        """
        items: list[LesionItem] = [
            {**item, "mask": str(self.mask_of.get(item["slide_id"], ""))} for item in self.table.items(split)
        ]
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

    def transform(self) -> "LoadLesiond":
        """The transform that makes the targets, behind ``LoadEmbeddingd``."""
        return LoadLesiond(self.cells)

    def digest(self) -> str:
        """SHA-256 of what the targets of the training and validation slides are made from."""
        used = {row.slide_id for row in self.table.rows if row.split in ("train", "val")}
        masks = {slide_id: mask for slide_id, mask in self.mask_of.items() if slide_id in used}
        return digest_of_masks(masks, mask_px=self.mask_px, lesion_from=self.lesion_from)


class LoadLesiond(MapTransform):
    """Set ``lesion`` (1, H, W), int8: 1 lesion, 0 none, `IGNORED` otherwise; see :class:`LesionTargets`.

    Args:
        cells: those of the slides of class 1.
        keys: where each cell's vector is, 0 for none, with ``slide_id`` and ``label`` beside it.
    """

    def __init__(self, cells: MaskCells, keys: KeysCollection = "places") -> None:
        super().__init__(keys)
        self.cells = cells

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``lesion``.

        Raises:
            SlideError: a mask cannot be read or does not fit its slide.
        """
        item = dict(data)
        observed = item[self.keys[0]][0] != 0
        if item["label"] == 1:
            target = torch.from_numpy(self.cells.of(item["slide_id"]).astype(np.int8))
        else:
            target = torch.zeros(observed.shape, dtype=torch.int8)
        target[~observed] = IGNORED
        item["lesion"] = target[None]
        return item


class LesionLoss(nn.Module):
    """MONAI's ``DiceCELoss`` over the cells of a batch that have a target, all slides together: most slides hold no lesion."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DiceCELoss(sigmoid=True)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of logits (B, 1, H, W) and targets (B, 1, H, W) of 0, 1 and `IGNORED`; patches left out by chance do not count."""
        known = (target != IGNORED) & (logits != NO_TISSUE_LOGIT)
        loss: Tensor = self.loss(logits[known].float()[None, None], target[known].float()[None, None])
        return loss
