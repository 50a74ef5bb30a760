"""The network itself, whatever stands around it, and the mode that it runs in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def unwrapped(network: Any) -> Any:
    """Return the network itself, where it stands inside DistributedDataParallel or is compiled."""
    network = getattr(network, "_orig_mod", network)
    return network.module if isinstance(network, DistributedDataParallel) else network


def trainable_parameters(network: nn.Module) -> int:
    """Return how many numbers a training of ``network`` changes."""
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Hold a network in evaluation mode, and record no gradients; at the end it is in the mode that it was in, also after an error.

    Args:
        network: on whatever device.
    """
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(was_training)
