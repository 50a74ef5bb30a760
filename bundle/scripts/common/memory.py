"""Memory that is freed and asked for again all the time."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 32 << 20
_KEPT_BYTES = 1 << 30
_TWO_HEAPS = (
    2 * 64 << 20
)  # a thread's heaps, of 64 MiB each, are given up by another rule: where less than this is free, never


def keep_freed_memory() -> None:
    """Let glibc keep up to 1 GiB of freed memory instead of returning it to the system; does nothing elsewhere.

    Batches of one size come and go: what is returned has to be cleared by the system when it is asked for again, page by page,
    which costs a convolutional network on a CPU, and the decoding of tiles, a good part of their time.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TOP_PAD, _TWO_HEAPS)
