"""What nobody reads any more, as behind ``| head -1``: it is dropped without a word."""

import atexit
import logging
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

_LEFT = select.POLLERR | select.POLLHUP


def drop_unread() -> bool:
    """Let standard output and standard error lead nowhere, each where its reader has left; return whether one had."""
    watched = select.poll()
    for descriptor in (1, 2):
        watched.register(descriptor, 0)
    left = [descriptor for descriptor, happened in watched.poll(0) if happened & _LEFT]
    for descriptor in left:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)
    return bool(left)


def log_unread() -> None:
    """Let the log go on where its reader has left, and this process end without a word about what it still had to print."""
    for handler in logging.root.handlers:
        handler.handleError = _unless_unread(handler.handleError)  # type: ignore[assignment, method-assign]
    atexit.register(_print_the_rest)


def _unless_unread(tell: Callable[[logging.LogRecord], None]) -> Callable[[logging.LogRecord], None]:
    def handle_error(record: logging.LogRecord) -> None:
        if not (isinstance(sys.exc_info()[1], BrokenPipeError) and drop_unread()):
            tell(record)

    return handle_error


def _print_the_rest() -> None:
    with suppress(BrokenPipeError, ValueError):  # ValueError: it is closed
        sys.stdout.flush()
        return
    drop_unread()
