import pytest
import torch

from scripts.training.schedule import WarmupStep, warmup_step_schedule

EXPECTED_RATES = {
    0: 1e-6,
    1: 1e-6 + 0.2 * 99e-6,
    2: 40.6e-6,
    4: 80.2e-6,
    5: 1e-4,
    29: 1e-4,
    30: 2e-5,
    59: 2e-5,
    60: 4e-6,
    90: 8e-7,
}
"""Learning rate at the start of an epoch: 1e-6 to 1e-4 over 5 epochs, a fifth every 30."""


@pytest.mark.parametrize(("epoch", "rate"), EXPECTED_RATES.items())
def test_the_paper_by_hand(epoch: int, rate: float) -> None:
    assert 1e-4 * WarmupStep()(epoch) == pytest.approx(rate, rel=1e-9)


def test_no_warmup() -> None:
    assert [WarmupStep(warmup_epochs=0, step_epochs=2, gamma=0.5)(epoch) for epoch in range(5)] == [
        1,
        1,
        0.5,
        0.5,
        0.25,
    ]


def test_the_optimizer_follows() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    schedule = warmup_step_schedule(optimizer, start=0.01, warmup_epochs=5, step_epochs=30, gamma=0.2)
    rates = []
    for _ in range(91):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    for epoch, rate in EXPECTED_RATES.items():
        assert rates[epoch] == pytest.approx(rate, rel=1e-9), epoch
