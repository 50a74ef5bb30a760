"""The slides of a training, kept in memory."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data import CacheDataset

_LOGGER = logging.getLogger(__name__)

GIB = 2**30


class CacheMemory:
    """The memory that the kept slides of a training share; once a slide does not fit, none more is kept.

    Args:
        gib: of this process.
    """

    def __init__(self, gib: float) -> None:
        self.gib = gib
        self._left = gib * GIB

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return self._left <= 0

    def takes(self, item: Any) -> bool:
        """Take the memory of an item, if there is enough left."""
        size = bytes_of(item)
        fits = size <= self._left
        self._left = self._left - size if fits else 0
        return fits


def bytes_of(item: dict[str, object]) -> int:
    """Memory of the tensors of an item."""
    return sum(value.nbytes for value in item.values() if isinstance(value, torch.Tensor))


class _KeptSlides(list[Any]):
    """Items by index; one that does not fit any more stays None."""

    def __init__(self, length: int, memory: CacheMemory) -> None:
        super().__init__([None] * length)
        self._memory = memory

    def __setitem__(self, index: Any, item: Any) -> None:
        if self._memory.takes(item):
            super().__setitem__(index, item)


class SlideCache(CacheDataset):
    """MONAI's ``CacheDataset``, filled by the calling thread: all at once by :meth:`fill`, else item by item as each is asked for.

    MONAI fills it when it is made, in a pool of threads. When an item raises, the threads go on with the others, and one that
    holds h5py's lock when the interpreter ends keeps the process from ending for ever. One thread is as fast: h5py reads one file
    at a time. A slide that is not kept is read every time that it is asked for, once per epoch.

    Args:
        data: items.
        transform: of an item; what comes before the first random one is kept, and no transform may change it in place.
        cache_rate: share of the items that is kept.
        memory: what they may take; None: as much as they need.
    """

    def __init__(
        self,
        data: Sequence[Any],
        transform: Callable[[Any], Any],
        *,
        cache_rate: float = 1.0,
        memory: CacheMemory | None = None,
    ) -> None:
        self.memory = memory or CacheMemory(float("inf"))
        super().__init__(
            data=data,
            transform=transform,
            cache_rate=cache_rate,
            progress=False,
            runtime_cache="threads",
            copy_cache=False,
        )
        self._cache = _KeptSlides(self.cache_num, self.memory)

    def fill(self) -> None:
        """Read what will be kept; processes that load data and are forked later share it.

        Raises:
            SlideError: an item cannot be read.
        """
        for index, kept in enumerate(self._cache):
            if kept is None and not self.memory.is_full:
                self._cache[index] = self._load_cache_item(index)
        kept_count = sum(item is not None for item in self._cache)
        if kept_count < len(self._cache):
            _LOGGER.info(
                "%d of %d slides are kept in memory, which cache_memory#gib %g allows; the others are read every epoch",
                kept_count,
                len(self),
                self.memory.gib,
            )
