"""Work on slides in a process that may die: a decoder that crashes or hangs costs its slide, not the run (docs/decisions/0013)."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, current_process
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import torch

from .errors import RequestError, SlideError
from .option_table import checked
from .process import deaf_to_signals
from .serving import Answer, Setting, serve
from .watch import Mark

DECODE_TIMEOUT_S = 30.0
"""Longest call of a decoder: it opens a slide, or decodes some tens of tiles, which takes well under a second from a disk."""

POLL_S = 0.5
LEAVE_S = 5.0  # for the system to end a killed process

Item = TypeVar("Item")
Result = TypeVar("Result")


class Apart(Generic[Item, Result]):
    """A function that works in a process of its own, item after item; where the process dies, the next item gets another one.

    Only items and results pass between the processes. What is logged there is logged here. A context manager: the process ends with
    the block, with this object, and on Linux with the process that made it.

    Args:
        work: the function of an item. It is forked with all that belongs to it, or has to be picklable, see :func:`start_method`.
        forks: False where ``work`` uses a GPU, or threads of a library that this process has started already.
        timeout_s: longest call of a decoder (:func:`.watch.reading`) before the process counts as hanging, as the stage's option
            ``--reading#timeout_s`` says; None where it has none: ``DECODE_TIMEOUT_S``.
    """

    def __init__(
        self,
        work: Callable[[Item], Result],
        *,
        forks: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        self._work = work
        self._method = start_method(forks=forks)
        self._timeout_s: float = DECODE_TIMEOUT_S if timeout_s is None else checked("timeout_s", timeout_s)
        self._raised_by = "" if timeout_s is None else " (--reading#timeout_s)"
        self._process: BaseProcess | None = None
        self._begun: tuple[str | Path, Item]
        self._fresh = True
        self._lost: _LostError | None = None
        self._last_resort: Finalize | None = None
        self._line: Connection
        self._mark: Mark

    @property
    def alive(self) -> bool:
        """Whether there is a process at work, or waiting for it."""
        return self._process is not None

    def start(self, prepare: Callable[[], Any]) -> Any:
        """Start the process before the first item needs it, and return what ``prepare``, called there, returns.

        Raises:
            RequestError: It cannot be started, or does not come to its first item.
            Exception: An error of ours that ``prepare`` raised.
        """
        try:
            return self._started(prepare)
        except _LostError as lost:
            raise RequestError(
                f"the process that reads the slides {lost} before the first slide; expected an installation that can encode: "
                "what it printed says more"
            ) from None

    def run(self, path: str | Path, item: Item) -> Result:
        """Do the work on one item in the other process.

        Args:
            path: file that the item is about, for messages.
            item: what the function takes.

        Raises:
            SlideError: The work on it failed, whatever the error was (:func:`.boundary.slide_boundary`), its process died, or a
                decoder did not return.
            NoTissueError, RequestError, StorageError: Raised by the function.
        """
        self.begin(path, item)
        return self.finish()

    def begin(self, path: str | Path, item: Item) -> None:
        """Let the other process begin with an item and return; :meth:`finish` waits for its end, before the next item begins.

        Args:
            path: file that the item is about, for messages.
            item: what the function takes.
        """
        if self._process is not None and not self._process.is_alive():
            self.end()
        self._begun, self._fresh, self._lost = (path, item), not self.alive, None
        try:
            if self._fresh:
                self._started()
            self._line.send(self._begun)
        except _LostError as lost:
            self._lost = lost
        except OSError:  # it has died, as finish() will see
            pass

    def finish(self) -> Result:
        """Wait for the item that was begun; where its process dies over it, a fresh one is given the item once more.

        Raises:
            Exception: As :meth:`run`.
        """
        path, item = self._begun
        try:
            if self._lost is not None:
                raise self._lost
            return self._answer().result
        except _LostError as lost:
            if not self._fresh and not lost.hanging:  # what an earlier item did to the memory may have ended it
                return self.run(path, item)
            raise SlideError(
                f"{path}: the process that read it {lost}; expected a file that can be decoded here: compare the file with its "
                "source, or leave it out"
            ) from None

    def end(self) -> None:
        """End the process at once; what it was writing is left as it is."""
        if self._process is None:
            return
        if self._last_resort is not None:
            self._last_resort.cancel()
        self._line.close()
        if self._process.pid is not None:  # it was started
            self._process.kill()
            self._process.join(LEAVE_S)
        if self._process.exitcode is not None:
            self._process.close()
        self._process = self._last_resort = None

    def __enter__(self) -> "Apart[Item, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()

    def _started(self, prepare: Callable[[], Any] | None = None) -> Any:
        """Start a process and wait until it is prepared."""
        context = multiprocessing.get_context(self._method)
        forked = self._method == "fork"
        if not forked:
            _require_picklable((self._work, prepare))
        self._mark = context.RawValue("d", 0.0)
        self._line, theirs = context.Pipe()
        setting = Setting(
            theirs, self._line if forked else None, self._mark, os.getpid(), torch.get_num_threads(), _log_levels()
        )
        process = context.Process(target=serve, args=(setting, self._work, prepare))  # type: ignore[attr-defined]
        me = current_process()
        daemon = me.daemon
        me.daemon = False  # a worker of a DataLoader may have no children, although this one would end with it
        self._process = process  # before the start: other threads of this process hear a signal in its place
        try:
            with deaf_to_signals():
                process.start()
                # Python waits at its end for processes of its own, and this one waits for items
                self._last_resort = Finalize(self, process.kill, exitpriority=0)
        except OSError as error:
            self._process = None
            raise _LostError(f"could not be started ({error.strerror or error})") from error
        finally:
            me.daemon = daemon
            theirs.close()
        return self._answer().result

    def _answer(self) -> Answer:
        """Wait for what comes back; whatever happens instead, the process is ended."""
        answered = False
        try:
            answer = self._received()
            answered = True
        finally:
            if not answered:
                self.end()
        if answer.error is not None:
            raise answer.error
        return answer

    def _received(self) -> Answer:
        assert self._process is not None
        try:
            while True:
                if not wait([self._line, self._process.sentinel], POLL_S):
                    self._require_progress()
                    continue
                message = self._line.recv() if self._line.poll() else None
                if isinstance(message, logging.LogRecord):
                    logging.getLogger(message.name).handle(message)
                elif message is None:
                    break
                else:
                    answer: Answer = message
                    return answer
        except (EOFError, OSError, pickle.UnpicklingError):  # it died, maybe in the middle of a message
            pass
        raise _LostError(self._how_it_ended())

    def _require_progress(self) -> None:
        since = self._mark.value
        if since and time.monotonic() - since > self._timeout_s:
            raise _HangingError(
                f"was ended, since its decoder had not returned for {self._timeout_s:g} s{self._raised_by}"
            )

    def _how_it_ended(self) -> str:
        assert self._process is not None
        self._process.join(LEAVE_S)
        code = self._process.exitcode
        if code is None:
            return "does not answer"
        if code >= 0:
            return f"ended by itself with exit code {code}"
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return f"was ended by {name}" + (", as where memory runs out" if -code == signal.SIGKILL else "")


def run_apart(work: Callable[[Item], Result], path: str | Path, item: Item) -> Result:
    """Do some work on one file in a process that may die; see :meth:`Apart.run`."""
    with Apart(work) as apart:
        return apart.run(path, item)


def start_method(*, forks: bool) -> str:
    """Choose between a copy of this process ("fork": milliseconds) and a fresh one ("spawn": seconds, picklable work).

    Forked where that is safe: on Linux, where ``forks`` says that the work allows it, unless the program has called
    ``multiprocessing.set_start_method`` with another method.
    """
    chosen = multiprocessing.get_start_method(allow_none=True) or "fork"
    return "fork" if forks and chosen == "fork" and sys.platform.startswith("linux") else "spawn"


class _LostError(Exception):
    """The process is not there any more, or has to be ended; says how."""

    hanging = False


class _HangingError(_LostError):
    """Its decoder does not return."""

    hanging = True


def _log_levels() -> dict[str, int]:
    """Levels of the loggers that have one, by name; "" is the root."""
    levels = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    return {"": logging.root.level, **{name: level for name, level in levels.items() if level}}


def _require_picklable(functions: tuple[Callable[..., Any] | None, ...]) -> None:
    try:
        ForkingPickler.dumps(functions)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise RequestError(
            f"a slide is read in a process of its own, to which this cannot be sent ({error}); expected functions and classes of "
            "a module, as no lambda is"
        ) from error
