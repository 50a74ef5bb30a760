import logging
from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet50
from torch import Tensor, nn

from scripts.common.errors import RequestError
from scripts.encoding.resnet import resnet50_stage3

TORCHVISION = {
    "conv1.weight": (64, 3, 7, 7),
    "bn1.running_mean": (64,),
    "layer1.0.downsample.0.weight": (256, 64, 1, 1),
    "layer1.0.downsample.1.num_batches_tracked": (),
    "layer2.3.bn3.bias": (512,),
    "layer3.0.conv2.weight": (256, 256, 3, 3),
    "layer3.5.conv3.weight": (1024, 256, 1, 1),
    "layer4.2.conv3.weight": (2048, 512, 1, 1),
    "fc.weight": (1000, 2048),
    "fc.bias": (1000,),
}
"""Some of the 320 entries of torchvision's state dict (torchvision.models.resnet50)."""


def drawn_network() -> nn.Module:
    """All of ResNet-50 in torchvision's form, with statistics as of a trained one."""
    torch.manual_seed(1)
    network = resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, num_classes=1000)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def whole() -> nn.Module:
    return drawn_network()


@pytest.fixture(scope="module")
def weights(whole: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnet") / "resnet50.pth"
    torch.save(whole.state_dict(), path)
    return path


def third_stage(whole: nn.Module, images: Tensor) -> Tensor:
    """Features before the fourth stage, averaged."""
    found: list[Tensor] = []
    handle = whole.layer3.register_forward_hook(lambda _module, _inputs, output: found.append(output.clone()))
    with torch.inference_mode():
        whole(images)
    handle.remove()
    return found[0].mean(dim=(2, 3))


def test_a_state_dict_by_torchvisions_names(whole: nn.Module, weights: Path) -> None:
    state = whole.state_dict()
    assert len(state) == 320
    assert {name: tuple(state[name].shape) for name in TORCHVISION} == TORCHVISION
    network = resnet50_stage3(weights).eval()
    images = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        vectors = network(images)
    assert vectors.shape == (2, 1024)
    torch.testing.assert_close(vectors, third_stage(whole, images))


def test_an_older_file_counts_no_batches(whole: nn.Module, weights: Path, tmp_path: Path) -> None:
    state = {name: value for name, value in whole.state_dict().items() if "num_batches_tracked" not in name}
    torch.save(state, tmp_path / "old.pth")
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(
            resnet50_stage3(tmp_path / "old.pth").eval()(images), resnet50_stage3(weights).eval()(images)
        )


@pytest.mark.parametrize("wrong", ["missing", "shape", "prefix"])
def test_weights_of_another_network(whole: nn.Module, tmp_path: Path, wrong: str) -> None:
    state = dict(whole.state_dict())
    if wrong == "missing":
        del state["layer3.5.conv3.weight"]
    elif wrong == "shape":
        state["conv1.weight"] = torch.zeros(64, 3, 7, 7, 7)
    else:
        state = {f"module.{name}": value for name, value in state.items()}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(
        RequestError, match=r"x\.pth: does not fit.*expected a state dict of ResNet-50 by torchvision's names"
    ):
        resnet50_stage3(tmp_path / "x.pth")


def test_no_weights(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"gone\.pth: no such file; expected a state dict of ResNet-50"):
        resnet50_stage3(tmp_path / "gone.pth")


def test_random_weights_are_said_and_repeatable(caplog: pytest.LogCaptureFixture) -> None:
    state = torch.get_rng_state()
    with caplog.at_level(logging.WARNING):
        first, second = (resnet50_stage3("random").state_dict() for _ in range(2))
    assert "weights are random" in caplog.text
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)
