from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from random_matrices import random_map, random_mask
from torch import Tensor

from scripts.dsnet.sparse import SparseMap, slide_extent, sparse_max, sparse_max_pool, sparse_mean


def negative_map(o: Tensor, channels: int) -> Tensor:
    """Observed values that are all negative, so that the zeros of unobserved positions lie above them."""
    return -(random_map(o, channels).abs() + 0.5) * o


@pytest.mark.parametrize("pool", [sparse_mean, sparse_max])
def test_pooling_is_over_observed_positions(pool: Callable[[Tensor, Tensor], Tensor]) -> None:
    o = random_mask(3, 6, 7)
    x = negative_map(o, 4)
    pooled = pool(x + 9 * (1 - o), o)
    reduce = np.mean if pool is sparse_mean else np.max
    for b, c in product(range(3), range(4)):
        values = [x[b, c, i, j].item() for i, j in product(range(6), range(7)) if o[b, 0, i, j] == 1]
        assert pooled[b, c].item() == pytest.approx(reduce(values), rel=1e-12)


@pytest.mark.parametrize("pool", [sparse_mean, sparse_max])
def test_nothing_observed_is_zero_with_finite_gradient(pool: Callable[[Tensor, Tensor], Tensor]) -> None:
    o = random_mask(2, 4, 4)
    o[1] = 0
    x = negative_map(o, 3).requires_grad_()
    pooled = pool(x, o)
    assert (pooled[1] == 0).all() and (pooled[0] < 0).all()
    pooled.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all() and (x.grad[1] == 0).all() and (x.grad[0] != 0).any()


@pytest.mark.parametrize("size_yx", [(6, 8), (7, 5), (1, 1), (1, 4)])
def test_max_pool_is_the_naive_loop(size_yx: tuple[int, int]) -> None:
    o = random_mask(2, *size_yx, share=0.3)
    o[:, :, 0, 0] = 1
    x = negative_map(o, 3)
    pooled, pooled_o, extent = sparse_max_pool(SparseMap(x, o, torch.ones_like(o)))
    assert pooled.shape == (2, 3, -(-size_yx[0] // 2), -(-size_yx[1] // 2))
    assert extent.shape == pooled_o.shape and extent.min() == 1
    for b, c, i, j in product(*map(range, pooled.shape)):
        window = np.s_[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        observed = x[b, c][window][o[b, 0][window] == 1]
        assert pooled_o[b, 0, i, j] == (1 if observed.numel() else 0)
        assert pooled[b, c, i, j] == (observed.max() if observed.numel() else 0)


def test_max_pool_ignores_values_off_the_mask() -> None:
    o = torch.tensor([[1.0, 0.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    x = torch.tensor([[-3.0, 5.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    assert sparse_max_pool(SparseMap(x, o, o)).values.item() == -3.0


@pytest.mark.parametrize("pool", [sparse_mean, sparse_max, lambda x, o: sparse_max_pool(SparseMap(x, o, o)).values])
def test_gradients(pool: Callable[[Tensor, Tensor], Tensor]) -> None:
    o = random_mask(2, 5, 4, share=0.3)
    assert torch.autograd.gradcheck(lambda x: pool(x, o), (negative_map(o, 2).requires_grad_(),))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_extent_is_the_smallest_rectangle(share: float) -> None:
    o = random_mask(8, 9, 7, seed=4, share=share)
    o[:, :, 0, 0] = 0  # rectangles that start anywhere; maps with one position or none among them
    o[0, 0, 3, 2] = 1
    o[1] = 0
    expected = torch.zeros_like(o)
    for b in range(len(o)):
        rows, columns = torch.nonzero(o[b, 0], as_tuple=True)
        if len(rows):
            expected[b, 0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = 1
    extent = slide_extent(o)
    assert extent.dtype == o.dtype
    torch.testing.assert_close(extent, expected, rtol=0, atol=0)
