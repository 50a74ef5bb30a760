import numpy as np
import pytest
import torch
from random_matrices import pack
from torch import Tensor

from scripts.dsnet.grad_cam import LAYERS, METHODS, align_to_patches, class_activation_map
from scripts.dsnet.network import DSNet

CHANNELS = 8


def slide_image(
    height: int, width: int, *, seed: int = 0, hot_yx: tuple[int, int] | None = None, side: int = 1
) -> Tensor:
    """Noise in V with a square of patches that differ in channel 0, its corner at ``hot_yx``, on a white thumbnail."""
    v = 0.1 * torch.randn(CHANNELS, height, width, generator=torch.Generator().manual_seed(seed)) + 0.5
    if hot_yx is not None:
        v[0, hot_yx[0] : hot_yx[0] + side, hot_yx[1] : hot_yx[1] + side] += 5.0
    return pack(v, torch.zeros(9, 2 * height, 2 * width))[None]


@pytest.fixture(scope="module")
def detector() -> DSNet:
    """Random streams with a classifier set by hand: class 1 is the direction in which one hot patch moves the pooled features."""
    torch.manual_seed(0)
    network = DSNet(embedding_channels=CHANNELS).eval()
    pooled: list[Tensor] = []
    hook = network.classifier.register_forward_pre_hook(lambda _module, inputs: pooled.append(inputs[0][0]))
    with torch.no_grad():
        for hot_yx in [None, (8, 8)]:
            network(slide_image(16, 16, seed=7, hot_yx=hot_yx))
        cold, hot = pooled
        first, last = network.classifier[0], network.classifier[2]
        for layer in (first, last):
            layer.weight.zero_()
            layer.bias.zero_()
        first.weight[0] = (hot - cold) / (hot - cold).square().sum()
        first.bias[0] = -(first.weight[0] @ (hot + cold)) / 2
        last.weight[1, 0], last.weight[0, 0] = 1.0, -1.0
    hook.remove()
    return network


def test_head_cell_is_centred_on_every_fourth_patch() -> None:
    torch.manual_seed(0)
    network = DSNet(embedding_channels=CHANNELS).eval()
    image = slide_image(40, 40).requires_grad_()
    captured: list[Tensor] = []
    hook = network.head.register_forward_hook(lambda _module, _inputs, output: captured.append(output[0]))
    network(image)
    hook.remove()
    (gradient,) = torch.autograd.grad(captured[0][0, :, 4, 6].sum(), image)
    influence = gradient[0, :CHANNELS].square().sum(dim=0)
    assert divmod(int(influence.argmax()), 40) == (16, 24)


@pytest.mark.parametrize(("layer", "reach"), [("embedding_blocks.0", 7), ("embedding_blocks.1", 21), ("head", 58)])
def test_reach_of_a_cell(layer: str, reach: int) -> None:
    """How far away, in patches, what a cell sees lies; attention and the thumbnail stream, which see the whole slide, left out."""
    torch.manual_seed(0)
    options = {"thumbnail_stream": False, "stream_attention": False, "channel_attention": False}
    network = DSNet(embedding_channels=CHANNELS, **options).eval()
    image = slide_image(120, 120).requires_grad_()
    captured: list[Tensor] = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _module, _inputs, out: captured.append(out[0]))
    network(image)
    hook.remove()
    middle = 60 // LAYERS[layer]
    (gradient,) = torch.autograd.grad(captured[0][0, :, middle, middle].sum(), image)
    seen = torch.nonzero(gradient[0, :CHANNELS].abs().sum(dim=0)) - 60
    assert seen.abs().max() == reach


@pytest.mark.parametrize("layer", ["head", "embedding_blocks.0"])
@pytest.mark.parametrize("hot_yx", [(4, 20), (16, 8), (12, 0), (28, 24)])
def test_hot_patch_is_the_hottest_place(detector: DSNet, hot_yx: tuple[int, int], layer: str) -> None:
    image = slide_image(30, 26, seed=1234, hot_yx=hot_yx)
    assert detector(image).argmax() == 1
    cam = class_activation_map(detector, image, 1, layer=layer)
    assert divmod(int(cam.argmax()), 26) == hot_yx


