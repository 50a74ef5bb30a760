"""Work that overlaps: the caller's thread draws the next item while others are worked on."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 2
"""Items drawn beyond those that are worked on, so that no thread waits for the reader; bounds the memory."""


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yield ``function`` of every item, in order, computed in ``threads`` threads.

    Items are drawn in the caller's thread, at most ``threads + AHEAD`` before their results are taken. An error of an item or of
    ``items`` is raised in its turn; what was not begun is then left undone.
    """
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= threads + AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
