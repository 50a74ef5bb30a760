"""Progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

logger = logging.getLogger(__name__)

LOG_EVERY_S = 10.0

Item = TypeVar("Item")


def track(iterable: Iterable[Item], *, total: int, what: str, unit: str) -> Iterator[Item]:
    """Yield the items of ``iterable`` and show how far the work on them is, with rate and time left.

    On a terminal (standard error) a bar; elsewhere a log line when an item is finished and `LOG_EVERY_S` seconds have
    passed since the last line, and one at the end.

    Args:
        iterable: the work, item by item.
        total: number of items.
        what: name of the work, such as ``"encoding"``.
        unit: name of one item, such as ``"slide"``.
    """
    if sys.stderr.isatty():
        with logging_redirect_tqdm():  # log lines stand above the bar
            yield from tqdm(iterable, total=total, desc=what, unit=f" {unit}", dynamic_ncols=True)
        return
    start_s = last_line_s = time.monotonic()
    done = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        now_s = time.monotonic()
        if now_s - last_line_s >= LOG_EVERY_S and done < total:
            rate = done / (now_s - start_s)
            left_s = (total - done) / rate
            logger.info("%s: %d of %d, %.2f %s/s, %.0f s left", what, done, total, rate, unit, left_s)
            last_line_s = now_s
    elapsed_s = time.monotonic() - start_s
    logger.info(
        "%s: %d of %d done in %.1f s, %.2f %s/s", what, done, total, elapsed_s, done / max(elapsed_s, 1e-9), unit
    )


def clock(seconds: float) -> str:
    """A length of time as hours, minutes and seconds.

    >>> clock(83.6)
    '0:01:24'
    """
    return str(timedelta(seconds=round(seconds)))
