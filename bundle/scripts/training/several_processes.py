"""What training by several processes needs: a card for each, and a network whose statistics are those of all."""

import os

import torch
from torch import nn

from ..common.errors import RequestError
from ..common.ranks import world_size


def require_own_card(device: torch.device | str) -> None:
    """Refuse one card for several processes: each takes that of its number on this machine, which torchrun gives it.

    Args:
        device: where the process computes: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RequestError: it is one card for several processes.
    """
    device = torch.device(device)
    if device.type != "cuda":
        return
    own, processes = int(os.environ["LOCAL_RANK"]), int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if processes > 1 and device.index not in (None, own):
        raise RequestError(
            f"--device {device} is one card for {processes} processes; expected a card for each: leave --device out, and choose "
            "among the machine's cards with CUDA_VISIBLE_DEVICES"
        )


def require_shared_norms(network: nn.Module) -> nn.Module:
    """Return a network whose statistics are those of all processes.

    :class:`..dsnet.sparse.SparseBatchNorm2d` adds its sums over the processes. torch's batch norm knows the slides of its own
    process alone, so that its running statistics would differ. Each process validates some of the slides.

    Raises:
        RequestError: there are several processes, and a part of the network is one of torch's batch norms.
    """
    apart = (
        name
        for name, part in network.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and not isinstance(part, nn.SyncBatchNorm)
    )
    if world_size() > 1 and (first := next(apart, None)) is not None:
        raise RequestError(
            f"network_def: {type(network).__name__} has batch norm ({first}), whose statistics would differ between the "
            f"{world_size()} processes; expected a network without: train it as one process, without torchrun and "
            "multi_gpu_train.yaml"
        )
    return network
