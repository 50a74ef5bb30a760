"""Operators on maps of which only some positions are observed (III-C.c; Uhrig et al., Sparsity invariant CNNs, 2017).

Every operator keeps a feature map exactly zero wherever its mask is zero. Masks that grow under a max-pool never grow past the
slide's own rectangle in a padded batch, so padding changes nothing. Blocks take and return a :class:`SparseMap`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.nn import functional as F

from ..common.ranks import world_size

LEAKY_SLOPE = 0.3  # Keras's default; the paper says "Leaky ReLU" and was written in Keras


class SparseMap(NamedTuple):
    """A feature map of which only some positions are observed.

    Attributes:
        values: (B, C, H, W), exactly zero wherever ``observed`` is.
        observed: the mask O, (B, 1, H, W) of zeros and ones.
        extent: the slide's own rectangle inside a padded batch, (B, 1, H, W) of zeros and ones.
    """

    values: Tensor
    observed: Tensor
    extent: Tensor


def slide_extent(o: Tensor) -> Tensor:
    """Return the smallest rectangle that holds every observed position of each map, (B, 1, H, W) of zeros and ones."""
    rows = _between(o.amax(dim=3, keepdim=True), dim=2)
    columns = _between(o.amax(dim=2, keepdim=True), dim=3)
    return (rows & columns).to(o.dtype)


def _between(marks: Tensor, *, dim: int) -> Tensor:
    """True from the first to the last mark along ``dim``; counts of integers, which ONNX knows and any device adds in order."""
    ones = (marks > 0).to(torch.int32)
    so_far = ones.cumsum(dim)
    return (so_far > 0) & (so_far - ones < ones.sum(dim, keepdim=True))


def sparse_mean(x: Tensor, o: Tensor) -> Tensor:
    """Mean over the observed positions of each map, (B, C); zeros for a map with none (sparse pooling, eq. 4 per slide)."""
    return (x * o).sum(dim=(2, 3)) / o.sum(dim=(2, 3)).clamp(min=1.0)


def sparse_max(x: Tensor, o: Tensor) -> Tensor:
    """Maximum over the observed positions of each map, (B, C); zeros for a map with none."""
    highest = torch.where(o > 0, x, float("-inf")).amax(dim=(2, 3))
    return torch.where(o.amax(dim=(2, 3)) > 0, highest, 0.0)


def sparse_max_pool(x: SparseMap) -> SparseMap:
    """Halve a map to (ceil(H/2), ceil(W/2)) by the maximum over the observed positions of each 2x2 window.

    A window with nothing observed is zero.
    """
    o = F.max_pool2d(x.observed, 2, ceil_mode=True)
    highest = F.max_pool2d(torch.where(x.observed > 0, x.values, float("-inf")), 2, ceil_mode=True)
    return SparseMap(torch.where(o > 0, highest, 0.0), o, F.max_pool2d(x.extent, 2, ceil_mode=True))


class SparseConv2d(nn.Module):
    """Convolution over observed positions: y = sum(w o x) / (sum(o) + eps) + b, o' = max-pool(o), y = 0 where o' = 0.

    The eps, which only keeps 0/0 away, is written max(sum(o), 1): an eps small enough to bias nothing is lost in half precision
    and is dropped by ONNX optimisers. The o in sum(w o x) costs nothing, as a :class:`SparseMap` is zero off its mask.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd side of the window; the padding keeps the size at stride 1.
        stride: step of the window, of the convolution and of the mask's max-pool alike.
        groups: as in ``torch.nn.Conv2d``.
    """

    window: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("window", torch.ones(1, 1, kernel_size, kernel_size), persistent=False)
        self.kernel_size = kernel_size
        self.stride = stride

    def forward(self, x: SparseMap) -> SparseMap:
        """Return the map, (B, out_channels, ceil(H/stride), ceil(W/stride))."""
        o, bias = x.observed, self.bias.view(1, -1, 1, 1)
        if self.kernel_size == 1 and self.stride == 1:  # one position, seen or not
            return SparseMap(torch.addcmul(self.conv(x.values), o, bias), o, x.extent)
        padding = self.kernel_size // 2
        count = F.conv2d(o, self.window, stride=self.stride, padding=padding)
        extent = F.max_pool2d(x.extent, self.stride, self.stride, ceil_mode=True)
        out_o = F.max_pool2d(o, self.kernel_size, self.stride, padding) * extent
        share = out_o / count.clamp(min=1.0)
        return SparseMap((self.conv(x.values) * share).addcmul_(out_o, bias), out_o, extent)


def _over_ranks(sums: Tensor) -> Tensor:
    """Add up, in place, what several processes summed each over its own slides."""
    if world_size() > 1:
        all_reduce(sums)
    return sums


def _per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


class _SparseNorm(torch.autograd.Function):
    """Normalise by the statistics of the batch; returns the map, mean, variance (biased) and the number of positions.

    With d = (x - mean) o and g the masked gradient, the gradient of x is w / sigma (g - mean(g) - d mean(g d) / sigma^2) where
    observed. That keeps one map instead of four; maps that nobody else sees are written in place.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, o: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = x * o
        sums = _over_ranks(torch.cat([x.sum(dim=(0, 2, 3)), o.sum().view(1)]))
        count = sums[-1].clamp(min=1.0)
        mean = sums[:-1] / count
        centred = x.addcmul_(o, _per_channel(mean), value=-1)
        y = centred.square()
        var = _over_ranks(y.sum(dim=(0, 2, 3))) / count
        inverse = torch.rsqrt(var + eps)
        ctx.save_for_backward(centred, o, weight, inverse, count)
        ctx.mark_non_differentiable(mean, var, count)
        y = torch.mul(centred, _per_channel(weight * inverse), out=y).addcmul_(o, _per_channel(bias))
        return y, mean, var, count

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        centred, o, weight, inverse, count = ctx.saved_tensors
        gradient = gradient * o
        of_bias = gradient.sum(dim=(0, 2, 3))
        along = (gradient * centred).sum(dim=(0, 2, 3))
        mean, slope = _over_ranks(torch.stack([of_bias, along])) / count
        of_x = gradient.addcmul_(o, _per_channel(mean), value=-1)
        of_x.addcmul_(centred, _per_channel(slope * inverse.square()), value=-1).mul_(_per_channel(weight * inverse))
        return of_x, None, along * inverse, of_bias, None


