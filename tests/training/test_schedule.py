"""The learning rate of train.yaml: linear warm-up, then steps (IV-D.b)."""

from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from tiny_flow import CONFIGS

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
"""At the start of an epoch: 1e-6 to 1e-4 over 5 epochs, a fifth every 30."""


def rates(epochs: int, **options: Any) -> list[float]:
    """Learning rate of every epoch."""
    parser = ConfigParser(ConfigParser.load_config_file(str(CONFIGS / "train.yaml")))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.get("learning_rate", 1e-4))
    parser.update({"optimizer": optimizer, **options})
    schedule = parser.get_parsed_content("lr_scheduler")
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_the_paper_by_hand() -> None:
    found = rates(91)
    for epoch, rate in EXPECTED_RATES.items():
        assert found[epoch] == pytest.approx(rate, rel=1e-12), epoch


def test_no_warmup() -> None:
    assert rates(5, **{"warmup#total_iters": 0, "decay#step_size": 2}) == pytest.approx(
        [1e-4, 1e-4, 2e-5, 2e-5, 4e-6], rel=1e-12
    )


def test_a_rate_below_that_of_the_warm_up_needs_none() -> None:
    assert rates(3, learning_rate=1e-7) == pytest.approx([1e-7] * 3, rel=1e-12)
