"""The boundaries inside which whatever goes wrong has one meaning: that slide failed, or that file of the request is none."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ending import go_on_or_end
from .errors import NoTissueError, RequestError, SlideError, StorageError

_LOGGER = logging.getLogger(__name__)
OWN_ERRORS = (NoTissueError, RequestError, SlideError, StorageError)


@contextmanager
def slide_boundary(path: str | Path, remedy: str = "compare the file with its source") -> Iterator[None]:
    """Turn any error inside the block that is not one of ours into a SlideError that names ``path``.

    A damaged file can make a library raise anything: an IndexError from a table cut short, a MemoryError from a size that it
    states. The trace goes to the debug log. Errors of ours pass as they are, also out of the RuntimeError into which MONAI puts
    those of a transform; and so do KeyboardInterrupt and SystemExit. Where a signal has asked the process to end, an error is taken
    for what compiled code made of that (:mod:`.ending`), and no slide is begun.

    Args:
        path: file of the slide, or its embedding.
        remedy: what the user can do.

    Raises:
        SlideError: Instead of any error that is not one of ours; the message has the kind of the error and its text.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM asked for it, now or before.
    """
    go_on_or_end()
    try:
        yield
    except OWN_ERRORS:
        raise
    except Exception as error:  # here and below alone: nothing is hidden, the slide is reported as failed
        go_on_or_end()
        if (own := _own_cause(error)) is not None:
            raise own from error
        raise SlideError(
            f"{path}: cannot be processed ({_what(path, error)}); expected a whole file: {remedy}"
        ) from error


@contextmanager
def file_boundary(path: str | Path, what: str, expected: str) -> Iterator[None]:
    """Turn any error inside the block that is not one of ours into a RequestError that names ``path``.

    For a file of the request that another program may have written, or that was cut: weights, JSON.

    Args:
        path: the file.
        what: what is wrong with it, such as "not JSON".
        expected: what it should be, and what the user can do; it ends the message.

    Raises:
        RequestError: Instead of any error that is not one of ours.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM asked for it.
    """
    try:
        yield
    except OWN_ERRORS:
        raise
    except Exception as error:
        go_on_or_end()
        raise RequestError(f"{path}: {what} ({_what(path, error)}); expected {expected}") from error


def _own_cause(error: BaseException) -> BaseException | None:
    """The error of ours that another one was raised from, if any."""
    cause = error.__cause__
    return cause if cause is None or isinstance(cause, OWN_ERRORS) else _own_cause(cause)


def _what(path: str | Path, error: Exception) -> str:
    """Kind and text of an error in one line; its trace goes to the debug log."""
    _LOGGER.debug("%s", path, exc_info=True)
    text = " ".join(str(error).split())
    return type(error).__name__ + (f": {text}" if text else "")
