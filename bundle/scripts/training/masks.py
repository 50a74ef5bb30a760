"""Lesion masks of some of the training slides as a further loss of a network that decides at the patch.

Used by masks.yaml and wang.yaml. Targets hold 0 unknown, 1 no lesion, 2 lesion, so that zeros teach nothing and positive slides
without a mask can stay; :mod:`.lesions`, for segment_train.yaml, has 0 no lesion, 1 lesion, -1 ignored.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection
from monai.losses import DiceCELoss
from monai.transforms import MapTransform
from torch import Tensor, nn
from torch.nn import functional as F

from ..common.errors import RequestError
from ..common.option_table import checked
from ..dsnet.heat_map import Network
from ..dsnet.network import DSNet
from ..slides.lesion_mask import digest_of_masks, find_masks
from ..slides.table import find_label
from .batches import prepare_batch
from .mask_cells import MaskCells
from .training_table import EmbeddingTable

_LOGGER = logging.getLogger(__name__)

_OVERLAYS = "the overlay that learns from masks, masks.yaml or wang.yaml"

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


class LoadPatchTargetsd(MapTransform):
    """Set ``lesion`` (1, H, W), uint8, the target of each cell of V's grid: `LESION`, `NO_LESION` or `UNKNOWN`.

    Slides of class 0 have no lesion anywhere. Of a slide of class 1 the mask says where; without one nothing is known. Where no
    patch was observed nothing is known either. Stands behind ``LoadEmbeddingd``.

    Args:
        table: the dataset.
        masks: folder of masks named by slide id; None takes the table's column ``mask``.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.
        keys: the places, with ``slide_id`` and ``label`` beside it.

    Raises:
        RequestError: there are not two classes, or no training slide of class 1 has a mask.
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
                f"{table.source}: {len(table.class_names)} classes, expected 2 for masks, without and with lesion: leave out "
                f"{_OVERLAYS}"
            )
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self.mask_of = training_masks(table, masks)
        if not self.mask_of:
            raise RequestError(
                f"{table.source}: no training slide of class {table.class_names[1]} has a mask; expected some: name their folder "
                f"with --masks, fill the column mask, or leave out {_OVERLAYS}"
            )
        positive = [item for item in table.items("train") if item["label"] == 1]
        self._to_tell = f"{len(self.mask_of)} of {len(positive)} positive training slides have a mask"
        self.cells = MaskCells(mask_px=mask_px, lesion_from=lesion_from)
        masked = (item for item in positive if item["slide_id"] in self.mask_of)
        self.cells.expect({**item, "mask": str(self.mask_of[item["slide_id"]])} for item in masked)

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``lesion``.

        Raises:
            SlideError: a mask cannot be read or does not fit its slide.
        """
        if self._to_tell:
            _LOGGER.info("%s", self._to_tell)
            self._to_tell = ""
        item = dict(data)
        observed = item[self.keys[0]][0] != 0
        target = torch.full(observed.shape, UNKNOWN if item["label"] else NO_LESION, dtype=torch.uint8)
        if item["slide_id"] in self.mask_of:
            cells = self.cells.of(item["slide_id"])
            target = torch.where(torch.from_numpy(cells), LESION, NO_LESION).to(torch.uint8)
        target[~observed] = UNKNOWN
        item["lesion"] = target[None]
        return item

    def digest(self) -> str:
        """SHA-256 of what the targets are made from."""
        return digest_of_masks(self.mask_of, mask_px=self.mask_px, lesion_from=self.lesion_from)


def with_patches(network: Network) -> Network:
    """Let ``forward`` of ``network`` return the logits of the slide and of its patches, as :class:`SlideAndPatchLoss` takes them.

    Weights and all other methods stay. The network can no longer be scripted; a new one that takes its weights can.

    Raises:
        RequestError: it has no logits of patches.
    """
    if not isinstance(network, DSNet) or network.decoder is None:
        raise RequestError(
            "network_def: this network decides at the slide, expected head patch for masks: put recommended.yaml before masks.yaml"
        )
    network.forward = network.decide  # type: ignore[assignment]
    return network


def label_and_lesion_batch(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``prepare_batch`` of a trainer: ``image``, and ``label`` with ``lesion``."""
    image, label = prepare_batch(batch, device, non_blocking, **kwargs)
    return image, (label, batch["lesion"].to(device=device, non_blocking=non_blocking, **kwargs))


class SlideAndPatchLoss(nn.Module):
    """Loss of the slides, and ``weight`` times MONAI's ``DiceCELoss`` over the cells of a batch that are known.

    The slides of a batch are taken together, as most of them hold no lesion.

    Args:
        of_slides: loss of logits (B, 2) and labels (B,).
        weight: of the cells.

    Raises:
        RequestError: ``weight`` is negative.
    """

    def __init__(self, of_slides: nn.Module, weight: float) -> None:
        super().__init__()
        self.of_slides = of_slides
        self.weight = checked("mask_loss#weight", weight)
        self.of_cells = DiceCELoss(sigmoid=True)

    def forward(self, logits: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of logits of slides (B, 2) and patches (B, 2, H, W), and of labels (B,) and lesions (B, 1, H, W)."""
        slides, patches = logits
        labels, lesion = targets
        loss: Tensor = self.of_slides(slides, labels)
        known = lesion != UNKNOWN
        if known.any():
            found = (patches[:, 1:] - patches[:, :1])[known].float()
            loss = loss + self.weight * self.of_cells(found[None, None], (lesion[known] == LESION).float()[None, None])
        return loss


class PatchLoss(nn.Module):
    """Cross-entropy of the patches that masks or class 0 tell of: a lesion has the class of its slide, all else the first."""

    def forward(self, patches: Tensor, targets: tuple[Tensor, Tensor]) -> Tensor:
        """Loss of logits (B, K, H, W), and of labels (B,) and lesions (B, 1, H, W); the mean over the patches of the batch."""
        labels, lesion = targets
        classes = torch.where(lesion[:, 0] == LESION, labels.view(-1, 1, 1), 0)
        known = lesion[:, 0] != UNKNOWN
        loss: Tensor = (F.cross_entropy(patches, classes, reduction="none") * known).sum() / known.sum().clamp(min=1)
        return loss