class SparseBatchNorm2d(nn.Module):
    """Batch normalisation with mean and variance over observed positions only (equations 4 and 5).

    Equation 5 subtracts beta = sum(1 - O) mean^2 from a sum over every position; with F zero off the mask that equals the masked
    sum used here, which does not cancel. Running statistics as in ``torch.nn.BatchNorm2d``. In training under several processes the
    masked sums and counts of all of them are added, so that slides of different size weigh as in one batch. As TorchScript it
    serves evaluation alone.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-3, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Tensor, o: Tensor) -> Tensor:
        """Normalise ``x`` (B, C, H, W) where ``o`` is one; zero elsewhere."""
        if self.training:
            return self._normalise_by_batch(x, o)
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        return (x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)) * o

    @torch.jit.unused
    def _normalise_by_batch(self, x: Tensor, o: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)  # sums over a slide are beyond half precision
        y, mean, var, count = _SparseNorm.apply(x, o.to(x.dtype), self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * count / (count - 1).clamp(min=1.0), self.momentum)
        return y


class Standardise(nn.Module):
    """Bring every channel of V to mean 0 and deviation 1 over the observed patches of the training slides.

    Ours: v of S-CAE varies by hundredths around its means and the features of other encoders have any scale. The statistics are
    buffers, so they travel with the weights; until they are set the map passes unchanged.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))

    def forward(self, x: Tensor, o: Tensor) -> Tensor:
        """Standardise ``x`` (B, C, H, W) where ``o`` is one; zero elsewhere."""
        return (x - self.mean.view(1, -1, 1, 1)) / self.deviation.view(1, -1, 1, 1) * o


class SparseUnit(nn.Module):
    """Sparse convolution, sparse norm, leaky ReLU; ``separable`` splits it into a depth-wise and a 1x1 convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        separable: bool = False,
        activation: bool = True,
    ) -> None:
        super().__init__()
        first = in_channels if separable else out_channels
        groups = in_channels if separable else 1
        self.conv = SparseConv2d(in_channels, first, kernel_size, stride=stride, groups=groups)
        self.pointwise = nn.Conv2d(first, out_channels, 1, bias=False) if separable else nn.Identity()
        self.norm = SparseBatchNorm2d(out_channels)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True) if activation else nn.Identity()

    def forward(self, x: SparseMap) -> SparseMap:
        """Return the map, its mask grown by the window and its extent, all at the stride."""
        y = self.conv(x)
        return SparseMap(self.activation(self.norm(self.pointwise(y.values), y.observed)), y.observed, y.extent)
