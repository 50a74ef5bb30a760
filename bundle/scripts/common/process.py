"""What changes a whole process: its hooks and signals, its allocator, its threads, its modules.

Nothing here happens by itself: whoever owns a process calls it. That is the command line (:mod:`.options`), and a process that we
start (:mod:`.serving`, :mod:`..studies.runs`). A program that uses this code as a library owns its process, and none of it is done
there.
"""

import ctypes
import logging
import os
import resource
import signal
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

import torch

from .ending import ask_to_end, asked_end, forget_end
from .exit_codes import EXIT_INTERRUPTED, EXIT_TERMINATED, EXIT_UNREAD, causes, outcome_of
from .files import storage_reason
from .unread import drop_unread, log_unread

OOM_SCORE = "500"
PR_SET_PDEATHSIG = 1
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent to a whole group of processes, too: from a terminal, or by what stops a job."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 32 << 20
_KEPT_BYTES = 1 << 30
_TWO_HEAPS = 2 * 64 << 20
"""A thread's heaps, of 64 MiB each, are given up by another rule: where less than this is free, never."""

_AGAIN_S = 0.1
"""After which a signal whose exception was dropped is sent again."""


def install_exit_codes(go_on: str = "the same command begins anew") -> None:
    """Let what ends the process say so in one line, with an exit code of its own.

    An uncaught error ends as :func:`.exit_codes.outcome_of` says; any other keeps its traceback and code 1. Ctrl-C has 130
    and SIGTERM 143; both leave through every ``finally``. What prints to somebody who has left (``| head -1``) ends with 141,
    without a word; what logs goes on.

    Args:
        go_on: what an interrupted user is told.
    """
    previous, previous_unraisable, owner = sys.excepthook, sys.unraisablehook, os.getpid()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _is_of_finalizer(trace):  # to leave here would skip every ``finally``, or what else is finalized
            if not _follows_from_end(error):
                previous(kind, error, trace)
            return
        found = [*causes(error), asked_end()]
        if any(isinstance(cause, KeyboardInterrupt) for cause in found):
            _end(f"interrupted: {go_on}", EXIT_INTERRUPTED)
        if any(isinstance(cause, SystemExit) and cause.code == EXIT_TERMINATED for cause in found):
            raise SystemExit(EXIT_TERMINATED)  # said before; an import that it ended raised an error of its own
        if any(isinstance(cause, BrokenPipeError) for cause in found) and drop_unread():
            raise SystemExit(EXIT_UNREAD)
        outcome = outcome_of(error)
        if outcome is not None:
            _end(*outcome)
        previous(kind, error, trace)

    def hush(ignored: "sys.UnraisableHookArgs") -> None:
        if ignored.exc_value is None or not _follows_from_end(ignored.exc_value):
            previous_unraisable(ignored)

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a process that loads data, forked from this one: the signal went to the whole group
            os._exit(128 + number)
        logging.disable(logging.CRITICAL)  # the engines log the trace of what ends them
        end = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(EXIT_TERMINATED)
        if number == signal.SIGTERM and asked_end() is None:
            print(f"terminated: {go_on}", file=sys.__stderr__, flush=True)
        ask_to_end(end)
        raise end

    forget_end()
    log_unread()
    sys.excepthook = hook
    sys.unraisablehook = hush  # h5py says it once for each object of a file that cannot be written
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


def _follows_from_end(error: BaseException) -> bool:
    """Whether an error that was dropped is not worth a word: outputs cannot be written, or an end was asked for.

    Where that end was dropped with it, its signal is sent once more, a little later.
    """
    end = asked_end()
    if (
        end is not None and end in causes(error) and end not in causes(sys.exc_info()[1])
    ):  # which nothing handles any more
        number = signal.SIGINT if isinstance(end, KeyboardInterrupt) else signal.SIGTERM
        again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()
    return end is not None or storage_reason(error) is not None


def _is_of_finalizer(trace: TracebackType | None) -> bool:
    """Whether an error ends nothing, but is shown to the hook: it begins in a finalizer of Cython's, or among those of the exit."""
    return trace is not None and (
        trace.tb_frame.f_code.co_filename.endswith(".pyx") or trace.tb_frame.f_code.co_filename == weakref.__file__
    )


def _end(line: str, code: int) -> NoReturn:
    """Print a line and end the process.

    Not to sys.stderr: torch.distributed replaces it by a buffer while it calls the hook, and drops that when the hook raises.
    """
    print(line, file=sys.__stderr__, flush=True)
    raise SystemExit(code)  # from a hook the interpreter honours it, and finalises as after sys.exit


def send_no_telemetry() -> None:
    """Keep OpenVINO from reporting its use to a server as soon as it is imported: the package that would do so is not found."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def keep_freed_memory() -> None:
    """Let glibc keep up to 1 GiB of freed memory instead of returning it to the system; does nothing elsewhere.

    Batches of one size come and go. What is returned has to be cleared by the system, page by page, when it is asked for again.
    That costs a convolutional network on a CPU, and the decoding of tiles, a good part of their time.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TOP_PAD, _TWO_HEAPS)


def prepare_to_read_slides() -> None:
    """What makes a process of ours that decodes slides, and may encode them, fast and quiet."""
    keep_freed_memory()
    send_no_telemetry()


def compute_with(threads: int) -> None:
    """Let torch compute with so many threads in the calling thread, and in those that have not computed before."""
    torch.set_num_threads(threads)


def end_with(parent: int) -> None:
    """Let this process end with its parent, be the first that is ended where memory runs out, and leave no file of its memory.

    Raises:
        SystemExit: the parent ended before.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(OOM_SCORE, encoding="ascii")
    if os.getppid() != parent:
        raise SystemExit(1)


def end_at_once() -> None:
    """Let SIGTERM and Ctrl-C end this process as they end any other, whatever its parent does with them, or holds back."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING_SIGNALS)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Start processes inside the block: they do not hear what ends a whole group, since their parent decides.

    This process hears it when the block ends: the block should note the process that it has started, so that this is ended.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def write_all_to(path: Path) -> None:
    """Let all that this process prints go to a file."""
    with open(path, "w", encoding="utf-8") as log:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log.fileno(), stream.fileno())
