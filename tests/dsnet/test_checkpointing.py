import pytest
import torch
from random_matrices import random_image
from torch import Tensor

from scripts.dsnet.checkpointing import checkpoint_blocks
from scripts.dsnet.network import DSNet


def after_a_step(
    *, enabled: bool, images: Tensor, **arguments: bool
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Logits, gradients and state of a network after one forward and backward pass."""
    torch.manual_seed(0)
    network = checkpoint_blocks(DSNet(embedding_channels=8, **arguments).double(), enabled=enabled)
    logits = network(images)
    logits.square().sum().backward()
    gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
    return logits, gradients, network.state_dict()


@pytest.mark.parametrize("arguments", [{}, {"thumbnail_stream": False}, {"concurrent_bottleneck": False}])
def test_the_same_gradients_and_statistics(arguments: dict[str, bool]) -> None:
    images = torch.stack([random_image(9, 7, seed=seed, embedding_channels=8) for seed in range(2)]).double()
    kept = after_a_step(enabled=False, images=images, **arguments)
    recomputed = after_a_step(enabled=True, images=images, **arguments)
    for found, expected in zip(recomputed, kept, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def kept_bytes(*, enabled: bool, side: int = 40, channels: int = 8) -> int:
    """Bytes that a forward pass of a slide of ``side`` x ``side`` patches keeps for the backward pass."""
    torch.manual_seed(0)
    network = checkpoint_blocks(DSNet(embedding_channels=channels), enabled=enabled)
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = network(random_image(side, side, embedding_channels=channels)[None])
        kept = sum(size for pointer, size in storages.items() if pointer not in weights)
    logits.sum().backward()
    return kept


def test_less_is_kept() -> None:
    assert kept_bytes(enabled=True) < 0.5 * kept_bytes(enabled=False)


def test_a_step_on_the_papers_slide_keeps_under_1_25_gib() -> None:
    """What is kept grows with the patches: 140,000 of them (V 400 x 350), C = 128, L = 3, one slide per batch, float32."""
    assert kept_bytes(enabled=False, side=80, channels=128) / 80**2 * 140_000 < 1.25 * 2**30


def test_evaluation_is_left_alone() -> None:
    image = random_image(9, 7, embedding_channels=8)[None]
    torch.manual_seed(0)
    network = DSNet(embedding_channels=8).eval()
    expected = network(image)
    torch.testing.assert_close(checkpoint_blocks(network)(image), expected, rtol=0, atol=0)
