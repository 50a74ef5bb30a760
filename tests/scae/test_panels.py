import pytest
import torch

from scripts.scae.panels import evenly_spaced, panels
from scripts.scae.scae_network import SCAE


def test_the_parts_of_fig_2() -> None:
    torch.manual_seed(0)
    network, patches = SCAE(), torch.rand(2, 3, 112, 112)
    network.train()
    found = panels(network, patches)
    assert list(found) == ["input", "foreground", "background", "detection mask", "reconstruction"]
    assert all(part.shape == patches.shape and part.min() >= 0 and part.max() <= 1 for part in found.values())
    assert torch.equal(found["input"], patches)
    mask = found["detection mask"]
    assert torch.equal(mask[:, 0], mask[:, 2]) and torch.equal(mask[..., ::4, ::4], mask[..., 3::4, 3::4])
    assert network.training
    parts = network.eval().decompose(patches)
    assert torch.equal(found["reconstruction"], parts.reconstruction.clamp(0, 1))


def test_one_branch_has_neither_foreground_nor_mask() -> None:
    assert list(panels(SCAE(strategy="mixed"), torch.rand(1, 3, 112, 112))) == ["input", "background", "reconstruction"]


@pytest.mark.parametrize(("count", "of", "expected"), [(3, 9, [0, 3, 6]), (3, 2, [0, 1]), (2, 5, [0, 2]), (1, 1, [0])])
def test_evenly_spaced(count: int, of: int, expected: list[int]) -> None:
    assert evenly_spaced(count, of=of) == expected
