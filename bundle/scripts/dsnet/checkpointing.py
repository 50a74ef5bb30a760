"""Activation checkpointing: memory for time in training (Chen et al., Training deep nets with sublinear memory cost, 2016)."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from .heat_map import Network
from .sparse import SparseBatchNorm2d


def checkpoint_blocks(network: Network, *, enabled: bool = True) -> Network:
    """Let every block of ``network`` keep only its inputs in training and compute itself again in the backward pass.

    Weights, their names, outputs, gradients, running means and variances stay the same. Only ``num_batches_tracked`` of torch's
    batch norm counts both runs; nothing here reads it. The network can no longer be scripted; a new one that takes its weights can.

    Args:
        network: changed in place and returned.
        enabled: False leaves it as it is.
    """
    for block in _blocks(network) if enabled else ():
        block.forward = partial(checkpointed, block, block.forward)
    return network


def _blocks(network: Network) -> Iterator[nn.Module]:
    """The parts of a network that are computed one after the other: its children, of lists of blocks the blocks."""
    for child in network.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield child


def checkpointed(block: nn.Module, forward: Callable[..., Any], *inputs: Any) -> Any:
    """Run a block; in training keep its inputs alone, and run it again in the backward pass."""
    if not block.training:
        return forward(*inputs)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=partial(_contexts, block))


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first and the second run of a block."""
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Let the norms of a block normalise without moving their running statistics, which have moved in the first run."""
    norms = [module for module in block.modules() if isinstance(module, SparseBatchNorm2d | nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
