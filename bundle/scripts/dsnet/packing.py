"""One tensor for both matrices: ``image`` = [V || pixel_unshuffle(T, 2)], because every MONAI tool feeds one tensor."""

import torch
from torch import Tensor
from torch.nn import functional as F

T_PIXELS_PER_PATCH = 2  # the finest thumbnail has 2x2 pixels per patch, so that T's grid is exactly twice V's


def pack(v: Tensor, t: Tensor) -> Tensor:
    """Join V (..., C, H, W) and T (..., 3L, 2H, 2W) into ``image`` (..., C + 12L, H, W).

    T is absorbance-like, 1 - intensity, so that white glass is zero and padding with zeros is padding with empty glass.

    Raises:
        ValueError: T's grid is not exactly twice V's.
    """
    height, width = v.shape[-2:]
    if tuple(t.shape[-2:]) != (2 * height, 2 * width):
        raise ValueError(
            f"T must be {2 * height} x {2 * width}, twice V's grid of {height} x {width}; got {tuple(t.shape[-2:])}"
        )
    return torch.cat([v, F.pixel_unshuffle(t, T_PIXELS_PER_PATCH)], dim=-3)


def unpack(image: Tensor, embedding_channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split ``image`` (B, C + 12L, H, W) into V (B, C, H, W), O (B, 1, H, W) and T (B, 3L, 2H, 2W).

    O is one where any channel of V is not zero.
    """
    v = image[:, :embedding_channels]
    o = (v != 0).any(dim=1, keepdim=True).to(image.dtype)
    return v, o, F.pixel_shuffle(image[:, embedding_channels:], 2)
