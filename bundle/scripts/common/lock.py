"""One run a folder at a time."""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from .errors import RequestError
from .files import atomic_path

NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
"""What a file system without locks answers: some network mounts do."""

MARKER_WAIT_S = 1.0
"""Time to see that the process that left a marker is gone, and to remove it."""

RIVAL_WAIT_S = 1.0
"""Time in which all runs that begin at once can look, one after the other, whether a run of another kind has the folder."""

_LOGGER = logging.getLogger(__name__)


@contextmanager
def folder_lock(
    folder: str | os.PathLike[str], name: str, *, elsewhere: str = "name another --output_dir"
) -> Iterator[None]:
    """Hold ``folder`` for one run of ``name``; the operating system lets go when the process ends, however it ends.

    Two files stay in the folder: ``.<name>.lock``, which is what is locked, and ``.<name>.owner.json``, which says who holds it
    and since when.

    On a file system without locks a marker, ``.<name>.soft.lock``, is held instead: the run that creates it has the folder, and
    removes it at its end. It does not know of runs that could lock there (the folder mounted otherwise on another machine). The
    marker of a killed run is taken over on the same machine alone; elsewhere it must be deleted by hand.

    Args:
        folder: what is held; made where it is missing.
        name: of the stage.
        elsewhere: the remedy that names another folder.

    Raises:
        RequestError: another run holds it (the message names its process, machine and age); the folder cannot be written; or a
            file that is not ours has the name of the lock.
    """
    folder = Path(folder)
    refuse_foreign_lock(folder, name, elsewhere=elsewhere)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _taken(folder, name, elsewhere=elsewhere)
    except OSError as error:
        raise RequestError(
            f"{folder}: cannot be written ({error.strerror or error}); expected a folder that this user may write: {elsewhere}"
        ) from error
    owner = folder / f".{name}.owner.json"
    try:
        with atomic_path(owner, guarded=False) as partial:
            content = _Owner(socket.gethostname(), os.getpid(), time.time())._asdict()
            partial.write_text(json.dumps(content), encoding="utf-8")
        yield
        owner.unlink(missing_ok=True)
    finally:
        lock.release()


def refuse_held(folder: str | os.PathLike[str], name: str, *, elsewhere: str) -> None:
    """Refuse a folder that a run of ``name`` holds now; others that ask the same at this moment do not count.

    Raises:
        RequestError: another run holds it.
        OSError: that cannot be seen.
    """
    folder = Path(folder)
    if any(path.exists() for path in (folder / f".{name}.lock", folder / f".{name}.soft.lock")):
        with suppress(PermissionError):  # of another user: whether it is held cannot be seen
            _taken(folder, name, wait_s=RIVAL_WAIT_S, elsewhere=elsewhere).release()


def _taken(folder: Path, name: str, *, wait_s: float = 0.0, elsewhere: str) -> BaseFileLock:
    """Take the lock of ``name``, within some seconds.

    Raises:
        RequestError: another run holds it.
        OSError: it cannot be written.
    """
    marker = folder / f".{name}.soft.lock"
    try:
        return _acquired(folder / f".{name}.lock", marker, wait_s)
    except Timeout as error:
        left = f" (if that process is gone, delete {marker})" if marker.exists() else ""
        raise RequestError(
            f"{folder}: another run of {name} is writing here ({_described(folder / f'.{name}.owner.json')}); expected one run per "
            f"folder: wait for it, end it, or {elsewhere}{left}"
        ) from error


def refuse_foreign_lock(folder: str | os.PathLike[str], name: str, *, elsewhere: str) -> None:
    """Refuse a folder where other people's files have the names of the lock, which is empty, or of its owner's note.

    Raises:
        RequestError: names the file.
    """
    lock, owner = Path(folder) / f".{name}.lock", Path(folder) / f".{name}.owner.json"
    for path, is_ours in ((lock, _is_empty), (owner, _owner_of)):
        if (
            os.path.lexists(path) and not is_ours(path) and os.path.lexists(path)
        ):  # a run that ends may remove it meanwhile
            raise RequestError(
                f"{path}: not the file that a run of {name} keeps under this name; expected none: {elsewhere}, or move that file "
                "away"
            )


def _is_empty(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not path.stat().st_size


class _Owner(NamedTuple):
    """The process that holds a lock; ``since``: seconds of the epoch."""

    host: str
    pid: int
    since: float


def _owner_of(path: Path) -> _Owner | None:
    """Read who holds a lock; None where nothing says so."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _Owner(str(content["host"]), int(content["pid"]), float(content["since"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _acquired(path: Path, marker: Path, wait_s: float) -> BaseFileLock:
    """Lock ``path`` within some seconds, or create ``marker`` where there are no locks.

    Raises:
        Timeout: another holds it.
        OSError: neither can be written.
    """
    # The soft lock of the library would put its marker where the locked file stays.
    lock = FileLock(path, timeout=wait_s, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
        return lock
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _LOGGER.warning(
            "%s: a file system without locks (%s): runs on this folder see each other by a marker alone; if one is killed, "
            "delete %s",
            path.parent,
            error.strerror,
            marker.name,
        )
    soft = SoftFileLock(marker, timeout=MARKER_WAIT_S, thread_local=False)
    soft.acquire()
    return soft


def _described(owner: Path) -> str:
    content = _owner_of(owner)
    if content is None:
        return "its process is not known"
    return f"process {content.pid} on {content.host} for {(time.time() - content.since) / 60:.1f} minutes"
