from itertools import product

import numpy as np
import pytest
import torch
from random_textures import random_textures
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from scripts.common.option_table import OPTIONS
from scripts.scae.scae_network import SCAE


def scae_of(**options: object) -> SCAE:
    torch.manual_seed(0)
    return SCAE(**options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def warm_state() -> dict[str, Tensor]:
    """State of a network whose norms and threshold have seen some batches."""
    scae, patches = scae_of(), random_textures(4)
    for module in scae.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5  # running statistics that settle within the few batches of a test
    with torch.no_grad():
        for _ in range(20):
            scae.decompose(patches)
    return scae.state_dict()


@pytest.fixture
def warm(warm_state: dict[str, Tensor]) -> SCAE:
    """A network in evaluation, some locations of its patches active."""
    scae = scae_of()
    scae.load_state_dict(warm_state)
    return scae.eval()


def foreground_of(scae: SCAE, patches: Tensor) -> tuple[Tensor, Tensor]:
    """F as the decoder takes it, and the mask."""
    taken: list[Tensor] = []
    handle = scae.decode_foreground.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    mask = scae.decompose(patches).mask
    handle.remove()
    assert mask is not None
    return taken[0], mask


def test_parameters_are_2_4_million_most_of_them_in_the_decoders() -> None:
    scae = scae_of()
    count = sum(p.numel() for p in scae.parameters() if p.requires_grad)
    assert 2.35e6 < count < 2.45e6
    decoders = sum(p.numel() for m in (scae.decode_foreground, scae.decode_background) for p in m.parameters())
    assert decoders > 0.8 * count


def test_encoding_costs_at_most_a_fifth_of_a_gflop_a_patch() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        scae_of().eval().encode(torch.rand(2, 3, 112, 112))
    assert 0.05e9 < counter.get_total_flops() / 2 <= 0.20e9


def test_shapes_of_the_decomposition() -> None:
    parts = scae_of().decompose(torch.rand(2, 3, 112, 112))
    assert parts.foreground is not None and parts.mask is not None
    assert parts.mask.shape == (2, 1, 28, 28)
    assert parts.reconstruction.shape == parts.foreground.shape == parts.background.shape == (2, 3, 112, 112)


def test_reconstruction_is_the_sum_of_both_decodings(warm: SCAE) -> None:
    patches = random_textures(2)
    parts = warm.decompose(patches)
    assert parts.foreground is not None
    torch.testing.assert_close(parts.reconstruction, parts.foreground + parts.background, rtol=0, atol=0)
    torch.testing.assert_close(warm(patches), parts.reconstruction, rtol=0, atol=0)
    assert parts.foreground.std() > 0 and parts.background.std() > 0


def test_mixed_has_one_dense_branch() -> None:
    scae = scae_of(strategy="mixed")
    parts = scae.decompose(torch.rand(2, 3, 112, 112))
    assert parts.foreground is None and parts.mask is None
    torch.testing.assert_close(parts.reconstruction, parts.background, rtol=0, atol=0)
    assert not hasattr(scae, "detect") and not hasattr(scae, "decode_foreground")


def test_one_mask_for_all_channels_with_exact_zeros(warm: SCAE) -> None:
    foreground, mask = foreground_of(warm, random_textures(4))
    assert set(mask.unique().tolist()) == {0.0, 1.0} and 0.02 < mask.mean() < 0.3
    active = mask.expand_as(foreground) == 1
    assert foreground.shape[1] == 96
    assert (foreground[~active] == 0).all()
    assert ((foreground[active] > 0) & (foreground[active] < 1)).all()  # gated before masking


def test_training_mask_is_soft(warm: SCAE) -> None:
    foreground, mask = foreground_of(warm.train(), random_textures(4))
    assert ((mask > 0.05) & (mask < 0.95)).any()
    assert (foreground > 0).any() and (foreground < 1).all()


def test_v_is_the_mean_over_active_locations_and_over_the_background(warm: SCAE) -> None:
    patches = random_textures(3)
    with torch.no_grad():
        v = warm.encode(patches)
        trunk = warm.trunk(patches)
        foreground = torch.sigmoid(warm.to_foreground(trunk)).double()
        detection = warm.detect.norm(warm.detect.detect(trunk))
        background = torch.sigmoid(warm.to_background(trunk)).double()
        threshold = warm.detect.threshold
    assert v.shape == (3, 128) and background.shape == (3, 32, 7, 7)
    for b, c in product(range(3), range(96)):
        values = [
            foreground[b, c, i, j].item() for i, j in product(range(28), range(28)) if detection[b, 0, i, j] > threshold
        ]
        assert values and v[b, c].item() == pytest.approx(np.mean(values), abs=1e-5)
    for b, c in product(range(3), range(32)):
        assert v[b, 96 + c].item() == pytest.approx(background[b, c].mean().item(), abs=1e-5)


def test_v_pools_what_the_foreground_decoder_sees(warm: SCAE) -> None:
    patches = random_textures(3)
    foreground, mask = foreground_of(warm, patches)
    expected = foreground.sum(dim=(2, 3)) / mask.sum(dim=(2, 3))
    torch.testing.assert_close(warm.encode(patches)[:, :96], expected)


def test_no_active_location_gives_zeros(warm: SCAE) -> None:
    warm.detect.threshold.fill_(1e6)
    v = warm.encode(random_textures(2))
    assert (v[:, :96] == 0).all()
    assert ((v[:, 96:] > 0) & (v[:, 96:] < 1)).all()


def test_encoding_keeps_the_network_and_does_not_depend_on_the_batch(warm: SCAE) -> None:
    before = {name: tensor.clone() for name, tensor in warm.state_dict().items()}
    patches = random_textures(3)
    v = warm.encode(patches)
    torch.testing.assert_close(torch.cat([warm.encode(patch[None]) for patch in patches]), v)
    assert torch.equal(warm.encode(patches), v)
    assert ((v >= 0) & (v <= 1)).all() and v.std(dim=0).max() > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in warm.state_dict().items())


