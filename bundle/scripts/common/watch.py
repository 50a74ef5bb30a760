"""Since when a decoder is at work: what the process that watches it needs to know (docs/decisions/0013)."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Mark(Protocol):
    """A number that another process may see, such as ``multiprocessing.RawValue("d")``."""

    value: float


class _Unseen:
    """The mark of a process that nobody watches."""

    value = 0.0


_mark: Mark = _Unseen()


def show(mark: Mark) -> None:
    """Keep the time in ``mark`` from now on."""
    global _mark
    _mark = mark


@contextmanager
def reading() -> Iterator[None]:
    """Mark a call that reads: the monotonic clock's seconds at its begin stand in the mark while it lasts, 0 otherwise.

    One call of a decoder is marked, not a slide: a large slide on slow storage is many calls, each of which ends.
    """
    before = _mark.value
    _mark.value = before or time.monotonic()
    try:
        yield
    finally:
        _mark.value = before
