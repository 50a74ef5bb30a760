"""A training step in mixed precision, forward and backward, on the CPU; training on CUDA takes float16.

A CPU convolves slowly in float16, hence the few pixels.
"""

from collections.abc import Callable

import pytest
import torch
from dsnet.random_matrices import random_image
from scae.random_textures import random_textures
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, cross_entropy, mse_loss

from scripts.dsnet.network import DSNet
from scripts.scae.objective import make_recipe
from scripts.scae.scae_network import SCAE
from scripts.scae.views import StainViews

Step = tuple[nn.Module, Callable[[], Tensor]]


def dsnet(head: str = "slide") -> Step:
    """Two slides, a part of them observed, channels last."""
    network = DSNet(embedding_channels=16, head=head).to(memory_format=torch.channels_last)
    images = torch.stack([random_image(32, 24, seed=seed, embedding_channels=16) for seed in range(2)])
    images = images.contiguous(memory_format=torch.channels_last)
    return network, lambda: cross_entropy(network(images), torch.tensor([0, 1]))


def dsnet_at_the_patch() -> Step:
    return dsnet("patch")


def scae() -> Step:
    network, patches = SCAE().to(memory_format=torch.channels_last), random_textures(2, side_px=48)
    return network, lambda: mse_loss(network(patches), patches)


def extended() -> Step:
    network = SCAE().to(memory_format=torch.channels_last)
    recipe = make_recipe("extended", channels=network.channels, views=StainViews(side_px=32))
    views, target = recipe.prepare_batch({"image": random_textures(4)}, "cpu")
    return nn.ModuleList([network, recipe.loss]), lambda: recipe.loss(recipe.inferer(views, network), target)


def after_a_step(make: Callable[[], Step], dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Loss, all gradients in a row, and the running statistics."""
    torch.manual_seed(0)
    network, forward = make()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        loss = forward()
    loss.backward()
    gradients = torch.cat([weight.grad.flatten() for weight in network.parameters() if weight.grad is not None])
    return loss, gradients, {name: value for name, value in network.state_dict().items() if "running" in name}


@pytest.mark.parametrize(("dtype", "alike"), [(torch.bfloat16, 0.7), (torch.float16, 0.95)], ids=str)
@pytest.mark.parametrize("make", [dsnet, dsnet_at_the_patch, scae, extended], ids=lambda make: make.__name__)
def test_a_step_is_finite_and_near_float32(make: Callable[[], Step], dtype: torch.dtype, alike: float) -> None:
    """The gradients point the same way (cosine) and are as long; bfloat16 keeps 8 bits of a number, float16 11."""
    loss, gradients, statistics = after_a_step(make, torch.float32)
    mixed_loss, mixed_gradients, mixed_statistics = after_a_step(make, dtype)
    assert mixed_loss.item() == pytest.approx(loss.item(), rel=0.02)
    assert mixed_gradients.isfinite().all()
    assert mixed_gradients.norm().item() == pytest.approx(gradients.norm().item(), rel=0.2)
    assert cosine_similarity(gradients, mixed_gradients, dim=0) > alike
    for name, value in statistics.items():
        assert (mixed_statistics[name] - value).norm() < 0.1 * value.norm(), name
