"""The slides of a training, kept in memory."""

from collections.abc import Callable, Sequence
from typing import Any

from monai.data import CacheDataset


class SlideCache(CacheDataset):
    """MONAI's ``CacheDataset``, filled by the calling thread: all at once by :meth:`fill`, else item by item as each is asked for.

    MONAI fills it when it is made, in a pool of threads. When an item raises, the threads go on with the others, and one that
    holds h5py's lock when the interpreter ends keeps the process from ending for ever. One thread is as fast: h5py reads one file
    at a time.

    Args:
        data: items.
        transform: of an item; what comes before the first random one is kept.
        cache_rate: share of the items that is kept.
    """

    def __init__(self, data: Sequence[Any], transform: Callable[[Any], Any], *, cache_rate: float = 1.0) -> None:
        super().__init__(data=data, transform=transform, cache_rate=cache_rate, progress=False, runtime_cache="threads")

    def fill(self) -> None:
        """Read what will be kept; processes that load data and are forked later share it.

        Raises:
            SlideError: an item cannot be read.
        """
        for index, kept in enumerate(self._cache):
            if kept is None:
                self._cache[index] = self._load_cache_item(index)
