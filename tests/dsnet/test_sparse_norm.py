import pytest
import torch
from random_matrices import random_map, random_mask
from torch import Tensor

from scripts.dsnet.sparse import SparseBatchNorm2d, Standardise


def literal_statistics(x: Tensor, o: Tensor) -> tuple[Tensor, Tensor]:
    """Equations 4 and 5 as printed, beta included, one channel at a time."""
    means, variances = [], []
    for channel in range(x.shape[1]):
        f, observed = x[:, channel], o[:, 0]
        mean = (f * observed).sum() / observed.sum()
        beta = ((1 - observed) * mean**2).sum()
        means.append(mean)
        variances.append((((f - mean) ** 2).sum() - beta) / observed.sum())
    return torch.stack(means), torch.stack(variances)


def per_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def norm_of(channels: int, **options: float) -> SparseBatchNorm2d:
    norm = SparseBatchNorm2d(channels, **options).double()  # type: ignore[arg-type]
    torch.manual_seed(3)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize("share", [0.05, 0.5, 1.1])
def test_equations_4_and_5_equal_the_masked_form(share: float) -> None:
    o = random_mask(3, 9, 8, share=share)
    x = random_map(o, 4, mean=2.0)
    mean, variance = literal_statistics(x, o)
    observed = x.movedim(1, 0)[:, o[:, 0] == 1]
    torch.testing.assert_close(mean, observed.mean(dim=1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(variance, observed.var(dim=1, correction=0), rtol=1e-11, atol=1e-11)

    norm = norm_of(4)
    expected = (x - per_channel(mean)) / (per_channel(variance) + norm.eps).sqrt()
    expected = (expected * per_channel(norm.weight) + per_channel(norm.bias)) * o
    torch.testing.assert_close(norm(x, o), expected, rtol=1e-10, atol=1e-10)


def test_values_off_the_mask_are_not_looked_at() -> None:
    o = random_mask(2, 6, 6)
    x = random_map(o, 3)
    torch.testing.assert_close(norm_of(3)(x + 7 * (1 - o), o), norm_of(3)(x, o))


@pytest.mark.parametrize("training", [True, False])
def test_unobserved_positions_stay_exactly_zero(training: bool) -> None:
    o = random_mask(2, 6, 6)
    y = norm_of(3).train(training)(random_map(o, 3, mean=1.0), o)
    assert (y[o.expand_as(y) == 0] == 0).all()
    assert (y[o.expand_as(y) == 1] != 0).all()


def test_everything_observed_is_batch_normalisation() -> None:
    norm, dense = norm_of(3), torch.nn.BatchNorm2d(3, eps=1e-3, momentum=0.1).double()
    dense.load_state_dict(norm.state_dict(), strict=False)
    o = torch.ones(2, 1, 5, 4, dtype=torch.float64)
    for step in range(3):
        x = random_map(o, 3, seed=step, mean=step)
        torch.testing.assert_close(norm(x, o), dense(x))
    torch.testing.assert_close(norm.running_mean, dense.running_mean)
    torch.testing.assert_close(norm.running_var, dense.running_var)
    torch.testing.assert_close(norm.eval()(x, o), dense.eval()(x))


def test_running_statistics_are_those_of_the_observed_positions() -> None:
    norm = norm_of(4, momentum=0.25)
    mean, variance = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    for step in range(3):
        o = random_mask(2, 7, 5, seed=step)
        x = random_map(o, 4, seed=10 + step, mean=3.0)
        norm(x, o)
        batch_mean, batch_variance = literal_statistics(x, o)
        count = o.sum()
        mean = 0.75 * mean + 0.25 * batch_mean
        variance = 0.75 * variance + 0.25 * batch_variance * count / (count - 1)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_evaluation_uses_the_running_statistics_and_keeps_them() -> None:
    norm = norm_of(2).eval()
    norm.running_mean.copy_(torch.tensor([1.0, -2.0]))
    norm.running_var.copy_(torch.tensor([4.0, 0.25]))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    o = random_mask(1, 4, 4)
    x = random_map(o, 2)
    expected = (x - per_channel(before["running_mean"])) / (per_channel(before["running_var"]) + 1e-3).sqrt()
    expected = (expected * per_channel(norm.weight) + per_channel(norm.bias)) * o
    torch.testing.assert_close(norm(x, o), expected)
    for name, buffer in norm.named_buffers():
        assert torch.equal(buffer, before[name])


def test_variance_does_not_cancel_in_single_precision() -> None:
    # One position in a hundred observed, far from zero: the literal equation 5 loses the variance in float32.
    o = random_mask(4, 40, 40, share=0.01)
    x = random_map(o, 1, mean=1000.0)
    literal = literal_statistics(x.float(), o.float())[1]
    exact = x[o == 1].var(correction=1)
    norm = SparseBatchNorm2d(1, momentum=1.0)
    norm(x.float(), o.float())
    assert norm.running_var.item() == pytest.approx(exact.item(), rel=1e-4)
    assert abs(literal.item() - exact.item()) > 0.01 * exact


def test_nothing_observed_gives_zeros_and_finite_statistics() -> None:
    norm = norm_of(3)
    o = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    assert (norm(random_map(o, 3), o) == 0).all()
    assert torch.isfinite(norm.running_mean).all() and torch.isfinite(norm.running_var).all()


@pytest.mark.parametrize("training", [True, False])
def test_gradient_of_map_weight_and_bias(training: bool) -> None:
    norm = norm_of(2).train(training)
    o = random_mask(2, 4, 3)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        state = {"weight": weight, "bias": bias, **{name: buffer.clone() for name, buffer in norm.named_buffers()}}
        return torch.func.functional_call(norm, state, (x, o))

    inputs = (random_map(o, 2), norm.weight.detach().clone(), norm.bias.detach().clone())
    assert torch.autograd.gradcheck(run, tuple(tensor.requires_grad_() for tensor in inputs))


def test_standardise_keeps_unobserved_positions_exactly_zero() -> None:
    standardise = Standardise(3).double()
    o = random_mask(2, 6, 5)
    x = random_map(o, 3, mean=5.0)
    torch.testing.assert_close(standardise(x, o), x, rtol=0, atol=0)  # until the statistics are set
    standardise.mean.copy_(torch.tensor([5.0, 4.0, -1.0]))
    standardise.deviation.copy_(torch.tensor([2.0, 0.5, 3.0]))
    y = standardise(x, o)
    torch.testing.assert_close(y, (x - per_channel(standardise.mean)) / per_channel(standardise.deviation) * o)
    assert (y[o.expand_as(y) == 0] == 0).all()
    assert {"mean", "deviation"} == set(standardise.state_dict())  # they travel with the weights
