"""The processes of one run: one, or several under torchrun, each of which has a rank."""

from collections.abc import Sequence
from itertools import chain, zip_longest
from typing import TypeVar

import torch.distributed as dist

Item = TypeVar("Item")

_NOTHING = object()


def world_size() -> int:
    """Number of processes; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return rank() == 0


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world_size() > 1:
        dist.barrier()


def share(items: Sequence[Item]) -> list[Item]:
    """Return the items of this process: every world_size-th; the first one where there are fewer items than processes.

    An engine cannot run over nothing, hence the first one; whoever joins the results drops what is there twice.
    """
    return list(items[rank() :: world_size()]) or list(items[:1])


def join_shares(results: list[Item]) -> list[Item]:
    """Return the results of every process's :func:`share`, in the order of the items, the same in every process."""
    if world_size() == 1:
        return results
    parts: list[list[Item]] = [[] for _ in range(world_size())]
    dist.all_gather_object(parts, results)
    return [result for result in chain(*zip_longest(*parts, fillvalue=_NOTHING)) if result is not _NOTHING]  # type: ignore[misc]
