"""A batch of slides: the vectors of their observed patches, from which the network's one tensor is made on its device."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import torch
from monai.data import list_data_collate
from monai.utils import convert_to_tensor
from torch import Tensor
from torch.nn import functional as F

from ..dsnet.packing import WHITE, pack_observed
from ..slides.geometry import T_PIXELS_PER_PATCH

OBSERVED = ("vectors", "places", "t")
"""What :class:`.transforms.LoadEmbeddingd` gives of a slide."""


class PadCollate:
    """Collate slides of different size; V stays the list of its observed vectors, in the type in which the files hold them.

    Each slide has ``vectors`` (N, C) and ``places`` (1, H, W). The batch has ``vectors`` (n, C), those of all places, slide by
    slide in row-major order, and ``cells`` (n,), where they lie in (B, H, W). ``t`` is filled up with white on the right and at
    the bottom, other maps with the value given. All are plain tensors: a MetaTensor looks at every operator of the network,
    which takes longer than many of them.

    Args:
        fill: value beyond a slide, by the key of a further map on V's grid.
        multiple: rows and columns of the grid are filled up to a multiple of it. Where every batch has a size of its own, oneDNN
            builds its convolutions anew for each, which takes longer than to compute some of them.
    """

    def __init__(self, fill: Mapping[str, float] | None = None, *, multiple: int = 1) -> None:
        self.fill = {"places": 0, "t": WHITE, **(fill or {})}
        self.multiple = multiple

    def __call__(self, batch: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
        """Return the batch.

        Raises:
            ValueError: the grid of a slide's T is not exactly twice V's.
        """
        items = [dict(item) for item in batch]
        vectors = []
        for item in items:
            for key in self.fill:
                item[key] = convert_to_tensor(item[key], track_meta=False)
            _require_twice(item["places"], item["t"])
            vectors.append(item.pop("vectors")[numbers_of(item["places"])])
        for key, value in self.fill.items():
            step = self.multiple * (T_PIXELS_PER_PATCH if key == "t" else 1)
            height, width = (step * ceil(max(item[key].shape[axis] for item in items) / step) for axis in (-2, -1))
            for item in items:
                margins = (0, width - item[key].shape[-1], 0, height - item[key].shape[-2])
                item[key] = F.pad(item[key], margins, value=value)
        collated: dict[Any, Any] = list_data_collate(items)
        collated["cells"] = torch.nonzero(collated.pop("places").flatten()).squeeze(1)
        collated["vectors"] = torch.cat(vectors) if len(vectors) > 1 else vectors[0]
        return collated


def numbers_of(places: Tensor) -> Tensor:
    """Return which vectors lie on a map of places, counted from 0, in the row-major order of their cells."""
    return places[places != 0].long() - 1


def _require_twice(places: Tensor, t: Tensor) -> None:
    expected = tuple(T_PIXELS_PER_PATCH * side for side in places.shape[-2:])
    if tuple(t.shape[-2:]) != expected:
        raise ValueError(
            f"T must be {expected[0]} x {expected[1]}, twice V's grid of {places.shape[-2]} x {places.shape[-1]}; got "
            f"{tuple(t.shape[-2:])}"
        )


def dense_image(batch: dict[str, Any], device: str | torch.device | None, non_blocking: bool = False) -> Tensor:
    """Return ``image`` (B, C + 12L, H, W) of a batch of :class:`PadCollate` on ``device``.

    In the batch it takes the place of what it is made from, so that whoever looks at the batch later finds it there.
    """
    if "image" not in batch:
        parts = (batch.pop(key).to(device=device, non_blocking=non_blocking) for key in ("vectors", "cells", "t"))
        batch["image"] = pack_observed(*parts)
    image: Tensor = batch["image"].to(device=device, non_blocking=non_blocking)
    return image


def image_of(item: Mapping[Any, Any], device: str | torch.device = "cpu") -> Tensor:
    """Return ``image`` (1, C + 12L, H, W) of one slide on ``device``."""
    return dense_image(PadCollate()([{key: item[key] for key in OBSERVED}]), device)


def prepare_batch(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """``prepare_batch`` of an engine: ``image`` and ``label``."""
    return dense_image(batch, device, non_blocking), batch["label"].to(
        device=device, non_blocking=non_blocking, **kwargs
    )


def label_and_lesion_batch(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``prepare_batch`` of a trainer: ``image``, and ``label`` with ``lesion``."""
    image, label = prepare_batch(batch, device, non_blocking, **kwargs)
    return image, (label, batch["lesion"].to(device=device, non_blocking=non_blocking, **kwargs))
