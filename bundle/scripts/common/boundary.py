"""The boundary around one slide: whatever goes wrong inside is that slide's failure, and the others go on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import NoTissueError, RequestError, SlideError, StorageError

_LOGGER = logging.getLogger(__name__)
OWN_ERRORS = (NoTissueError, RequestError, SlideError, StorageError)


@contextmanager
def slide_boundary(path: str | Path, remedy: str = "compare the file with its source") -> Iterator[None]:
    """Turn any error inside the block that is not one of ours into a SlideError that names ``path``.

    A damaged file can make a library raise anything: an IndexError from a table cut short, a MemoryError from a size that it states. The
    trace goes to the debug log. Errors of ours pass as they are, and so do KeyboardInterrupt and SystemExit.

    Args:
        path: File of the slide, or its embedding.
        remedy: What the user can do.

    Raises:
        SlideError: Instead of any error that is not one of ours; the message has the kind of the error and its text.
    """
    try:
        yield
    except OWN_ERRORS:
        raise
    except (
        Exception
    ) as error:  # the only place that catches everything: nothing is hidden, the slide is reported as failed
        _LOGGER.debug("%s", path, exc_info=True)
        text = " ".join(str(error).split())
        what = type(error).__name__ + (f": {text}" if text else "")
        raise SlideError(f"{path}: cannot be processed ({what}); expected a whole file: {remedy}") from error
