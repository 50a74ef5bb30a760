"""The process in which :mod:`.apart` lets work be done: what it does from its start to its end."""

import gc
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple

from .boundary import OWN_ERRORS, slide_boundary
from .ending import forget_end
from .files import unguard
from .process import compute_with, end_with, prepare_to_read_slides
from .watch import Mark, show


class Answer(NamedTuple):
    """What became of an item: its result, or an error of ours."""

    result: Any = None
    error: Exception | None = None


class Setting(NamedTuple):
    """What a process needs to know at its start."""

    line: Connection
    parents_end: Connection | None
    mark: Mark
    parent: int
    threads: int
    log_levels: dict[str, int]


def serve(setting: Setting, work: Callable[[Any], Any], prepare: Callable[[], object] | None) -> None:
    """Be the other process.

    A thread does the work: the teams of OpenMP belong to the thread that started them. Those of a forked process's first thread
    are lost, so that it would wait for them for ever.
    """
    if setting.parents_end is not None:
        setting.parents_end.close()
    end_with(setting.parent)
    forget_end()  # what was asked of the parent before this process began, the parent answers
    unguard()
    prepare_to_read_slides()
    gc.freeze()  # what was inherited is never looked at, and so stays shared
    finished = threading.Event()
    worker = threading.Thread(target=_work, args=(setting, work, prepare, finished), name="apart")
    worker.start()
    worker.join()
    if not finished.is_set():
        raise SystemExit(1)


def _work(
    setting: Setting, work: Callable[[Any], Any], prepare: Callable[[], object] | None, finished: threading.Event
) -> None:
    compute_with(setting.threads)
    show(setting.mark)
    sender = _Sender(setting.line)
    logging.getLogger().handlers[:] = [sender]
    for name, level in setting.log_levels.items():
        logging.getLogger(name or None).setLevel(level)
    try:
        ready = Answer(prepare() if prepare else None)
    except OWN_ERRORS as error:
        ready = Answer(error=error)
    sender.send(ForkingPickler.dumps(ready))
    with suppress(EOFError, ConnectionError):  # the parent has no more, or is gone
        while True:
            path, item = setting.line.recv()
            try:
                with slide_boundary(path):
                    message = ForkingPickler.dumps(Answer(work(item)))
            except OWN_ERRORS as error:
                message = ForkingPickler.dumps(Answer(error=error))
            sender.send(message)
    finished.set()


class _Sender(QueueHandler):
    """Sends answers and log records to the parent, one at a time."""

    def __init__(self, line: Connection) -> None:
        super().__init__(queue=line)  # type: ignore[arg-type]
        self._line = line

    def enqueue(self, record: logging.LogRecord) -> None:
        """Send a record, whose message is text by now; a handler holds its lock meanwhile."""
        self._line.send(record)

    def send(self, message: Any) -> None:
        """Send pickled bytes."""
        self.acquire()
        try:
            self._line.send_bytes(message)
        finally:
            self.release()
