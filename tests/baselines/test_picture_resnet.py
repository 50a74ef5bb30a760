import copy

import pytest
import torch
from dsnet.random_matrices import random_image
from monai.networks.nets import ResNet
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.baselines.convolutional import EmbeddingResNet, NaiveThumbnail
from scripts.baselines.picture_resnet import PictureClassifier, PictureNorm, PicturePool, resnet_of
from scripts.dsnet.packing import unpack

CHANNELS = 8
KINDS = (NaiveThumbnail, EmbeddingResNet)


def made(kind: type[PictureClassifier]) -> PictureClassifier:
    torch.manual_seed(0)
    return kind(2, depth=18, embedding_channels=CHANNELS, thumbnail_levels=1).train()  # type: ignore[arg-type, call-arg]


def images(*shapes: tuple[int, int]) -> list[Tensor]:
    return [random_image(*shape, seed=seed, embedding_channels=CHANNELS, levels=1) for seed, shape in enumerate(shapes)]


def plain_like(network: PictureClassifier) -> ResNet:
    """MONAI's own network with the same weights."""
    naive = isinstance(network, NaiveThumbnail)
    channels, options = (3, {"conv1_t_stride": 2}) if naive else (CHANNELS, {"no_max_pool": True})
    plain = resnet_of(18, channels, 2, **options)
    plain.load_state_dict(network.resnet.state_dict())
    return plain.train()


@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_one_size_are_learnt_from_as_by_monais_network(kind: type[PictureClassifier]) -> None:
    """To the bit: logits, gradients and running statistics."""
    network, image = made(kind), torch.stack(images((9, 7), (9, 7)))
    plain = plain_like(network)
    v, _, t = unpack(image, CHANNELS)
    found, expected = network(image), plain(t if kind is NaiveThumbnail else v)
    assert torch.equal(found, expected)
    for output in (found, expected):
        output.square().sum().backward()
    for (name, mine), (_, its) in zip(network.resnet.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(mine.grad, its.grad), name
    for (name, mine), (_, its) in zip(network.resnet.named_buffers(), plain.named_buffers(), strict=True):
        assert torch.equal(mine, its), name


def test_the_norm_is_over_the_pictures_alone() -> None:
    """As torch's over the positions of all pictures in a row."""
    torch.manual_seed(0)
    first, second = torch.randn(1, 3, 4, 6), torch.randn(1, 3, 2, 3)
    x = torch.cat([first, F.pad(second, (0, 3, 0, 2), value=5.0)])
    extent = torch.cat([torch.ones(1, 1, 4, 6), F.pad(torch.ones(1, 1, 2, 3), (0, 3, 0, 2))])
    norm, expected = PictureNorm(3), nn.BatchNorm1d(3)
    norm.extent = F.interpolate(extent, scale_factor=2)  # of which a step of 2 has led to x
    of_rows = expected(torch.cat([part.permute(0, 2, 3, 1).reshape(-1, 3) for part in (first, second)]))
    found = norm(x)
    torch.testing.assert_close(found[0].permute(1, 2, 0).reshape(-1, 3), of_rows[:24])
    torch.testing.assert_close(found[1, :, :2, :3].permute(1, 2, 0).reshape(-1, 3), of_rows[24:])
    assert not found[1, :, 2:].any() and not found[1, :, :, 3:].any()
    torch.testing.assert_close(norm.running_mean, expected.running_mean)
    torch.testing.assert_close(norm.running_var, expected.running_var)


def test_a_pool_does_not_carry_a_picture_over_its_border() -> None:
    pool = PicturePool(3, 2, 1)
    pool.extent = F.pad(torch.ones(1, 1, 4, 4), (0, 4, 0, 4))
    found = pool(F.pad(torch.ones(1, 1, 4, 4), (0, 4, 0, 4)))
    assert torch.equal(found[0, 0], F.pad(torch.ones(2, 2), (0, 2, 0, 2)))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (8, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_one_small_picture_is_learnt_from(kind: type[PictureClassifier], shape: tuple[int, int], padding: int) -> None:
    """A single position has no spread: the norm goes by its running statistics, and leaves them."""
    network, (image,) = made(kind), images(shape)
    network(F.pad(image[None], (0, padding, 0, padding))).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.resnet.parameters())
    last = [part for part in network.resnet.modules() if isinstance(part, PictureNorm)][-1]
    assert torch.equal(last.running_mean, torch.zeros(512)) and torch.equal(last.running_var, torch.ones(512))
    before = copy.deepcopy(network).eval()
    with torch.no_grad():
        assert before(image[None]).isfinite().all()


def test_what_lies_in_t_beyond_a_slide_is_not_seen() -> None:
    network, (large, small) = made(NaiveThumbnail), images((9, 7), (5, 6))
    batch = torch.stack([large, F.pad(small, (0, 1, 0, 4))])
    ink = batch.clone()
    ink[1, CHANNELS:, 5:] = 1.0
    assert torch.equal(network(batch), network(ink))


@pytest.mark.parametrize("stem_stride", [1, 2, 3])
def test_any_stem_steps_within_the_pictures(stem_stride: int) -> None:
    large, small = images((19, 13), (10, 9))
    batch, found = torch.stack([large, F.pad(small, (0, 4, 0, 9))]), []
    for margins in ((0, 0, 0, 0), (0, 6, 0, 5)):
        torch.manual_seed(0)
        network = EmbeddingResNet(
            2, depth=18, stem_stride=stem_stride, max_pool=True, embedding_channels=CHANNELS, thumbnail_levels=1
        )
        found.append(network.train()(F.pad(batch, margins)))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_what_is_traced_serves_slides_of_any_size(kind: type[PictureClassifier]) -> None:
    network, (first, second) = made(kind).eval().requires_grad_(False), images((9, 7), (12, 16))
    traced = torch.jit.trace(lambda image: network(image), first[None])
    torch.testing.assert_close(traced(second[None]), network(second[None]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_filled_up_batch_is_learnt_from_in_mixed_precision(kind: type[PictureClassifier]) -> None:
    large, small = images((19, 13), (10, 9))
    batch, found = torch.stack([large, F.pad(small, (0, 4, 0, 9))]), []
    for mixed in (False, True):
        network = made(kind)
        with torch.autocast("cpu", torch.float16, enabled=mixed):
            logits = network(batch)
        logits.float().sum().backward()
        found.append(logits.detach().float())
        assert all(weight.grad.isfinite().all() for weight in network.resnet.parameters())
    torch.testing.assert_close(*found, rtol=0.1, atol=0.1)
