"""One run a folder at a time."""

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import RequestError
from .files import write_json


@contextmanager
def folder_lock(folder: str | os.PathLike[str], name: str) -> Iterator[None]:
    """Hold ``folder`` for one run of ``name``; the operating system lets go when the process ends, however it ends.

    Two files stay in the folder: ``.<name>.lock``, which is what is locked, and ``.<name>.owner.json``, which says who holds it
    and since when.

    Raises:
        RequestError: another run holds it (the message names its process, machine and age), or the folder cannot be written.
    """
    folder = Path(folder)
    owner = folder / f".{name}.owner.json"
    lock = FileLock(folder / f".{name}.lock", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise RequestError(
            f"{folder}: another run of {name} is writing here ({_described(owner)}); expected one run a folder: wait for it, end it, or "
            "name another --output_dir"
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


def _described(owner: Path) -> str:
    try:
        content = json.loads(owner.read_text(encoding="utf-8"))
        return f"process {content['pid']} on {content['host']} for {(time.time() - content['since']) / 60:.1f} minutes"
    except (OSError, ValueError, KeyError):
        return "its process is not known"
