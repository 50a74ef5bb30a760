"""Nuclei out of the detection map D': its local maxima above a threshold."""

import torch
from torch import Tensor
from torch.nn import functional as F

CELL_PX = 4
"""Side of a location of D' in pixels of the network input (2.3 um at the resolution of the patches)."""


def local_maxima(detection: Tensor, *, threshold: Tensor | float, reach: int = 1) -> Tensor:
    """Find the nuclei in detection maps.

    Args:
        detection: D' (B, 1, H, W).
        threshold: what a maximum must exceed; with that of the crosswise mask, every maximum is an active location.
        reach: locations in each direction among which a maximum is the only one.

    Returns:
        True at the maxima, (B, 1, H, W); equal neighbours count as one maximum each.
    """
    highest = F.max_pool2d(detection, 2 * reach + 1, stride=1, padding=reach)
    return (detection == highest) & (detection > torch.as_tensor(threshold, device=detection.device))
