"""Building blocks of DSNet's two streams (III-C.a, Fig. 4, Table I) and their fusion (III-C.b)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sparse import LEAKY_SLOPE, SparseBatchNorm2d, SparseMap, SparseUnit, sparse_max_pool, sparse_mean


class DenseUnit(nn.Module):
    """Convolution, norm, leaky ReLU on a map that is dense inside the slide's extent (thumbnail stream)."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, separable: bool = False
    ) -> None:
        super().__init__()
        first = in_channels if separable else out_channels
        groups = in_channels if separable else 1
        self.conv = nn.Conv2d(in_channels, first, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.pointwise = nn.Conv2d(first, out_channels, 1, bias=False) if separable else nn.Identity()
        self.norm = SparseBatchNorm2d(out_channels)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
        self.stride = stride

    def forward(self, x: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map and its extent, (B, ., ceil(H/stride), ceil(W/stride))."""
        extent = F.max_pool2d(extent, self.stride, self.stride, ceil_mode=True)
        return self.activation(self.norm(self.pointwise(self.conv(x)), extent)), extent


class MultiScaleBlock(nn.Module):
    """Parallel 1x1 and separable 3x3, 5x5, 7x7 convolutions, a quarter of the outputs each, joined by a 1x1 (Fig. 4a).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 4.
        stride: step of all branches.
        multi_scale: False keeps one separable 3x3 branch of full width (Table III, "w/o multi-scale block").
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, multi_scale: bool = True) -> None:
        super().__init__()
        kernel_sizes = (1, 3, 5, 7) if multi_scale else (3,)
        width = out_channels // len(kernel_sizes)
        self.branches = nn.ModuleList(
            DenseUnit(in_channels, width, kernel, stride=stride, separable=kernel > 1) for kernel in kernel_sizes
        )
        self.join = DenseUnit(out_channels, out_channels, 1)

    def forward(self, x: Tensor, extent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map and its extent."""
        outputs: list[Tensor] = []
        out_extent = extent
        for branch in self.branches:
            y, out_extent = branch(x, extent)
            outputs.append(y)
        return self.join(torch.cat(outputs, dim=1), out_extent)


class ConcurrentBottleneck(nn.Module):
    """Spatial bottleneck (max-pool, convolution, unpool) inside a channel bottleneck, with a projection shortcut (Fig. 4b).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, a multiple of 4.
        kernel_size: of the separable sparse convolutions.
        stride: step of the block.
        spatial_bottleneck: False leaves pooling and unpooling out (Table III, "w/o spatial bottleneck").
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 5,
        stride: int = 1,
        spatial_bottleneck: bool = True,
    ) -> None:
        super().__init__()
        width = out_channels // 4
        self.spatial_bottleneck = spatial_bottleneck
        self.reduce = SparseUnit(in_channels, width)
        self.inner = SparseUnit(width, width, kernel_size, separable=True)
        self.outer = SparseUnit(width, width, kernel_size, stride=stride, separable=True)
        self.expand = SparseUnit(width, out_channels, activation=False)
        self.shortcut = SparseUnit(in_channels, out_channels, stride=stride, activation=False)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)

    def forward(self, x: SparseMap) -> SparseMap:
        """Return the map, its mask (grown by both convolutions) and its extent."""
        y = self.reduce(x)
        if self.spatial_bottleneck:
            pooled = self.inner(sparse_max_pool(y))
            o = _unpooled(pooled.observed, x.extent) * x.extent
            y = SparseMap(_unpooled(pooled.values, o) * o, o, x.extent)
        else:
            y = self.inner(y)
        y = self.expand(self.outer(y))
        return SparseMap(self.activation(y.values + self.shortcut(x).values), y.observed, y.extent)


def _unpooled(x: Tensor, target: Tensor) -> Tensor:
    """Double a map by repeating its cells, cut to the size of ``target``."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, : target.shape[2], : target.shape[3]]


class StreamAttention(nn.Module):
    """One score per slide, a = sigmoid(f(descriptor)): the share of the local (embedding) stream; 1 - a goes to the thumbnails."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(2 * channels, channels // reduction),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Linear(channels // reduction, 1),
            nn.Sigmoid(),
        )

    def forward(self, local: Tensor, local_o: Tensor, regional: Tensor, regional_o: Tensor) -> Tensor:
        """Return the stream score, (B,), in (0, 1)."""
        descriptor = torch.cat([sparse_mean(local, local_o), sparse_mean(regional, regional_o)], dim=1)
        return self.score(descriptor).squeeze(1)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018) whose squeeze is the mean over observed positions."""

    def __init__(self, channels: int, *, reduction: int = 16) -> None:
        super().__init__()
        self.score = nn.Sequential(
            nn.Linear(channels, channels // reduction),
            nn.LeakyReLU(LEAKY_SLOPE),
            nn.Linear(channels // reduction, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor, o: Tensor) -> Tensor:
        """Return the channel scores, (B, C), in (0, 1)."""
        return self.score(sparse_mean(x, o))
