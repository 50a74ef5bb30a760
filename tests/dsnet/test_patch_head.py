"""DSNet that decides at the patch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_matrices import random_image
from test_dsnet_padding import pad, stack

from scripts.common.errors import RequestError
from scripts.dsnet.checkpointing import checkpoint_blocks
from scripts.dsnet.network import DSNet
from scripts.dsnet.packing import unpack
from scripts.dsnet.pooling import top_mean

SIZES_YX = ((9, 7), (6, 11), (1, 1), (2, 3))
SWITCHES = (
    "sparse", "thumbnail_stream", "multi_scale", "concurrent_bottleneck", "spatial_bottleneck", "stream_attention",
    "channel_attention", "attention_branch",
)  # fmt: skip


def network_of(num_classes: int = 2, **options: bool | float) -> DSNet:
    """A network whose norms and biases hold values that would show on empty positions."""
    torch.manual_seed(0)
    network = DSNet(num_classes, head="patch", **options).double().eval()
    for name, tensor in network.state_dict().items():
        if name.endswith(("bias", "running_mean", "standardise.mean")):
            tensor.normal_(std=0.3)
    return network


def test_the_papers_head_is_the_default_and_untouched() -> None:
    """Its weights, as drawn, do not depend on what the other head would take."""
    torch.manual_seed(0)
    default = DSNet().state_dict()
    torch.manual_seed(0)
    named = DSNet(head="slide", top_share=0.5, attention_branch=False, dropout=0.5).state_dict()
    assert list(default) == list(named) and all(torch.equal(default[name], named[name]) for name in default)
    assert not any(name.startswith(("decoder", "attention.")) for name in default)
    assert not any(name.startswith("classifier") for name in network_of().state_dict())


def test_size() -> None:
    assert 1.0e6 <= sum(weight.numel() for weight in DSNet(head="patch").parameters()) <= 1.3e6


@pytest.mark.parametrize("classes", [2, 3])
def test_the_slide_is_what_its_highest_patches_say(classes: int) -> None:
    network, image = network_of(classes, attention_branch=False, top_share=0.1), random_image(9, 7)[None].double()
    patches = network.patch_logits(image)
    assert patches.shape == (1, classes, 9, 7)
    observed = (image[:, :128] != 0).any(dim=1, keepdim=True).double()
    torch.testing.assert_close(network(image), top_mean(patches, observed, 0.1))


@pytest.mark.parametrize("sparse", [True, False])
def test_a_slide_has_the_same_logits_alone_and_in_a_padded_batch(sparse: bool) -> None:
    network = network_of(sparse=sparse)
    images = [random_image(*size, seed=index).double() for index, size in enumerate(SIZES_YX)]
    batch = stack([pad(image, right=3, bottom=2) for image in images])
    together, maps = network(batch), network.patch_logits(batch)
    for image, logits, patches in zip(images, together, maps, strict=True):
        height, width = image.shape[1:]
        torch.testing.assert_close(logits, network(image[None])[0], rtol=1e-7, atol=1e-9)
        alone = network.patch_logits(image[None])[0]
        observed = (image[:128] != 0).any(dim=0).expand_as(alone)
        torch.testing.assert_close(patches[:, :height, :width][observed], alone[observed], rtol=1e-7, atol=1e-9)


def test_of_two_classes_the_first_has_no_evidence_of_its_own() -> None:
    """Its logits are 0, at the patches as at the slide; of more classes each has its own."""
    image = random_image(9, 7)[None].double()
    two, three = network_of(2), network_of(3)
    assert not two.patch_logits(image)[:, 0].any() and not two(image)[:, 0].any()
    assert two(image)[:, 1].all() and three.patch_logits(image).flatten(2).std(dim=2).all()


def test_attention_and_the_highest_patches_decide_together() -> None:
    network, image = network_of(top_share=0.1), random_image(9, 7)[None].double()
    patches = network.patch_logits(image)
    v, o, _ = unpack(image, 128)
    assert network.attention is not None
    attention, _ = network.attention(network.standardise(v, o), o)
    expected = (top_mean(patches, o, 0.1) + (patches * attention).sum(dim=(2, 3))) / 2
    torch.testing.assert_close(network(image), expected)


def test_a_patch_decides_at_its_place() -> None:
    """V enters the decoder at full resolution: what a change of one patch moves most lies within the last 5x5 window around it."""
    network, image = network_of(), random_image(20, 20, share=1.0)[None].double()
    changed = image.clone()
    changed[0, :128, 7, 11] += 3.0
    difference = (network.patch_logits(changed) - network.patch_logits(image)).abs().sum(dim=1)[0]
    row, column = divmod(int(difference.argmax()), 20)
    assert abs(row - 7) <= 2 and abs(column - 11) <= 2


@pytest.mark.parametrize("switch", SWITCHES)
def test_it_scripts_whatever_is_left_out(switch: str) -> None:
    network = DSNet(3, head="patch", **{switch: False}).eval()
    image = random_image(9, 6)[None]
    scripted = torch.jit.script(network)
    torch.testing.assert_close(scripted(image), network(image))
    for found, expected in zip(scripted.attend(image), network.attend(image), strict=True):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.filterwarnings("ignore:Constant folding:UserWarning")  # of the padding's reversed sizes
def test_onnx_network_equals_the_eager_one(tmp_path: Path, dynamo: bool) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    network, path = network_of().float(), tmp_path / "network.onnx"
    images = stack([pad(random_image(9, 7), right=3, bottom=2), random_image(11, 10, seed=1, share=0.1)]).float()
    names = {"input_names": ["image"], "output_names": ["pred"]}
    torch.onnx.export(network, (images,), str(path), opset_version=18, dynamo=dynamo, **names)  # type: ignore[arg-type]
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    (found,) = reference.ReferenceEvaluator(model).run(None, {"image": images.numpy()})
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-3, atol=1e-4)


def test_checkpointing_gives_the_same_gradients_and_statistics() -> None:
    """With dropout, too: what is computed twice leaves out the same values."""
    images = torch.stack([random_image(9, 7, seed=seed, embedding_channels=8) for seed in range(2)]).double()
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        network = checkpoint_blocks(DSNet(head="patch", dropout=0.3, embedding_channels=8).double(), enabled=enabled)
        network(images).square().sum().backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        found.append({**network.state_dict(), **{f"gradient of {name}": value for name, value in gradients.items()}})
    assert len(found[0]) > len(network.state_dict())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"head": "cell"}, "one of slide, patch"),
        ({"head": "patch", "top_share": 0.0}, "a number over 0 and at most 1"),
    ],
)
def test_what_there_is_not_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(RequestError, match=f"expected {expected}"):
        DSNet(**options)  # type: ignore[arg-type]


def test_the_papers_head_has_no_logits_of_patches() -> None:
    with pytest.raises(ValueError, match="expected head 'patch'"):
        DSNet().patch_logits(random_image(9, 7)[None])
