import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from scripts.scae.crosswise import CrosswiseMask


def mask_of(**options: float) -> CrosswiseMask:
    torch.manual_seed(0)
    return CrosswiseMask(8, **options).double()  # type: ignore[arg-type]


def trunk_of(seed: int = 0, *, batch: int = 4, side: int = 28) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 8, side, side, generator=generator, dtype=torch.float64)


def detection_of(mask: CrosswiseMask, trunk: Tensor) -> Tensor:
    """D' of a training batch: the projection, brought to mean 0 and variance 1."""
    projected = F.conv2d(trunk, mask.detect.weight)
    mean, variance = projected.mean(), projected.var(correction=0)
    return (projected - mean) / (variance + mask.norm.eps).sqrt()


@pytest.mark.parametrize("rate", [50.0, 90.0, 98.4])
def test_first_batch_sets_the_threshold_to_its_percentile(rate: float) -> None:
    mask, trunk = mask_of(sparsity_rate=rate), trunk_of()
    mask(trunk)
    expected = np.percentile(detection_of(mask, trunk).detach().numpy(), rate)
    assert mask.threshold.item() == pytest.approx(expected, abs=1e-6)


def test_later_batches_move_it_by_the_momentum() -> None:
    mask, expected = mask_of(sparsity_rate=90.0, momentum=0.7), None
    for seed in range(4):
        trunk = trunk_of(seed) ** (1 + 2 * (seed % 2))  # batches of unlike distributions
        mask(trunk)
        percentile = np.percentile(detection_of(mask, trunk).detach().numpy(), 90.0)
        expected = percentile if expected is None else 0.7 * expected + 0.3 * percentile
        assert mask.threshold.item() == pytest.approx(expected, abs=1e-6)


def test_training_mask_is_the_soft_step_over_the_threshold() -> None:
    mask, trunk = mask_of(sharpness=35.0), trunk_of()
    soft = mask(trunk)
    torch.testing.assert_close(soft, torch.sigmoid(35.0 * (detection_of(mask, trunk) - mask.threshold)))
    assert ((soft > 0.05) & (soft < 0.95)).any()


def test_no_gradient_passes_through_the_threshold() -> None:
    mask, trunk = mask_of(), trunk_of().requires_grad_()
    weights = torch.randn(4, 1, 28, 28, dtype=torch.float64)
    (mask(trunk) * weights).sum().backward()
    found, found_trunk = mask.detect.weight.grad, trunk.grad
    constant = mask.threshold.item()

    mask.detect.weight.grad = trunk.grad = None
    detection = detection_of(mask, trunk)
    (torch.sigmoid(mask.sharpness * (detection - constant)) * weights).sum().backward()
    torch.testing.assert_close(found, mask.detect.weight.grad)
    torch.testing.assert_close(found_trunk, trunk.grad)
    assert found is not None and found_trunk is not None and (found != 0).all() and (found_trunk != 0).any()

    # With a gradient through the percentile the result would be another one.
    mask.detect.weight.grad = None
    detection = detection_of(mask, trunk)
    moving = torch.quantile(detection.flatten(), mask.sparsity_rate / 100)
    (torch.sigmoid(mask.sharpness * (detection - moving)) * weights).sum().backward()
    assert mask.detect.weight.grad is not None
    assert (mask.detect.weight.grad - found).abs().max() > 1e-3 * found.abs().max()


def test_evaluation_mask_is_zeros_and_ones_of_the_same_threshold() -> None:
    mask = mask_of(sparsity_rate=90.0)
    for _ in range(80):
        soft = mask(trunk_of())
    before = mask.threshold.clone()
    hard = mask.eval()(
        trunk_of(),
    )
    assert hard.shape == (4, 1, 28, 28) and set(hard.unique().tolist()) == {0.0, 1.0}
    assert hard.mean().item() == pytest.approx(0.1, abs=0.005)
    assert ((hard == 1) == (soft > 0.5)).double().mean() > 0.99
    torch.testing.assert_close(mask.hard(trunk_of()), hard, rtol=0, atol=0)
    assert torch.equal(mask.threshold, before)


def test_patches_differ_in_how_much_of_them_is_active() -> None:
    # The percentile is over all locations of the batch, not of each patch.
    mask, trunk = mask_of(sparsity_rate=80.0), trunk_of()
    trunk[0] *= 0.1
    for _ in range(80):
        mask(trunk)
    shares = mask.eval()(trunk).mean(dim=(1, 2, 3))
    assert shares[0] < 0.5 * shares[1] and shares.mean().item() == pytest.approx(0.2, abs=0.01)


def test_threshold_is_saved_with_the_weights_and_resumed() -> None:
    mask, other = mask_of(), mask_of()
    for seed in range(3):
        mask(trunk_of(seed))
    other.load_state_dict(mask.state_dict())
    assert torch.equal(other.threshold, mask.threshold)
    mask(trunk_of(9)), other(trunk_of(9))  # the momentum goes on; a first batch would set it anew
    assert torch.equal(other.threshold, mask.threshold)


@pytest.mark.parametrize("rate", [0.0, 100.0, -1.0, 150.0])
def test_rates_outside_0_to_100_are_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=f"sparsity_rate {rate}: expected percent over 0 and under 100"):
        CrosswiseMask(8, sparsity_rate=rate)
