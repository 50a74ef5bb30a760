"""What the error that ends a process says, in one line, and its exit code; :mod:`.process` lets it do so."""

import re
import signal
from collections.abc import Iterator

from .errors import RequestError, SlideError, StorageError, TrainingError
from .files import storage_reason

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_WRONG_REQUEST = 2

_CODE_OF: tuple[tuple[type[Exception], int], ...] = (
    (RequestError, EXIT_WRONG_REQUEST),
    (SlideError, EXIT_FAILED),
    (StorageError, EXIT_FAILED),
    (TrainingError, EXIT_FAILED),
)
_LOADER_DIED = re.compile(
    r"DataLoader worker .*(killed by signal: Bus error|exited unexpectedly)|unable to (write to|open|mmap).*shm|No space left",
    re.IGNORECASE | re.DOTALL,
)

_LOADER_KILLED = re.compile(r"DataLoader worker .*killed by signal: (Killed|Segmentation fault|Aborted)", re.DOTALL)

_NO_TEMPORARY = re.compile(r"No usable temporary directory found in \[(.*)\]")
"""What Python says where none of its temporary folders can be written."""


def outcome_of(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit code of an error; None for one that keeps its traceback, and Python's code 1.

    A `RequestError` has code 2. A `SlideError`, `StorageError` or `TrainingError` has 1, and so have errors of the system that
    writing meets (disk full, read-only, no permission) and loader processes without shared memory. MONAI raises the errors of
    components again inside a ``RuntimeError`` that quotes the whole component, so the chain of causes is searched.
    """
    for expected, code in _CODE_OF:
        found = next((cause for cause in causes(error) if isinstance(cause, expected)), None)
        if found is not None:
            return f"error: {found}", code
    reason = next(filter(None, map(_of_system, causes(error))), None)
    return None if reason is None else (f"error: {reason}", EXIT_FAILED)


def _of_system(error: BaseException) -> str | None:
    """Say in a line what the system refused, where that is why an error ended the run; None for any other."""
    file = getattr(error, "filename", None) or "outputs"
    reason = storage_reason(error)
    if reason is not None:
        expected = "expected room, and a folder that may be written"
        return f"{file}: cannot be written ({reason}); {expected}: make room, or name another --output_dir"
    if isinstance(error, FileNotFoundError) and (tried := _NO_TEMPORARY.search(str(error))):
        return f"none of the folders {tried[1]} takes a temporary file, which torch needs; expected room in one: name it by TMPDIR"
    if isinstance(error, PermissionError):
        return f"{file}: {error.strerror or error}; expected a file that this user may read or a folder that this user may write"
    if isinstance(error, RuntimeError) and (killed := _LOADER_KILLED.search(str(error))):
        return (
            f"a process that loads data ended by {killed[1]!r}, as where memory runs out; expected room for all of them: give "
            "fewer --num_workers, or a smaller --batch_size"
        )
    if isinstance(error, RuntimeError) and _LOADER_DIED.search(str(error)):
        return (
            "a process that loads data died, as where /dev/shm is too small; expected room for some batches there: give "
            "--num_workers 0, or make it larger (docker run --shm-size 2g)"
        )
    return None


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield ``error`` and what a traceback would show above it, each once: a chain may lead back to itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
