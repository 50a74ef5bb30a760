"""Weights averaged over the steps of a training, which are validated and kept in place of the last ones."""

from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..common.networks import unwrapped
from ..common.option_table import checked
from ..dsnet.baseline import Fitted
from ..dsnet.sparse import Standardise


def averaged_network(network: nn.Module, optimizer: Optimizer, *, share: float | None) -> nn.Module:
    """Return a network whose weights follow those of ``network``: after each step they move by ``share`` towards them.

    An exponential moving average (Polyak and Juditsky 1992; Tarvainen and Valpola 2017). Running statistics are averaged as weights
    are. It begins with the initial weights. Of several processes each holds the same average, as the weights are the same.

    Args:
        network: takes the steps; may stand inside DistributedDataParallel.
        optimizer: makes the steps, so that with accumulation a step of several batches counts once.
        share: in (0, 1]; None returns the network itself.

    Raises:
        RequestError: ``share`` is not in (0, 1].
    """
    core: nn.Module = unwrapped(network)
    if share is None:
        return core
    share = checked("evaluated#share", share)
    # Both networks share the parts that are fitted when the training begins.
    fitted = [part for part in core.modules() if isinstance(part, Standardise | Fitted)]
    average = deepcopy(core, {id(part): part for part in fitted}).requires_grad_(False)
    pairs = list(zip(*(one.state_dict(keep_vars=True).values() for one in (average, core)), strict=True))
    followers, leaders = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    def follow(*_: Any) -> None:
        with torch.no_grad():
            torch._foreach_lerp_(followers, leaders, share)
            for counter, leader in counters:
                counter.copy_(leader)

    optimizer.register_step_post_hook(follow)
    return average
