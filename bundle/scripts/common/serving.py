"""The process in which :mod:`.apart` lets work be done: what it does from its start to its end."""

import ctypes
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from logging.handlers import QueueHandler
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .boundary import OWN_ERRORS, slide_boundary
from .watch import Mark, show

OOM_SCORE = "500"
PR_SET_PDEATHSIG = 1


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

    A thread does the work: the teams of OpenMP belong to the thread that started them, and those of a forked process's first
    thread are lost, so that it would wait for them for ever.
    """
    if setting.parents_end is not None:
        setting.parents_end.close()
    end_with(setting.parent)
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
    torch.set_num_threads(setting.threads)
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


def end_with(parent: int) -> None:
    """Let this process end with its parent, be the first that is ended where memory runs out, and leave no file of its memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    if os.getppid() != parent:  # it ended before
        raise SystemExit(1)
