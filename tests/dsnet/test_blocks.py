import pytest
import torch
from random_matrices import random_map, random_mask
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.dsnet.blocks import ChannelAttention, ConcurrentBottleneck, DenseUnit, MultiScaleBlock, StreamAttention
from scripts.dsnet.sparse import LEAKY_SLOPE, SparseMap, SparseUnit, slide_extent


def corner_extent(height: int, width: int) -> Tensor:
    """Two slides on a grid of 12 x 10: the first takes the corner of ``height`` x ``width``, the second everything."""
    extent = torch.ones(2, 1, 12, 10, dtype=torch.float64)
    extent[0] = 0
    extent[0, :, :height, :width] = 1
    return extent


def fill(module: nn.Module) -> nn.Module:
    """Random values for everything that starts as zeros or ones, so that nothing cancels by chance."""
    torch.manual_seed(0)
    for name, tensor in module.state_dict().items():
        if tensor.ndim == 1:
            tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name or "weight" in name else -0.5))
    return module.double().eval()


def test_multi_scale_block_has_four_branches_of_a_quarter() -> None:
    block = MultiScaleBlock(16, 32)
    convs = [branch.conv for branch in block.branches]
    assert [conv.kernel_size[0] for conv in convs] == [1, 3, 5, 7]
    assert [conv.groups for conv in convs] == [1, 16, 16, 16]  # separable but the first
    assert [branch.norm.weight.numel() for branch in block.branches] == [8, 8, 8, 8]
    assert block.join.conv.kernel_size == (1, 1)


def test_without_multi_scale_one_branch_of_full_width_stays() -> None:
    (branch,) = MultiScaleBlock(16, 32, multi_scale=False).branches
    assert branch.conv.kernel_size == (3, 3) and branch.conv.groups == 16 and branch.norm.weight.numel() == 32


