"""Empty rows and columns around a slide change nothing: in evaluation, in training, alone or beside another slide."""

import pytest
import torch
from random_matrices import random_image
from torch import Tensor
from torch.nn import functional as F

from scripts.dsnet.network import DSNet

SIZES_YX = ((9, 7), (6, 11), (4, 4))


def network_of(**options: bool) -> DSNet:
    """A network whose norms and biases hold values that would show on empty positions."""
    torch.manual_seed(0)
    network = DSNet(**options)  # type: ignore[arg-type]
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean", "standardise.mean")):
            tensor.normal_(std=0.3)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    return network


def pad(image: Tensor, *, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0) -> Tensor:
    return F.pad(image, (left, right, top, bottom))


def stack(images: list[Tensor]) -> Tensor:
    """One batch, zeros on the right and at the bottom of the smaller slides."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    return torch.stack([pad(i, bottom=height - i.shape[1], right=width - i.shape[2]) for i in images])


def run(network: DSNet, images: Tensor) -> tuple[Tensor, ...]:
    """Outputs, gradients of all weights and running statistics of one step, from the same start each time."""
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.zero_grad()
    outputs = network.attend(images)
    F.cross_entropy(outputs[0], torch.arange(len(images)) % 2).backward()
    gradients = [torch.zeros(1) if p.grad is None else p.grad.clone() for p in network.parameters()]
    buffers = [buffer.clone() for buffer in network.buffers()]
    network.load_state_dict(start)
    return (*outputs, *gradients, *buffers)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize(
    "padding",
    [{"right": 1}, {"bottom": 1}, {"right": 5, "bottom": 6}, {"top": 8, "left": 16}, {"top": 8, "bottom": 3}],
    ids=str,
)
def test_padding_changes_nothing(padding: dict[str, int], training: bool) -> None:
    network = network_of().double().train(training)
    images = torch.stack([random_image(9, 7, seed=0), random_image(9, 7, seed=1)]).double()
    assert_same(run(network, pad(images, **padding)), run(network, images))


@pytest.mark.parametrize("options", [{"spatial_bottleneck": False}, {"concurrent_bottleneck": False}], ids=str)
def test_without_pooling_the_grid_may_start_at_any_multiple_of_4(options: dict[str, bool]) -> None:
    # With pooling it is 8: the fourth block pools a grid that two strides of 2 have already taken.
    network = network_of(**options).double().train()
    images = torch.stack([random_image(9, 7, seed=0), random_image(9, 7, seed=1)]).double()
    assert_same(run(network, pad(images, top=4, left=12)), run(network, images))


@pytest.mark.parametrize(
    "options",
    [{"sparse": False}, {"thumbnail_stream": False}, {"multi_scale": False}, {"stream_attention": False}],
    ids=str,
)
def test_padding_changes_nothing_in_ablations(options: dict[str, bool]) -> None:
    network = network_of(**options).double().train()
    images = torch.stack([random_image(9, 7, seed=0), random_image(9, 7, seed=1)]).double()
    assert_same(run(network, pad(images, right=3, bottom=2)), run(network, images))


def test_padding_changes_nothing_beside_another_slide() -> None:
    network = network_of().double().train()
    images = [random_image(9, 7, seed=0).double(), random_image(6, 11, seed=1).double()]
    assert_same(run(network, pad(stack(images), right=4, bottom=7)), run(network, stack(images)))


def test_features_of_the_embedding_stream_stay_where_they_are() -> None:
    network = network_of().eval()
    features: list[Tensor] = []
    for block in [*network.embedding_blocks, *network.thumbnail_blocks]:
        block.register_forward_hook(lambda module, inputs, output: features.append(output[0]))
    image = random_image(9, 7)[None]
    network(image)
    alone, features[:] = list(features), []
    network(pad(image, top=8, left=8, bottom=5, right=2))
    assert len(features) == len(alone) == 8
    for found, expected in zip(features, alone, strict=True):
        step = {5: 2, 3: 4, 9: 1}[expected.shape[2]]
        offset, (height, width) = 8 // step, expected.shape[2:]
        inside = (slice(None), slice(None), slice(offset, offset + height), slice(offset, offset + width))
        torch.testing.assert_close(found[inside], expected, rtol=1e-4, atol=1e-5)
        outside = found.clone()
        outside[inside] = 0
        assert (outside == 0).all() and (expected != 0).any()


def test_a_batch_of_different_sizes_is_each_slide_alone() -> None:
    network = network_of().double().eval()
    images = [random_image(*size, seed=seed).double() for seed, size in enumerate(SIZES_YX)]
    together = network.attend(stack(images))
    alone = [network.attend(image[None]) for image in images]
    assert_same(together, tuple(torch.cat(parts) for parts in zip(*alone, strict=True)))


def test_gradient_of_a_batch_is_the_sum_of_those_of_its_slides() -> None:
    network = network_of().double().eval()
    images = [random_image(*size, seed=seed).double() for seed, size in enumerate(SIZES_YX)]

    def gradients(*batches: Tensor) -> tuple[Tensor, ...]:
        network.zero_grad()
        for batch in batches:
            (network(batch) * torch.tensor([1.0, -2.0])).sum().backward()
        return tuple(p.grad.clone() for p in network.parameters() if p.grad is not None)

    assert_same(gradients(stack(images)), gradients(*(image[None] for image in images)))
