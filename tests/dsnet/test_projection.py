"""Features of many channels: a 1x1 convolution before anything spatial."""

from itertools import pairwise

import pytest
import torch
from random_matrices import random_image
from torch import Tensor
from torch.nn import functional as F

from scripts.common.errors import RequestError
from scripts.dsnet.checkpointing import checkpoint_blocks
from scripts.dsnet.network import DSNet
from scripts.dsnet.segmentation import DSNetSegmentation

CHANNELS, LEFT = 96, 12


def images_of(count: int = 2) -> Tensor:
    return torch.stack([random_image(9, 8, seed=seed, embedding_channels=CHANNELS) for seed in range(count)])


def network_of(kind: str, **options: int | None) -> DSNet | DSNetSegmentation:
    torch.manual_seed(0)
    if kind == "segmentation":
        return DSNetSegmentation(embedding_channels=CHANNELS, **options)
    return DSNet(embedding_channels=CHANNELS, head=kind, **options)


@pytest.mark.parametrize("kind", ["slide", "patch", "segmentation"])
def test_it_learns_and_scripts_and_nothing_else_sees_all_channels(kind: str) -> None:
    network, images = network_of(kind, projection=LEFT), images_of()
    logits = network.attend(images)[0]
    F.cross_entropy(logits, torch.tensor([0, 1])).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    wide = [name for name, weight in network.named_parameters() if CHANNELS in weight.shape]
    assert wide == ["projection.conv.conv.weight"]
    network.eval()
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(images), network(images))
    assert len(network.mask_coverage(images)) == 5
    assert type(network)(**network.arguments).state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("kind", ["slide", "patch", "segmentation"])
def test_without_it_the_network_is_the_same(kind: str) -> None:
    plain, none = network_of(kind), network_of(kind, projection=None)
    assert not [name for name in none.state_dict() if "projection" in name]
    assert torch.equal(plain.attend(images_of())[0], none.attend(images_of())[0])


def test_padding_changes_nothing() -> None:
    network, images = network_of("slide", projection=LEFT).eval(), images_of()
    with torch.no_grad():
        torch.testing.assert_close(network(F.pad(images, (0, 3, 0, 5))), network(images))


def test_it_is_checkpointed_as_a_block() -> None:
    """Its gradients stay, and so do its running statistics."""
    states = []
    for enabled in (False, True):
        network = checkpoint_blocks(network_of("slide", projection=LEFT), enabled=enabled)
        network(images_of()).sum().backward()
        assert network.projection is not None
        states.append([network.projection.conv.conv.weight.grad, network.projection.norm.running_mean])
    for before, after in zip(*states, strict=True):
        torch.testing.assert_close(before, after)


@pytest.mark.parametrize("projection", [0, -3])
def test_no_channels_are_refused(projection: int) -> None:
    with pytest.raises(RequestError, match=f"projection {projection}: expected a whole number from 1 to 16384"):
        network_of("slide", projection=projection)


def test_fewer_parameters_the_fewer_channels_are_left() -> None:
    counts = [sum(p.numel() for p in network_of("slide", projection=left).parameters()) for left in (4, 12, None)]
    assert all(fewer < more for fewer, more in pairwise(counts))
