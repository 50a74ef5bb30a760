"""S-CAE, the sparse convolutional autoencoder that turns a patch into its representative vector v (III-B, Fig. 2)."""

from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..common.option_table import checked
from ..common.option_words import Strategy
from ..slides.geometry import PATCH_PX
from .crosswise import CrosswiseMask

FOREGROUND_CHANNELS = 96
BACKGROUND_CHANNELS = 32


class Decomposition(NamedTuple):
    """What S-CAE makes of a batch of patches; maps are None where the strategy has no such branch."""

    reconstruction: Tensor  # (B, 3, 112, 112)
    foreground: Tensor | None  # decoded foreground, (B, 3, 112, 112)
    background: Tensor  # decoded background (the whole of it for "mixed"), (B, 3, 112, 112)
    mask: Tensor | None  # crosswise mask, (B, 1, 28, 28)
    vector: Tensor  # v, (B, C); of the soft mask in training


class Bottleneck(nn.Module):
    """Residual bottleneck (He et al. 2016): 1x1 to a quarter, 3x3 (stride), 1x1, projection where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        width = out_channels // 4
        self.residual = nn.Sequential(
            *_unit(in_channels, width, 1), *_unit(width, width, 3, stride=stride), *_unit(width, out_channels, 1)[:-1]
        )
        same = stride == 1 and in_channels == out_channels
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_unit(in_channels, out_channels, 1, stride=stride)[:-1])
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, H/stride, W/stride)."""
        return self.activation(self.residual(x) + self.shortcut(x))


def _unit(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    # zeros around the patch would look like an edge and light the border of the detection map
    padding_mode: Literal["replicate", "zeros"] = "replicate" if kernel_size > 1 else "zeros"
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False, padding_mode=padding_mode
    )
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _decoder(widths: tuple[int, ...], upsample_after: tuple[int, ...]) -> nn.Sequential:
    """3x3 convolutions through ``widths``, doubling the size (nearest) after the named ones; no transposed convolution."""
    layers: list[nn.Module] = []
    for index, (in_channels, out_channels) in enumerate(pairwise(widths)):
        last = index == len(widths) - 2
        layers += (
            [nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="replicate")]
            if last
            else _unit(in_channels, out_channels, 3)
        )
        if index in upsample_after:
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
    return nn.Sequential(*layers)


def _first(maps: Tensor, count: int | None) -> Tensor:
    """Return the maps of the first ``count`` patches; where it is None all, unsliced: a slice changes the memory layout."""
    return maps if count is None else maps[:count]


class SCAE(nn.Module):
    """Two encoding branches on a shared trunk, each with its own decoder; the decodings are added.

    The trunk ends at 28x28, 2.3 um per cell. Most parameters stand in the decoders at 7x7 to 28x28, which encoding does not run.

    Args:
        strategy: what v is made of (Table V). "separated": [sparse mean of F (96) || mean of B (32)]; "foreground" and
            "background" keep one part of the same network; "mixed" is one dense branch of 128 channels and no mask.
        sparsity_rate: rho, percentile of the detection map above which a location is active (in percent).
        momentum: m of the running threshold.
        sharpness: r of the soft mask.

    Raises:
        RequestError: an unknown strategy.
    """

    input_px = PATCH_PX

    def __init__(
        self,
        *,
        strategy: Strategy = "separated",
        sparsity_rate: float = 90.0,
        momentum: float = 0.9,
        sharpness: float = 20.0,
    ) -> None:
        super().__init__()
        self.strategy: Strategy = checked("strategy", strategy)
        self.trunk = nn.Sequential(
            *_unit(3, 32, 5, stride=2), Bottleneck(32, 64, stride=2), Bottleneck(64, 128), Bottleneck(128, 128)
        )
        dense_channels = BACKGROUND_CHANNELS
        if strategy == "mixed":
            dense_channels += FOREGROUND_CHANNELS
        else:
            self.to_foreground = nn.Conv2d(128, FOREGROUND_CHANNELS, 1)
            self.detect = CrosswiseMask(128, sparsity_rate=sparsity_rate, momentum=momentum, sharpness=sharpness)
            self.decode_foreground = _decoder((FOREGROUND_CHANNELS, 64, 24, 3), upsample_after=(0, 1))
        self.to_background = nn.Sequential(
            Bottleneck(128, 128, stride=2), Bottleneck(128, 256, stride=2), nn.Conv2d(256, dense_channels, 1)
        )
        width = 376 if strategy == "mixed" else 408  # so that all strategies have 2.4 M parameters
        self.decode_background = _decoder((dense_channels, width, width, 128, 48, 24, 3), upsample_after=(1, 2, 3, 4))

    @property
    def channels(self) -> int:
        """C, the length of v."""
        return {"foreground": FOREGROUND_CHANNELS, "background": BACKGROUND_CHANNELS}.get(
            self.strategy, FOREGROUND_CHANNELS + BACKGROUND_CHANNELS
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Reconstruct patches (B, 3, 112, 112) in [0, 1]."""
        return self.decompose(patches).reconstruction

    def decompose(self, patches: Tensor, *, decoded: int | None = None) -> Decomposition:
        """Reconstruct patches and keep the parts (Fig. 2); ``decoded``: decode that many of them, the first."""
        trunk = self.trunk(patches)
        dense = torch.sigmoid(self.to_background(trunk))
        background = self.decode_background(_first(dense, decoded))
        if self.strategy == "mixed":
            return Decomposition(background, None, background, None, self._pool(dense, None, None))
        mask = self.detect(trunk)
        sparse = torch.sigmoid(self.to_foreground(trunk)) * mask
        foreground = self.decode_foreground(_first(sparse, decoded))
        return Decomposition(foreground + background, foreground, background, mask, self._pool(dense, sparse, mask))

    def encode(self, patches: Tensor) -> Tensor:
        """Encode patches (B, 3, 112, 112) in [0, 1] to v (B, C), in [0, 1]; no active location gives a foreground of zeros."""
        trunk = self.trunk(patches)
        sparse = mask = dense = None
        if self.strategy in ("separated", "foreground"):
            mask = self.detect.hard(trunk)
            sparse = torch.sigmoid(self.to_foreground(trunk)) * mask
        if self.strategy != "foreground":
            dense = torch.sigmoid(self.to_background(trunk))
        return self._pool(dense, sparse, mask)

    def _pool(self, dense: Tensor | None, sparse: Tensor | None, mask: Tensor | None) -> Tensor:
        """Return v: the mean of F over its active locations, and that of B over all."""
        parts = []
        if self.strategy in ("separated", "foreground") and sparse is not None and mask is not None:
            parts.append(sparse.sum(dim=(2, 3)) / mask.sum(dim=(2, 3)).clamp(min=1.0))
        if self.strategy != "foreground" and dense is not None:
            parts.append(dense.mean(dim=(2, 3)))
        return torch.cat(parts, dim=1)
