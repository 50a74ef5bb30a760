from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from random_matrices import random_image, random_map, random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.baselines.convolutional import TellezClassifier
from scripts.baselines.global_local import GlobalLocal
from scripts.dsnet.network import DSNet
from scripts.dsnet.segmentation import DSNetSegmentation
from scripts.dsnet.sparse import SparseConv2d, SparseMap


def naive_conv(x: Tensor, o: Tensor, conv: SparseConv2d) -> tuple[np.ndarray, np.ndarray]:
    """The definition of Uhrig et al. position by position: y and o'."""
    weight, bias = conv.conv.weight.detach().numpy(), conv.bias.detach().numpy()
    groups, kernel, stride, half = conv.conv.groups, conv.kernel_size, conv.stride, conv.kernel_size // 2
    batch, _, height, width = x.shape
    out_channels, in_group = weight.shape[:2]
    sides = [(0, 0), (0, 0), (half, half), (half, half)]
    padded_x, padded_o = np.pad(x.numpy(), sides), np.pad(o.numpy(), sides)
    y = np.zeros((batch, out_channels, -(-height // stride), -(-width // stride)))
    out_o = np.zeros((batch, 1, *y.shape[2:]))
    for b, c, row, column in product(*map(range, y.shape)):
        window = np.s_[row * stride : row * stride + kernel, column * stride : column * stride + kernel]
        seen = padded_o[b, 0][window]
        first = c // (out_channels // groups) * in_group
        values = padded_x[b, first : first + in_group][(slice(None), *window)]
        if seen.any():
            y[b, c, row, column] = (weight[c] * seen * values).sum() / (seen.sum() + 1e-8) + bias[c]
            out_o[b, 0, row, column] = 1
    return y, out_o


def sparse_conv(kernel_size: int, *, stride: int = 1, groups: int = 1) -> SparseConv2d:
    torch.manual_seed(0)
    conv = SparseConv2d(4, 8, kernel_size, stride=stride, groups=groups).double()
    torch.nn.init.normal_(conv.bias)
    return conv


@pytest.mark.parametrize("size_yx", [(6, 8), (7, 5)])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_convolution_is_the_naive_loop(kernel_size: int, stride: int, groups: int, size_yx: tuple[int, int]) -> None:
    conv = sparse_conv(kernel_size, stride=stride, groups=groups)
    o = random_mask(2, *size_yx, share=0.1)
    x = torch.randn(2, 4, *size_yx, dtype=torch.float64) * o
    y, out_o, extent = conv(SparseMap(x, o, torch.ones_like(o)))
    expected_y, expected_o = naive_conv(x, o, conv)
    np.testing.assert_allclose(y.detach().numpy(), expected_y, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(out_o.numpy(), expected_o)
    assert extent.shape == out_o.shape and extent.min() == 1


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "slide": DSNet,
    "patch": lambda: DSNet(head="patch"),
    "no sparsity": lambda: DSNet(head="patch", sparse=False),
    "no spatial bottleneck": lambda: DSNet(spatial_bottleneck=False),
    "projection": lambda: DSNet(head="patch", projection=16),
    "segmentation": DSNetSegmentation,
    "glnet": lambda: GlobalLocal(embedding_channels=128),
    "tellez": lambda: TellezClassifier(embedding_channels=128),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_no_convolution_is_given_values_off_the_mask(name: str) -> None:
    """It does not look at the mask of its input: whoever makes the map keeps it zero, and masks its gradient."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    seen: set[str] = set()
    given = 0

    def look(module: nn.Module, inputs: tuple[SparseMap, ...]) -> None:
        nonlocal given
        given += 1
        ((values, observed, extent),) = inputs
        if (values * (1 - observed)).any() or (observed * (1 - extent)).any():
            seen.add(names[module])

    names = {module: name for name, module in network.named_modules() if isinstance(module, SparseConv2d)}
    for module in names:
        module.register_forward_pre_hook(look)
    images = torch.stack([random_image(9, 8, seed=seed, share=0.3) for seed in range(2)])
    images[1, :128, 7:] = images[1, :128, :, 6:] = 0  # tissue on the thumbnail beyond the patches that are left
    for training in (True, False):
        network.train(training)(images)
    assert given and not seen


@pytest.mark.parametrize("stride", [1, 2])
def test_positions_that_see_nothing_are_exactly_zero(stride: int) -> None:
    o = torch.zeros(2, 1, 9, 9, dtype=torch.float64)
    o[0, 0, 1, 2] = 1
    y, out_o, _ = sparse_conv(3, stride=stride)(
        SparseMap(torch.ones(2, 4, 9, 9, dtype=torch.float64), o, torch.ones_like(o))
    )
    assert 0 < out_o[0].sum() < out_o[0].numel()
    assert (y[out_o.expand_as(y) == 0] == 0).all()
    assert (y[out_o.expand_as(y) == 1] != 0).all()
    assert (y[1] == 0).all()  # a map with nothing observed


def test_mask_is_max_pooled_at_the_stride_of_the_convolution() -> None:
    o = random_mask(2, 11, 8, share=0.05)
    _, out_o, _ = sparse_conv(5, stride=2)(SparseMap(random_map(o, 4), o, torch.ones_like(o)))
    torch.testing.assert_close(out_o, F.max_pool2d(o, 5, 2, 2), rtol=0, atol=0)


def test_mask_grows_up_to_the_extent_and_no_further() -> None:
    o = torch.zeros(1, 1, 10, 10, dtype=torch.float64)
    o[0, 0, 0, 0] = o[0, 0, 5, 3] = 1
    extent = torch.zeros_like(o)
    extent[:, :, :6, :4] = 1
    _, out_o, out_extent = sparse_conv(7)(SparseMap(random_map(o, 4), o, extent))
    assert out_o[0, 0, :6, :4].min() == 1 and out_o.sum() == 24
    torch.testing.assert_close(out_extent, extent, rtol=0, atol=0)
    _, out_o, out_extent = sparse_conv(7, stride=2)(SparseMap(random_map(o, 4), o, extent))
    assert out_o[0, 0, :3, :2].min() == 1 and out_o.sum() == out_extent.sum() == 6


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("position_yx", [(0, 0), (1, 1), (2, 3), (5, 4)])
def test_a_single_patch_is_never_lost(position_yx: tuple[int, int], stride: int) -> None:
    o = torch.zeros(1, 1, 6, 5, dtype=torch.float64)
    o[0, 0, position_yx[0], position_yx[1]] = 1
    _, out_o, _ = sparse_conv(5, stride=stride)(SparseMap(random_map(o, 4), o, o))
    assert out_o.sum() == 1
    assert out_o[0, 0, position_yx[0] // stride, position_yx[1] // stride] == 1


def test_half_precision_gives_no_nan_where_nothing_is_observed() -> None:
    o = random_mask(1, 8, 8, share=0.1).float()
    with torch.autocast("cpu", dtype=torch.float16):
        y, _, _ = sparse_conv(3).float()(SparseMap(random_map(o, 4).float(), o, torch.ones_like(o)))
    assert torch.isfinite(y).all()


def test_gradient_of_map_weight_and_bias() -> None:
    conv = sparse_conv(3, stride=2, groups=2)
    o = random_mask(2, 5, 4)
    weight, bias = conv.conv.weight.detach().clone(), conv.bias.detach().clone()

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        state = {"conv.weight": weight, "bias": bias}
        return torch.func.functional_call(conv, state, (SparseMap(x, o, torch.ones_like(o)),))[0]

    inputs = (random_map(o, 4), weight, bias)
    assert torch.autograd.gradcheck(run, tuple(tensor.requires_grad_() for tensor in inputs))
