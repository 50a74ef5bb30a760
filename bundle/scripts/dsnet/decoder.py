"""From the joint map of both streams back to V's grid: logits per patch (the extension of section VI)."""

from torch import Tensor, nn
from torch.nn import functional as F

from .sparse import LEAKY_SLOPE, SparseBatchNorm2d, SparseConv2d, SparseMap, SparseUnit
from .streams import EMBEDDING_BLOCKS

DECODER_CHANNELS = (128, 64)
"""Ours: outputs of the decoder at half of V's grid and at V's grid."""


class PatchDecoder(nn.Module):
    """Back to V's grid in two steps; each doubles the map, joins what entered the encoder's stride there, and convolves it.

    Args:
        in_channels: channels of the joint map.
        embedding_channels: C, channels of V.
        outputs: logits per patch.
        dropout: share of the last map's values that are left out in training.
    """

    def __init__(self, in_channels: int, embedding_channels: int, outputs: int = 1, *, dropout: float = 0.0) -> None:
        super().__init__()
        half, full = DECODER_CHANNELS
        self.join_half = JoinUnit(in_channels, EMBEDDING_BLOCKS[1][0], half)
        self.convolve_half = SparseUnit(half, half, 5, separable=True)
        self.join_full = JoinUnit(half, embedding_channels, full)
        self.convolve_full = SparseUnit(full, full, 5, separable=True)
        self.dropout = nn.Dropout(dropout)
        self.lesion = nn.Conv2d(full, outputs, 1)

    def forward(self, joint: SparseMap, skips: list[SparseMap]) -> Tensor:
        """Return logits (B, outputs, H, W) from the joint map, and the maps at V's grid and at half of it."""
        half = self.convolve_half(self.join_half(joint, skips[1]))
        full = self.convolve_full(self.join_full(half, skips[0]))
        return self.lesion(self.dropout(full.values))


class JoinUnit(nn.Module):
    """Sparse 1x1 convolution of a doubled map joined with a finer one, norm, leaky ReLU.

    Doubling is linear, so the coarse map is convolved before it is doubled, where there is a quarter of the cells.

    Args:
        coarse_channels: channels of the map that is doubled.
        fine_channels: channels of the other.
        out_channels: channels of the output.
    """

    def __init__(self, coarse_channels: int, fine_channels: int, out_channels: int) -> None:
        super().__init__()
        self.coarse_channels = coarse_channels
        self.conv = SparseConv2d(coarse_channels + fine_channels, out_channels, 1)
        self.norm = SparseBatchNorm2d(out_channels)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, coarse: SparseMap, fine: SparseMap) -> SparseMap:
        """Return the joint map on the grid of ``fine``, with its mask."""
        weight, o = self.conv.conv.weight, fine.observed
        doubled = double_aligned(F.conv2d(coarse.values, weight[:, : self.coarse_channels]), coarse.observed, o)
        x = doubled + F.conv2d(fine.values, weight[:, self.coarse_channels :]) + self.conv.bias.view(1, -1, 1, 1)
        return SparseMap(self.activation(self.norm(x, o)), o, fine.extent)


def double_aligned(x: Tensor, o: Tensor, target_o: Tensor) -> Tensor:
    """Double a map of stride 2: cell i is centred on cell 2i of the target, cells between are linear.

    Only cells with ``o`` one take part; those beyond the last take its value. The map is zero where ``target_o`` is.

    Args:
        x: (B, C, ceil(H/2), ceil(W/2)), zero wherever ``o`` is.
        o: its mask.
        target_o: mask at the target, (B, 1, H, W).

    Returns:
        (B, C, H, W).
    """
    weight = _doubled(o, target_o)  # a quarter or more wherever there is anything
    return _doubled(x, target_o) * (target_o / weight.clamp(min=0.125))


def _doubled(x: Tensor, target: Tensor) -> Tensor:
    """Double a map by linear interpolation, cut to the size of ``target``; the last row and column are repeated."""
    height, width = x.shape[2], x.shape[3]
    x = F.interpolate(x, size=(2 * height - 1, 2 * width - 1), mode="bilinear", align_corners=True)
    return F.pad(x, (0, 1, 0, 1), mode="replicate")[:, :, : target.shape[2], : target.shape[3]]
