"""Random matrices of slides, as tensors."""

import torch
from torch import Tensor
from torch.nn.functional import pixel_unshuffle


def pack(v: Tensor, t: Tensor) -> Tensor:
    """``image`` (..., C + 12L, H, W) of V (..., C, H, W) and T (..., 3L, 2H, 2W), white as 0."""
    return torch.cat([v, pixel_unshuffle(t, 2)], dim=-3)


def random_mask(batch: int, height: int, width: int, *, seed: int = 0, share: float = 0.4) -> Tensor:
    """O of random observed positions, float64; each map has some of both kinds."""
    generator = torch.Generator().manual_seed(seed)
    o = (torch.rand(batch, 1, height, width, generator=generator) < share).double()
    o[:, :, 0, 0] = 1
    o[:, :, -1, 0] = 0
    return o


def random_map(o: Tensor, channels: int, *, seed: int = 1, mean: float = 0.0) -> Tensor:
    """A float64 map of normal values, zero off the mask."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(o.shape[0], channels, *o.shape[2:], generator=generator, dtype=torch.float64)
    return (x + mean) * o


def random_image(
    height: int, width: int, *, seed: int = 0, share: float = 0.5, embedding_channels: int = 128, levels: int = 3
) -> Tensor:
    """``image`` (C + 12L, H, W) of one slide whose observed patches reach all four borders, float32."""
    o = random_mask(1, height, width, seed=seed, share=share)
    o[..., -1, -1] = 1
    generator = torch.Generator().manual_seed(seed + 1000)
    t = torch.rand(3 * levels, 2 * height, 2 * width, generator=generator)
    return pack(random_map(o, embedding_channels, seed=seed + 2000)[0].float(), t)
