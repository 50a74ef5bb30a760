"""One run a folder at a time."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from .errors import RequestError
from .files import write_json

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What a file system without locks answers: some network mounts do."""

MARKER_WAIT_S = 1.0
"""Time to see that the process that left a marker is gone, and to remove it."""

_LOGGER = logging.getLogger(__name__)


@contextmanager
def folder_lock(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Hold ``folder`` for one run of ``name``; the operating system lets go when the process ends, however it ends.

    Two files stay in the folder: ``.<name>.lock``, which is what is locked, and ``.<name>.owner.json``, which says who holds it
    and since when.

    On a file system without locks a marker, ``.<name>.soft.lock``, is held instead: the run that creates it has the folder, and removes
    it at its end. It does not know of runs that could lock there (the folder mounted otherwise on another machine), and one that a
    killed run left is taken over on the same machine alone; elsewhere it must be deleted by hand.

    Raises:
        RequestError: another run holds it (the message names its process, machine and age), or the folder cannot be written.
    """
    folder = Path(folder)
    owner = folder / f".{name}.owner.json"
    marker = folder / f".{name}.soft.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _acquired(folder / f".{name}.lock", marker)
    except Timeout as error:
        left = f" (if that process is gone, delete {marker})" if marker.exists() else ""
        raise RequestError(
            f"{folder}: another run of {name} is writing here ({_described(owner)}); expected one run a folder: wait for it, end it, or "
            f"name another --output_dir{left}"
        ) from error
    except OSError as error:
        raise RequestError(
            f"{folder}: cannot be written ({error.strerror or error}); expected a folder that this user may write: name another "
            "--output_dir"
        ) from error
    try:
        write_json(owner, {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time()})
        yield
        owner.unlink(missing_ok=True)
    finally:
        lock.release()


def _acquired(path: Path, marker: Path) -> BaseFileLock:
    """Lock ``path``, or create ``marker`` where there are no locks.

    Raises:
        Timeout: another holds it.
        OSError: neither can be written.
    """
    lock = FileLock(path, timeout=0, fallback_to_soft=False)  # which would put its marker where the locked file stays
    try:
        lock.acquire()
        return lock
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _LOGGER.warning(
            "%s: a file system without locks (%s): runs on this folder see each other by a marker alone; if one is killed, delete %s",
            path.parent,
            error.strerror,
            marker.name,
        )
    soft = SoftFileLock(marker, timeout=MARKER_WAIT_S)
    soft.acquire()
    return soft


def _described(owner: Path) -> str:
    try:
        content = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']} for {(time.time() - content['since']) / 60:.1f} minutes"
    except (OSError, ValueError, KeyError):
        return "its process is not known"
