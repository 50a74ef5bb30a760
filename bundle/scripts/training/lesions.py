"""What a segmentation learns from: masks, or where there is none the class activation map of a trained classifier; and the loss."""

import hashlib
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
from ..dsnet.heat_map import HeatMap
from ..dsnet.network import DSNet
from ..encoding.embedding_file import embedding_file
from ..slides.lesion_mask import find_masks, lesion_cells
from .batches import OBSERVED, image_of
from .card import load_model, network_from_card, read_card
from .leakage import refuse_seen
from .table import EmbeddingTable

_LOGGER = logging.getLogger(__name__)

IGNORED = -1


class LesionTargets:
    """The slides that a segmentation can learn from, and how their targets are made.

    A target holds 1 for lesion, 0 for none and `IGNORED` a cell of V's grid. Slides of class 0 are without lesion everywhere. A
    slide of class 1 takes its mask; without one the seeds of a classifier's heat map, of which the hot cells are lesion, the cold
    ones none, and those between are ignored; without a classifier it is left out. Where nothing was observed the target is ignored.

    Args:
        table: the dataset.
        masks: folder of masks named by slide id; None takes the table's column ``mask``.
        seeds: weights of a classifier trained on the same slides; None: masks alone.
        hot: heat from which on a cell is lesion, of the map's maximum.
        cold: heat up to which a cell is none.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.

    Raises:
        RequestError: there are not two classes, no lesion to learn from, or the classifier was trained on other features.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        *,
        masks: str | Path | None = None,
        seeds: str | Path | None = None,
        hot: float = 0.5,
        cold: float = 0.1,
        mask_px: int | None = None,
        lesion_from: int = 1,
    ) -> None:
        if len(table.class_names) != 2:
            raise RequestError(f"{table.source}: {len(table.class_names)} classes, expected 2: without and with lesion")
        if not 0 <= cold < hot <= 1:
            raise RequestError(f"targets#cold {cold} and targets#hot {hot}: expected 0 <= cold < hot <= 1")
        self.table = table
        self.mask_of = find_masks(table.rows, table.source, masks)
        self.mask_px = mask_px
        self.lesion_from = lesion_from
        self.seeding = None if seeds is None else Seeds(seeds, table, hot=hot, cold=cold)

    def items(self, split: str) -> list[dict[str, Any]]:
        """Items of :meth:`.table.EmbeddingTable.items` with a target each, and ``mask``, the path of their mask or "".

        Raises:
            RequestError: no slide of the split shows a lesion.
        """
        items = [{**item, "mask": str(self.mask_of.get(item["slide_id"], ""))} for item in self.table.items(split)]
        usable = [item for item in items if item["label"] == 0 or item["mask"] or self.seeding is not None]
        if len(usable) < len(items):
            _LOGGER.warning("%d of %d positive slides have no mask and are left out of %s", len(items) - len(usable),
                            sum(item["label"] == 1 for item in items), split)  # fmt: skip
        if not any(item["label"] == 1 for item in usable):
            raise RequestError(
                f"{self.table.source}: no slide of class {self.table.class_names[1]} in split {split!r} has a mask; expected "
                "some: name their folder with --masks, fill the column mask, or name a trained classifier with --seeds"
            )
        return usable

    def transform(self) -> "LoadLesiond":
        """The transform that makes the targets, behind ``LoadEmbeddingd``."""
        return LoadLesiond(seeding=self.seeding, mask_px=self.mask_px, lesion_from=self.lesion_from)

    def digest(self) -> str:
        """SHA-256 of what the targets are made from."""
        digest = hashlib.sha256(repr((self.mask_px, self.lesion_from, self.seeding and self.seeding.digest)).encode())
        for slide_id, path in sorted(self.mask_of.items()):
            digest.update(slide_id.encode() + path.read_bytes())
        return digest.hexdigest()


class Seeds:
    """Targets of positive slides from the heat map of a classifier, as in CAM-seeded segmentation (Kolesnikov, Lampert 2016).

    Args:
        model: weights of the classifier, its card beside them.
        table: the dataset.
        hot: heat from which on a cell is lesion.
        cold: heat up to which a cell is none.

    Raises:
        RequestError: no such model, or it does not belong to the dataset.
    """

    def __init__(self, model: str | Path, table: EmbeddingTable, *, hot: float, cold: float) -> None:
        card = read_card(model, named_by="--seeds")
        if card.architecture != DSNet.__name__:
            raise RequestError(
                f"{model}: a {card.architecture}, expected a classifier of train.yaml: name one with --seeds"
            )
        self.network = load_model(network_from_card(card), model, card, encoder=table.encoder).eval()
        self.hot = hot
        self.cold = cold
        self.heat_map = HeatMap()
        self.digest = (card.weights_sha256, hot, cold, self.heat_map.cam, self.heat_map.layer)
        if list(card.class_names) != table.class_names:
            raise RequestError(
                f"{model}: classes {list(card.class_names)}, expected those of {table.source}, {table.class_names}"
            )
        wanted = (table.channels, table.channel_range, table.thumbnail_levels)
        network, span = card.network, card.channel_range and list(card.channel_range)
        levels = card.thumbnail_levels
        if (network["embedding_channels"], span, levels) != wanted:
            raise RequestError(
                f"{model}: trained on {network['embedding_channels']} channels (range {span}) and {levels} thumbnail "
                f"levels, expected {wanted[0]} (range {wanted[1]}) and {wanted[2]}: give --table#channel_range and --table#levels "
                "as then"
            )
        refuse_seen(card, table)

    def __call__(self, image: Tensor) -> Tensor:
        """Return the target (H, W), int8, of ``image`` (1, C + 12L, H, W), a positive slide; one without any heat is ignored."""
        heat = torch.from_numpy(self.heat_map(self.network, image, 1))
        target = torch.full(heat.shape, IGNORED, dtype=torch.int8)
        if heat.max() > 0:
            target[heat <= self.cold] = 0
            target[heat >= self.hot] = 1
        return target


class LoadLesiond(MapTransform):
    """Set ``lesion`` (1, H, W), int8: 1 lesion, 0 none, `IGNORED` otherwise; see :class:`LesionTargets`.

    Keys: `.batches.OBSERVED`, which must be there, as ``embedding``, ``slide``, ``label`` and ``mask`` of the item.
    """

    def __init__(
        self, keys: KeysCollection = OBSERVED, *, seeding: Seeds | None, mask_px: int | None, lesion_from: int
    ) -> None:
        super().__init__(keys)
        self.seeding = seeding
        self.mask_px = mask_px
        self.lesion_from = lesion_from

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with ``lesion``.

        Raises:
            SlideError: the mask cannot be read or does not fit the slide.
        """
        item = dict(data)
        observed = item["places"][0] != 0
        if item["label"] == 1 and item["mask"]:
            grid = embedding_file(Path(item["embedding"])).grid
            cells = lesion_cells(
                Path(item["mask"]), grid, slide=Path(item["slide"]), mask_px=self.mask_px, lesion_from=self.lesion_from
            )
            target = torch.from_numpy(cells.astype(np.int8))
        elif item["label"] == 1 and self.seeding is not None:
            target = self.seeding(image_of(item))
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
        """Loss of logits (B, 1, H, W) and targets (B, 1, H, W) of 0, 1 and `IGNORED`."""
        known = target != IGNORED
        loss: Tensor = self.loss(logits[known].float()[None, None], target[known].float()[None, None])
        return loss