@pytest.mark.parametrize("stride", [1, 2])
def test_multi_scale_block_stays_inside_the_extent(stride: int) -> None:
    extent = corner_extent(7, 5)
    block = fill(MultiScaleBlock(4, 8, stride=stride))
    y, out_extent = block(random_map(extent, 4), extent)
    assert y.shape == (2, 8, 12 // stride, 10 // stride)
    assert (out_extent[0].sum(), out_extent[1].sum()) == ((35, 120) if stride == 1 else (12, 30))
    assert (y[out_extent.expand_as(y) == 0] == 0).all() and (y[out_extent.expand_as(y) == 1] != 0).all()


def test_dense_unit_on_a_full_extent_is_the_plain_layer() -> None:
    unit = fill(DenseUnit(3, 6, 7, stride=2))
    extent = torch.ones(1, 1, 9, 8, dtype=torch.float64)
    x = random_map(extent, 3)
    y = F.conv2d(x, unit.conv.weight, stride=2, padding=3)
    y = F.batch_norm(y, unit.norm.running_mean, unit.norm.running_var, unit.norm.weight, unit.norm.bias, eps=1e-3)
    torch.testing.assert_close(unit(x, extent)[0], F.leaky_relu(y, 0.3))


def plain(unit: SparseUnit, x: Tensor) -> Tensor:
    """``unit`` on a map observed everywhere, from torch's own operators."""
    conv, norm = unit.conv, unit.norm
    half, stride = conv.kernel_size // 2, conv.stride
    count = F.conv2d(torch.ones_like(x[:, :1]), conv.window, stride=stride, padding=half)
    y = F.conv2d(x, conv.conv.weight, stride=stride, padding=half, groups=conv.conv.groups) / count
    y = unit.pointwise(y + conv.bias.view(1, -1, 1, 1))
    return F.batch_norm(y, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


@pytest.mark.parametrize("spatial_bottleneck", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size_yx", [(8, 6), (7, 5)])
def test_concurrent_bottleneck_in_its_order(size_yx: tuple[int, int], stride: int, spatial_bottleneck: bool) -> None:
    block = fill(ConcurrentBottleneck(6, 8, stride=stride, spatial_bottleneck=spatial_bottleneck))
    o = torch.ones(2, 1, *size_yx, dtype=torch.float64)
    x = random_map(o, 6)
    y = F.leaky_relu(plain(block.reduce, x), LEAKY_SLOPE)
    if spatial_bottleneck:
        y = F.leaky_relu(plain(block.inner, F.max_pool2d(y, 2, ceil_mode=True)), LEAKY_SLOPE)
        y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, : size_yx[0], : size_yx[1]]
    else:
        y = F.leaky_relu(plain(block.inner, y), LEAKY_SLOPE)
    y = plain(block.expand, F.leaky_relu(plain(block.outer, y), LEAKY_SLOPE))
    expected = F.leaky_relu(y + plain(block.shortcut, x), LEAKY_SLOPE)
    found, out_o, _ = block(SparseMap(x, o, o))
    torch.testing.assert_close(found, expected)
    assert out_o.min() == 1


def test_widths_of_the_concurrent_bottleneck_are_a_quarter() -> None:
    block = ConcurrentBottleneck(128, 144, stride=2)
    assert block.inner.conv.conv.weight.shape == block.outer.conv.conv.weight.shape == (36, 1, 5, 5)
    assert (block.inner.conv.stride, block.outer.conv.stride, block.shortcut.conv.stride) == (1, 2, 2)


@pytest.mark.parametrize("spatial_bottleneck", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_concurrent_bottleneck_is_zero_off_its_mask(stride: int, spatial_bottleneck: bool) -> None:
    o = torch.zeros(2, 1, 24, 21, dtype=torch.float64)
    o[0, 0, 0, 0] = o[0, 0, 2, 1] = o[1, 0, 3, 4] = o[1, 0, 22, 20] = 1
    extent = slide_extent(o)
    block = fill(ConcurrentBottleneck(6, 8, stride=stride, spatial_bottleneck=spatial_bottleneck))
    y, out_o, out_extent = block(SparseMap(random_map(o, 6), o, extent))
    assert (y[out_o.expand_as(y) == 0] == 0).all() and (y[out_o.expand_as(y) == 1] != 0).all()
    assert (out_o <= out_extent).all() and (out_o >= F.max_pool2d(o, stride, stride, ceil_mode=True)).all()
    assert out_o[1].sum() < out_extent[1].sum()
    expected_o = o if not spatial_bottleneck else F.max_pool2d(o, 2, ceil_mode=True)
    expected_o = F.max_pool2d(expected_o, 5, 1, 2)
    if spatial_bottleneck:
        expected_o = expected_o.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :24, :21]
    expected_o = F.max_pool2d(expected_o * extent, 5, stride, 2) * out_extent
    torch.testing.assert_close(out_o, expected_o, rtol=0, atol=0)


def test_stream_attention_is_a_sigmoid_of_both_descriptors() -> None:
    attention = fill(StreamAttention(32))
    o, extent = random_mask(3, 5, 4), torch.ones(3, 1, 5, 4, dtype=torch.float64)
    local, regional = random_map(o, 32, seed=1), random_map(extent, 32, seed=2)
    score = attention(local, o, regional, extent)
    assert score.shape == (3,) and ((score > 0) & (score < 1)).all()
    means = [(x * mask).sum(dim=(2, 3)) / mask.sum(dim=(2, 3)) for x, mask in ((local, o), (regional, extent))]
    first, _, second, _ = attention.score
    hidden = F.leaky_relu(torch.cat(means, dim=1) @ first.weight.T + first.bias, LEAKY_SLOPE)
    torch.testing.assert_close(score, torch.sigmoid(hidden @ second.weight.T + second.bias)[:, 0])


def test_channel_attention_squeezes_observed_positions_sixteenfold() -> None:
    attention = fill(ChannelAttention(32))
    o = random_mask(3, 5, 4)
    x = random_map(o, 32)
    scores = attention(x, o)
    assert scores.shape == (3, 32) and ((scores > 0) & (scores < 1)).all()
    first, _, second, _ = attention.score
    assert first.weight.shape == (2, 32)
    hidden = F.leaky_relu((x.sum(dim=(2, 3)) / o.sum(dim=(2, 3))) @ first.weight.T + first.bias, LEAKY_SLOPE)
    torch.testing.assert_close(scores, torch.sigmoid(hidden @ second.weight.T + second.bias))
