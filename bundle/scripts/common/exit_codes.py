"""What the error that ends a process says, in one line, and its exit code; :mod:`.process` lets it do so."""

import errno
import os
import re
import signal
from collections.abc import Iterator

from .errors import RequestError, SlideError, StorageError, TrainingError
from .files import error_number, storage_reason

EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_UNREAD = 128 + signal.SIGPIPE
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

_LOADER_KILLED = re.compile(
    r"DataLoader worker .*killed by signal: (Killed|Terminated|Segmentation fault|Aborted)", re.DOTALL
)

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
"""What torch says, of a GPU or of the main memory."""

_LOST_STORAGE = frozenset({errno.EIO, errno.ESTALE, errno.ENOTCONN})
_TOO_MANY_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_NO_DESCRIPTOR = re.compile(r"too many open files|received 0 items of ancdata", re.IGNORECASE)
"""What torch says of it where processes load data."""

_NO_TEMPORARY = re.compile(r"No usable temporary directory found in \[(.*)\]")
"""What Python says where none of its temporary folders can be written."""


def outcome_of(error: BaseException) -> tuple[str, int] | None:
    """Return the line and the exit code of an error; None for one that keeps its traceback, and Python's code 1.

    A `RequestError` has code 2. A `SlideError`, `StorageError` or `TrainingError` has 1, and so has what the system refuses:
    room, permission, memory, open files, a disk that does not answer, shared memory for loader processes. MONAI raises the errors
    of components again inside a ``RuntimeError`` that quotes the whole component, so the chain of causes is searched.
    """
    for expected, code in _CODE_OF:
        found = next((cause for cause in causes(error) if isinstance(cause, expected)), None)
        if found is not None:
            return f"error: {found}", code
    reason = next(filter(None, map(_of_system, causes(error))), None)
    return None if reason is None else (f"error: {reason}", EXIT_FAILED)


def _of_system(error: BaseException) -> str | None:
    """Say in a line what the system refused, where that is why an error ended the run; None for any other."""
    return _of_storage(error) or _of_memory(error) or (_of_loader(error) if isinstance(error, RuntimeError) else None)


def _of_storage(error: BaseException) -> str | None:
    file, number = getattr(error, "filename", None) or _in_text(error), error_number(error)
    reason = storage_reason(error)
    if reason is not None:
        expected = "expected room, and a folder that may be written"
        return f"{file or 'outputs'}: cannot be written ({reason}); {expected}: make room, or name another --output_dir"
    if number in _LOST_STORAGE and (file or number != errno.ENOTCONN):  # which sockets have, too
        expected = "expected a disk or a network folder that answers"
        return f"{file or 'a file'}: {os.strerror(number)}; {expected}: look whether it is mounted, and run the command again"
    if number in _TOO_MANY_FILES or (isinstance(error, RuntimeError) and _NO_DESCRIPTOR.search(str(error))):
        remedy = "raise the limit (ulimit -n 8192), or give fewer --num_workers"
        return f"{file or 'a file'}: {os.strerror(number or errno.EMFILE)}; expected a limit that leaves room for it: {remedy}"
    if isinstance(error, FileNotFoundError) and (tried := _NO_TEMPORARY.search(str(error))):
        return f"none of the folders {tried[1]} takes a temporary file, which torch needs; expected room in one: name it by TMPDIR"
    if isinstance(error, PermissionError):
        expected = "expected a file that this user may read or a folder that this user may write"
        return f"{file or 'outputs'}: {error.strerror or error}; {expected}"
    return None


def _in_text(error: BaseException) -> str | None:
    """The file that HDF5 names in the text of an error."""
    found = re.search(r"filename = '([^']+)'", str(error))
    return found[1] if found else None


def _of_memory(error: BaseException) -> str | None:
    text = str(error)
    if not (
        isinstance(error, MemoryError)
        or error_number(error) == errno.ENOMEM
        or (isinstance(error, RuntimeError) and _NO_MEMORY.search(text))
    ):
        return None
    if "Original Traceback" in text:  # of a process that loads data: its last line is the error
        text = text.strip().rpartition("\n")[2]
    said = ". ".join(" ".join(text.split()).split(". ")[:2])  # torch goes on about its settings
    return (
        f"memory ran out{f' ({said})' if said else ''}; expected room for a batch and for the processes that load data: give a "
        "smaller --batch_size or fewer --num_workers"
    )


def _of_loader(error: RuntimeError) -> str | None:
    if killed := _LOADER_KILLED.search(str(error)):
        return (
            f"a process that loads data ended by {killed[1]!r}, as where memory runs out; expected room for all of them: give "
            "fewer --num_workers, or a smaller --batch_size"
        )
    if _LOADER_DIED.search(str(error)):
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