def test_hot_square_is_not_shifted(detector: DSNet) -> None:
    side, offsets = 8, []
    for corner in (8, 9, 10, 11):
        image = slide_image(28, 28, seed=99, hot_yx=(corner, corner), side=side)
        cam = class_activation_map(detector, image, 1, layer="head")
        centre_yx = np.argwhere(cam > 0.5).mean(axis=0)
        offsets.append(centre_yx - (corner + (side - 1) / 2))
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.75, offsets


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("method", METHODS)
def test_map_has_its_definition(detector: DSNet, layer: str, method: str) -> None:
    """Every patch is observed, so that the formulas of the papers need no mask."""
    image = slide_image(16, 16, hot_yx=(8, 4))
    captured: list[Tensor] = []
    hook = detector.get_submodule(layer).register_forward_hook(lambda _module, _inputs, out: captured.append(out[0]))
    logit = detector(image)[0, 1]
    hook.remove()
    (g,), a = torch.autograd.grad(logit, captured[0]), captured[0].detach()
    alpha = g**2 / (2 * g**2 + (a * g**3).sum(dim=(2, 3), keepdim=True))
    weights = {
        "gradcam": g.mean(dim=(2, 3), keepdim=True),
        "gradcam++": (alpha.nan_to_num() * g.relu()).sum(dim=(2, 3), keepdim=True),
        "hirescam": g,
        "layercam": g.relu(),
    }
    cells = (weights[method] * a).sum(dim=1)[0].relu()
    cam = class_activation_map(detector, image, 1, layer=layer, method=method)
    np.testing.assert_allclose(
        cam[:: LAYERS[layer], :: LAYERS[layer]] * float(cells.max()), cells.numpy(), rtol=1e-3, atol=1e-5
    )


def test_unobserved_is_zero_and_the_rest_spans_0_to_1(detector: DSNet) -> None:
    image = slide_image(19, 22, hot_yx=(8, 12))
    image[:, :CHANNELS, 3:7, 5:18] = 0
    image[:, :CHANNELS, 12:, :4] = 0
    cam = class_activation_map(detector, image, 1)
    assert cam.shape == (19, 22)
    assert cam.dtype == np.float32
    observed = (image[0, :CHANNELS] != 0).any(dim=0).numpy()
    assert not cam[~observed].any()
    assert cam.min() >= 0
    assert cam[observed].max() == 1.0


def test_nothing_for_the_class_is_zeros(detector: DSNet) -> None:
    network = DSNet(embedding_channels=CHANNELS).eval()
    network.load_state_dict(detector.state_dict())
    image = slide_image(16, 16, hot_yx=(8, 8))
    with torch.no_grad():
        network.classifier[2].weight.zero_()
    assert not class_activation_map(network, image, 1).any()
    assert class_activation_map(detector, image, 1).any()


def test_evidence_against_the_class_is_not_heat(detector: DSNet) -> None:
    cam = class_activation_map(detector, slide_image(16, 16, hot_yx=(8, 8)), 0)
    assert cam.min() == 0
    assert cam[8, 8] == 0


@pytest.mark.parametrize("training", [True, False])
def test_network_is_left_as_it_was(detector: DSNet, training: bool) -> None:
    network = DSNet(embedding_channels=CHANNELS)
    network.load_state_dict(detector.state_dict())
    network.train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    image = slide_image(12, 12, hot_yx=(4, 4))
    class_activation_map(network, image, 1)
    assert network.training is training
    assert torch.is_grad_enabled()
    assert not image.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    torch.jit.script(network)


def test_callers_gradient_mode_does_not_matter(detector: DSNet) -> None:
    expected = class_activation_map(detector, slide_image(12, 12, hot_yx=(4, 4)), 1)
    with torch.no_grad():
        np.testing.assert_array_equal(class_activation_map(detector, slide_image(12, 12, hot_yx=(4, 4)), 1), expected)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        np.testing.assert_array_equal(class_activation_map(detector, slide_image(12, 12, hot_yx=(4, 4)), 1), expected)
        assert torch.is_inference_mode_enabled()


def test_interpolation_is_linear_and_ignores_empty_cells() -> None:
    cells = torch.tensor([[0.0, 4.0, 100.0]])
    full = align_to_patches(cells, torch.ones(1, 3), shape_yx=(2, 11), stride=4)
    np.testing.assert_allclose(full[0], [0, 1, 2, 3, 4, 28, 52, 76, 100, 100, 100])
    np.testing.assert_array_equal(full[1], full[0])
    masked = align_to_patches(cells, torch.tensor([[0.0, 1.0, 0.0]]), shape_yx=(1, 11), stride=4)
    np.testing.assert_allclose(masked[0], [0, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0])
    finer = align_to_patches(cells, torch.ones(1, 3), shape_yx=(1, 6), stride=2)
    np.testing.assert_allclose(finer[0], [0, 2, 4, 52, 100, 100])


@pytest.mark.parametrize(
    ("image", "class_index", "options", "message"),
    [
        (slide_image(8, 8).repeat(2, 1, 1, 1), 1, {}, "one slide at a time"),
        (torch.zeros(1, CHANNELS + 36, 8, 8), 1, {}, "no observed patch"),
        (slide_image(8, 8), 2, {}, "expected 0 to 1"),
        (slide_image(8, 8), 1, {"layer": "stem"}, "'stem': expected one of"),
        (slide_image(8, 8), 1, {"method": "cam"}, "cam 'cam': expected one of gradcam"),
    ],
)
def test_wrong_input_is_refused(
    detector: DSNet, image: Tensor, class_index: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_activation_map(detector, image, class_index, **options)
