"""Random patches with dark blobs on a smooth, coloured ground, somewhat like nuclei in tissue."""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_textures(count: int, *, seed: int = 0, side_px: int = 112) -> Tensor:
    """Patches (B, 3, side_px, side_px) in [0, 1], float32."""
    generator = torch.Generator().manual_seed(seed)
    ground = F.interpolate(torch.rand(count, 3, 4, 4, generator=generator), side_px, mode="bilinear")
    blobs = F.avg_pool2d(torch.rand(count, 1, side_px + 8, side_px + 8, generator=generator), 9, 1)
    dark = (blobs > torch.quantile(blobs.flatten(1), 0.9, dim=1).view(-1, 1, 1, 1)).float()
    return (0.5 + 0.5 * ground) * (1 - 0.7 * dark)