@pytest.mark.parametrize(
    ("strategy", "channels"), [("separated", 128), ("mixed", 128), ("foreground", 96), ("background", 32)]
)
def test_strategies_and_their_channels(strategy: str, channels: int) -> None:
    scae = scae_of(strategy=strategy).eval()
    assert scae.channels == channels
    assert scae.encode(torch.rand(2, 3, 112, 112)).shape == (2, channels)


def test_foreground_and_background_are_parts_of_separated(warm: SCAE, warm_state: dict[str, Tensor]) -> None:
    patches = random_textures(2)
    v = warm.encode(patches)
    for strategy, part in (("foreground", v[:, :96]), ("background", v[:, 96:])):
        other = scae_of(strategy=strategy).eval()
        other.load_state_dict(warm_state)  # strict: the very same network
        torch.testing.assert_close(other.encode(patches), part, rtol=0, atol=0)
        torch.testing.assert_close(other(patches), warm(patches), rtol=0, atol=0)


def test_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="strategy 'mixd': expected one of separated, mixed"):
        SCAE(strategy="mixd")


def test_gradient_reaches_the_trunk_through_the_mask() -> None:
    scae = scae_of()
    # F held constant: what is left of the foreground's gradient can only come through D.
    nn.init.zeros_(scae.to_foreground.weight)
    scae.to_foreground.weight.requires_grad_(False)
    parts = scae.decompose(random_textures(2))
    assert parts.foreground is not None
    parts.foreground.square().mean().backward()
    stem = scae.trunk[0].weight.grad
    assert stem is not None and stem.abs().max() > 0
    assert scae.detect.detect.weight.grad is not None and scae.detect.detect.weight.grad.abs().max() > 0


@pytest.mark.parametrize("strategy", OPTIONS["strategy"].choices)
def test_every_weight_is_trained(strategy: str) -> None:
    scae = scae_of(strategy=strategy)
    F.mse_loss(scae(random_textures(2)), random_textures(2)).backward()
    assert [name for name, p in scae.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []


@pytest.mark.parametrize("strategy", ["separated", "mixed"])
def test_loss_falls_in_a_few_steps(strategy: str) -> None:
    scae, patches = scae_of(strategy=strategy), random_textures(4)
    optimizer = torch.optim.SGD(scae.parameters(), lr=0.03, momentum=0.8, nesterov=True, weight_decay=1e-5)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = F.mse_loss(scae(patches), patches)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("strategy", ["separated", "mixed"])
def test_decoders_upsample_by_nearest_and_hold_no_transposed_convolution(strategy: str) -> None:
    modules = list(scae_of(strategy=strategy).modules())
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    assert not any(isinstance(module, transposed) for module in modules)
    upsamplers = [module for module in modules if isinstance(module, nn.Upsample)]
    assert upsamplers and all(module.mode == "nearest" for module in upsamplers)


def test_same_seed_same_network() -> None:
    patches = random_textures(2)
    assert torch.equal(scae_of().eval().encode(patches), scae_of().eval().encode(patches))
