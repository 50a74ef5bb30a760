import pytest
import torch
from dsnet.random_matrices import random_image
from torch import Tensor

from scripts.baselines.patch_network import PatchResNet, make_patch_network
from scripts.baselines.patchwise import DiscriminativePatches, RectifiedPatches
from scripts.baselines.supervised import HeatMapForest
from scripts.common.errors import RequestError
from scripts.dsnet.baseline import Baseline

SIDE_PX = 32
CHANNELS = 3 * SIDE_PX**2
METHODS = (RectifiedPatches, DiscriminativePatches, HeatMapForest)


def image(rows: int, columns: int) -> Tensor:
    return random_image(rows, columns, embedding_channels=CHANNELS, levels=1)[None]


def vectors(count: int) -> Tensor:
    """So many observed patches, and a position where none is."""
    x = torch.randn(count + 1, CHANNELS, generator=torch.Generator().manual_seed(0))
    x[1] = 0
    return x


@pytest.fixture(scope="module")
def resnet() -> PatchResNet:
    torch.manual_seed(0)
    return PatchResNet(18, CHANNELS, 2)


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_the_methods_on_raw_patches(kind: type[Baseline]) -> None:
    """What every method must do: card, TorchScript, padding, logits of patches."""
    torch.manual_seed(0)
    network = kind(2, patch_network="resnet18", embedding_channels=CHANNELS, thumbnail_levels=1)  # type: ignore[arg-type, call-arg]
    small = image(3, 4)
    network.train()(small).sum().backward()
    assert any(weight.grad is not None for weight in network.classifier.parameters())
    network.eval()
    padded = torch.zeros(1, small.shape[1], 5, 6)
    padded[..., :3, :4] = small
    with torch.no_grad():
        expected = network(small)
        torch.testing.assert_close(network(padded), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.jit.script(network)(small), expected, rtol=1e-4, atol=1e-5)
        assert network.patch_logits(small).shape == (1, 2, 3, 4)
    again = kind(**network.arguments)  # type: ignore[arg-type, call-arg]
    assert isinstance(again.classifier, PatchResNet) and again.arguments == network.arguments


def test_each_patch_is_judged_by_its_own_pixels(resnet: PatchResNet) -> None:
    x = vectors(3).view(2, 2, CHANNELS)
    with torch.no_grad():
        found = resnet.eval()(x)
        pixels = x.view(4, 3, SIDE_PX, SIDE_PX)
        expected = resnet.resnet(pixels).view(2, 2, 2)
    torch.testing.assert_close(found[0, 0], expected[0, 0])
    torch.testing.assert_close(found[1], expected[1])
    assert not found[0, 1].any()


def test_parts_of_a_batch_come_from_all_of_it(resnet: PatchResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three parts of at most four patches; none of a single patch, of which batch norm makes nothing."""
    sizes = []

    def seen(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))

    monkeypatch.setattr(resnet, "at_once", 4)
    handle = resnet.resnet.conv1.register_forward_pre_hook(seen)
    x = vectors(9)
    with torch.no_grad():
        parts = resnet.eval()(x)
    monkeypatch.setattr(resnet, "at_once", 128)
    with torch.no_grad():
        torch.testing.assert_close(resnet(x), parts)
    handle.remove()
    assert sizes == [3, 3, 3, 9]


def test_computing_twice_changes_no_gradient(resnet: PatchResNet, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients, statistics = [], []
    state = {name: value.clone() for name, value in resnet.state_dict().items()}
    for direct in (False, True):
        resnet.load_state_dict(state)
        resnet.train().zero_grad()
        if direct:
            monkeypatch.setattr(resnet, "_learn", resnet.resnet)
        resnet(vectors(5)).square().sum().backward()
        gradients.append([weight.grad.clone() for weight in resnet.parameters() if weight.grad is not None])
        statistics.append(resnet.resnet.bn1.running_mean.clone())
    assert gradients[0] and all(torch.allclose(*pair, atol=1e-5) for pair in zip(*gradients, strict=True))
    torch.testing.assert_close(*statistics)


@pytest.mark.parametrize("count", [0, 1])
def test_few_patches(resnet: PatchResNet, count: int) -> None:
    x = vectors(1)[1 - count :]
    for mode in (True, False):
        assert resnet.train(mode)(x).isfinite().all()


def test_the_teacher_follows_in_its_statistics_too() -> None:
    torch.manual_seed(0)
    network = RectifiedPatches(2, patch_network="resnet18", embedding_channels=CHANNELS, thumbnail_levels=1).train()
    network(image(2, 2))
    network(image(2, 2))  # moves the teacher before the step
    network.move_teacher(1)
    means = [part.resnet.bn1.running_mean for part in (network.teacher, network.classifier)]
    assert means[0].any()
    torch.testing.assert_close(*means)


@pytest.mark.parametrize("channels", [128, 3 * 16**2])
def test_other_vectors_than_raw_patches_are_refused(channels: int) -> None:
    with pytest.raises(RequestError, match=f"V has {channels} channels, expected raw patches of at least 32 px"):
        make_patch_network("resnet18", channels, 2)


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(RequestError, match="patch_network"):
        make_patch_network("resnet19", CHANNELS, 2)  # type: ignore[arg-type]
