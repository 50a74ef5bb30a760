"""The kinds of failure a user meets."""

from collections.abc import Sequence


class RequestError(ValueError):
    """The request itself is wrong (an option, a file of the request, a table's column): nothing is written, exit code 2."""


class NoTissueError(RuntimeError):
    """A slide holds no tissue: a result, not a failure; it is marked ``empty`` in the manifest with the reason."""


class SlideError(RuntimeError):
    """One slide cannot be processed: it is marked ``failed`` in the manifest and the others go on, exit code 1."""


class TrainingError(RuntimeError):
    """A training cannot go on, since it diverged: what it left before is kept, exit code 1."""


class StorageError(RuntimeError):
    """The outputs cannot be written any more (disk full, quota, mounted read-only): the run stops, exit code 1."""


def first_of(parts: Sequence[str], joint: str = "; ", *, most: int = 4) -> str:
    """Join the first parts of a message that may have many, and count the rest."""
    left = len(parts) - most
    return joint.join(parts[:most]) + (f"{joint}and {left} more" if left > 0 else "")
