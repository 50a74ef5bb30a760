"""Slides as `LoadEmbeddingd` gives them, and V of one on its grid."""

from typing import Any

import torch
from torch import Tensor

from scripts.dsnet.packing import unpack
from scripts.training.batches import image_of

LEVELS = 3


def slide_of(rows: int, columns: int, *, channels: int = 2, **further: Any) -> dict[str, Any]:
    """A slide whose patches were all observed, v 1 everywhere, black all over."""
    v = torch.ones(channels, rows, columns)
    return {**item_of(v, torch.zeros(3 * LEVELS, 2 * rows, 2 * columns)), **further}


def item_of(v: Tensor, t: Tensor) -> dict[str, Any]:
    """The slide of V (C, H, W) and of T as intensities (3L, 2H, 2W)."""
    observed = (v != 0).any(dim=0)
    places = torch.zeros(1, *observed.shape, dtype=torch.int32)
    places[0, observed] = torch.arange(1, 1 + int(observed.sum()), dtype=torch.int32)
    return {"vectors": v[:, observed].T, "places": places, "t": t.to(torch.uint8)}


def v_of(item: dict[str, Any]) -> Tensor:
    """V (C, H, W) as the network gets it."""
    return unpack(image_of(item), item["vectors"].shape[1])[0][0]
