"""What judges one patch in the patch-wise methods: a perceptron on its vector of V, or a CNN where V holds raw patches."""

from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import PatchNetwork
from ..dsnet.checkpointing import checkpointed
from ..dsnet.sparse import LEAKY_SLOPE
from .picture_resnet import resnet_of

LEAST_SIDE_PX = 32
"""To which side a ResNet reduces by 32."""

PATCHES_AT_ONCE = 128


def make_patch_network(
    kind: PatchNetwork, channels: int, num_classes: int, *, width: int = 128, dropout: float = 0.0
) -> nn.Module:
    """Make a network that maps vectors of V, standardised (..., C), zero where no patch was observed, to logits (..., K).

    Args:
        kind: "perceptron"; or "resnet18", "resnet34", "resnet50" on raw patches.
        channels: C.
        num_classes: K.
        width: hidden units of a perceptron.
        dropout: share of these that is left out in training.

    Raises:
        RequestError: there is no such network, or V holds no raw patches for it.
    """
    if checked("patch_network", kind) != "perceptron":
        return PatchResNet(int(kind.removeprefix("resnet")), channels, num_classes)
    return nn.Sequential(
        nn.Linear(channels, width), nn.LeakyReLU(LEAKY_SLOPE), nn.Dropout(dropout), nn.Linear(width, num_classes)
    )


class PatchResNet(nn.Module):
    """MONAI's ResNet, untrained, on each observed patch; its stem steps by 2 (He et al. 2016), where MONAI's steps by 1.

    A vector of V holds a patch as :class:`..encoding.raw.RawPatches` leaves it. Patches go through some at a time, each time
    drawn evenly from all slides of the batch, so that batch norm sees them together. In training these are computed twice
    instead of kept, so that memory does not grow with the slides.

    Args:
        depth: 18, 34 or 50.
        channels: C = 3 side^2.
        num_classes: K.

    Raises:
        RequestError: C is no such number, or the side is under 32 px.
    """

    def __init__(self, depth: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.side_px = isqrt(channels // 3)
        if channels != 3 * self.side_px**2 or self.side_px < LEAST_SIDE_PX:
            raise RequestError(
                f"network_def#patch_network resnet{depth}: V has {channels} channels, expected raw patches of at least "
                f"{LEAST_SIDE_PX} px (3 side^2 channels): encode the slides with encode_raw.yaml, or leave raw_patches.yaml out"
            )
        self.channels = channels
        self.num_classes = num_classes
        self.at_once = PATCHES_AT_ONCE  # TorchScript sees no globals
        self.resnet = resnet_of(depth, 3, num_classes, conv1_t_stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (..., K) of x (..., C), zeros where no patch was observed."""
        vectors = x.reshape(-1, self.channels)
        seen = (vectors != 0).any(dim=1)
        pixels = vectors[seen].view(-1, 3, self.side_px, self.side_px)
        found = torch.zeros(pixels.shape[0], self.num_classes, device=x.device)
        parts = (pixels.shape[0] + self.at_once - 1) // self.at_once
        for first in range(parts):
            part = pixels[first::parts]
            found[first::parts] = self._learn(part) if self.training else self.resnet(part)
        logits = torch.zeros(vectors.shape[0], self.num_classes, device=x.device)
        logits[seen] = found
        return logits.unflatten(0, x.shape[:-1])

    @torch.jit.unused
    def _learn(self, pixels: Tensor) -> Tensor:
        if len(pixels) == 1:  # of which batch norm makes nothing
            return self._learn(pixels.expand(2, -1, -1, -1))[:1]
        logits: Any = checkpointed(self.resnet, self.resnet.forward, pixels)
        return logits
