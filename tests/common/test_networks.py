import pytest
import torch
from torch import nn

from scripts.common.networks import evaluating, unwrapped


@pytest.mark.parametrize("training", [False, True])
def test_the_mode_is_as_before_also_after_an_error(training: bool) -> None:
    network = nn.Sequential(nn.Linear(2, 1), nn.Dropout()).train(training)
    with pytest.raises(ValueError, match="inside"), evaluating(network):
        assert not network[1].training
        assert not torch.is_grad_enabled()
        raise ValueError("inside")
    assert network.training is network[1].training is training
    assert torch.is_grad_enabled()


def test_a_network_that_nothing_wraps_is_itself() -> None:
    network = nn.Linear(2, 1)
    assert unwrapped(network) is network
