"""What changes a whole process: its hooks and signals, its allocator, its threads, its modules, its descriptors 1 and 2.

Nothing here happens by itself: whoever owns a process calls it. That is the command line (:mod:`.options`), and a process that we
start (:mod:`.serving`, :mod:`..studies.runs`). A program that uses this code as a library owns its process. None of it is done
there but :func:`native_output`, while one call of a native library lasts.
"""

import ctypes
import errno
import fcntl
import logging
import os
import re
import resource
import select
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

import torch

from .ending import ask_to_end, asked_end, forget_end
from .exit_codes import EXIT_INTERRUPTED, EXIT_TERMINATED, causes, outcome_of
from .files import storage_reason

OOM_SCORE = "500"
PR_SET_PDEATHSIG = 1
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Sent to a whole group of processes, too: from a terminal, or by what stops a job."""

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's mallopt
_LARGEST_MMAP_THRESHOLD = 32 << 20
_KEPT_BYTES = 1 << 30
_TWO_HEAPS = 2 * 64 << 20
"""A thread's heaps, of 64 MiB each, are given up by another rule: where less than this is free, never."""

_BUFFER_BYTES = 1 << 16
_PIPE_BYTES = 4096  # a pipe that can be written takes as many at once
_WAIT_S, _PATIENCE_S = 0.001, 1.0  # with whoever reads slowly what this process prints
_AGAIN_S = 0.1
"""After which a signal whose exception was dropped is sent again."""

_CATCHING = threading.Lock()
_LOGGER = logging.getLogger(__name__)


def install_exit_codes(go_on: str = "the same command begins anew") -> None:
    """Let what ends the process say so in one line, with an exit code of its own.

    An uncaught error ends as :func:`.exit_codes.outcome_of` says; any other keeps its traceback and code 1. Ctrl-C has 130
    and SIGTERM 143; both leave through every ``finally``.

    Args:
        go_on: what an interrupted user is told.
    """
    previous, previous_unraisable = sys.excepthook, sys.unraisablehook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if _is_of_finalizer(trace):  # the run goes on: to leave here would skip every ``finally``
            if not _sent_again(error) and storage_reason(error) is None:
                previous(kind, error, trace)
            return
        found = [*causes(error), asked_end()]
        if any(isinstance(cause, KeyboardInterrupt) for cause in found):
            _end(f"interrupted: {go_on}", EXIT_INTERRUPTED)
        if any(isinstance(cause, SystemExit) and cause.code == EXIT_TERMINATED for cause in found):
            raise SystemExit(EXIT_TERMINATED)  # said before; an import that it ended raised an error of its own
        outcome = outcome_of(error)
        if outcome is not None:
            _end(*outcome)
        previous(kind, error, trace)

    def hush(ignored: "sys.UnraisableHookArgs") -> None:
        error = ignored.exc_value
        if error is None or not (_sent_again(error) or storage_reason(error) is not None):
            previous_unraisable(ignored)

    def stop(number: int, frame: FrameType | None) -> None:
        logging.disable(logging.CRITICAL)  # the engines log the trace of what ends them
        end = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(EXIT_TERMINATED)
        if number == signal.SIGTERM and asked_end() is None:
            print(f"terminated: {go_on}", file=sys.__stderr__, flush=True)
        ask_to_end(end)
        raise end

    forget_end()
    sys.excepthook = hook
    sys.unraisablehook = hush  # h5py says it once for each object of a file that cannot be written
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


def _sent_again(error: BaseException) -> bool:
    """Whether an error is the end that was asked for; where nothing can be raised its signal comes once more, a little later."""
    if error is not asked_end():
        return False
    number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM
    again = threading.Timer(_AGAIN_S, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()
    return True


def _is_of_finalizer(trace: TracebackType | None) -> bool:
    """Whether an error begins in Cython: that of a finalizer, which ends nothing, is shown to the hook too."""
    return trace is not None and trace.tb_frame.f_code.co_filename.endswith(".pyx")


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


class NativeOutput:
    """What was written to descriptors 1 and 2 while a block of :func:`native_output` lasted."""

    def __init__(self, caught: "list[_Caught]") -> None:
        self._caught = caught

    def says(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether ``pattern`` is found in what has been written so far."""
        _flush_native()
        return any(pattern.search(one.content()) for one in self._caught)


@contextmanager
def native_output(noise: re.Pattern[bytes]) -> Iterator[NativeOutput]:
    """Catch what a native library prints during the block, which should be one call of it: some tell of failures there alone.

    Descriptors 1 and 2 are those of the whole process, so what other threads print meanwhile is caught, too. It is handed back to
    the descriptor that it was meant for, in order and to the byte; only what ``noise`` matches goes to the debug log instead. It is
    kept in memory: what cannot be written to a full or missing temporary folder would not be missed. Linux alone; one thread at a
    time.

    Args:
        noise: whole lines of the library.
    """
    with _CATCHING, ExitStack() as stack:
        _flush_native()
        yield NativeOutput([stack.enter_context(_caught(descriptor, noise)) for descriptor in (1, 2)])


@contextmanager
def _caught(descriptor: int, noise: re.Pattern[bytes]) -> "Iterator[_Caught]":
    made = os.memfd_create("output")
    with ExitStack() as stack:
        stack.callback(os.close, made)
        memory = os.open(f"/proc/self/fd/{made}", os.O_RDONLY)
        stack.callback(os.close, memory)
        original = os.dup(descriptor)
        stack.callback(os.close, original)
        caught = _Caught(memory, original)
        writing = os.open(f"/proc/self/fd/{made}", os.O_WRONLY | os.O_APPEND)
        os.dup2(writing, descriptor)
        os.close(writing)
        try:
            yield caught
        finally:
            _flush_native()
            said = caught.hand_back(descriptor, noise)
    if said.strip():
        _LOGGER.debug("native code: %s", said.decode(errors="replace").strip())


class _Caught:
    """The output of one descriptor in memory, and where it was meant for."""

    def __init__(self, memory: int, original: int) -> None:
        self._memory = memory
        self._original = original

    def content(self, start: int = 0) -> bytes:
        """What was written, from the byte ``start`` on."""
        return os.pread(self._memory, os.fstat(self._memory).st_size - start, start)

    def hand_back(self, descriptor: int, noise: re.Pattern[bytes]) -> bytes:
        """Restore the descriptor and write what was caught where it was meant for; return the lines of ``noise``, left out.

        Another thread may write a line in two parts. It must not write the second one before the first one is handed back. So no
        other Python thread gets a turn between the look at what is left and the return of the descriptor. None gets one either
        before what was being written meanwhile follows. Calls by ``PyDLL`` keep the interpreter's lock for that. None of them
        waits: while a pipe is full, the lock is let go, and after a second the order. A thread may be within a write to the memory
        when the descriptor returns: the memory is open for writing until that ends (fcntl(2), leases).
        """
        library, buffer = ctypes.PyDLL(None, use_errno=True), ctypes.create_string_buffer(_BUFFER_BYTES)
        request = ctypes.create_string_buffer(struct.pack("ihh", self._original, select.POLLOUT, 0))
        content = self.content()
        taken, waiting = len(content), noise.sub(b"", content)
        patience_s, restored = time.monotonic() + _PATIENCE_S, False
        while True:
            if not waiting:
                ended = restored and (not self._is_written(library) or time.monotonic() > patience_s)
                count = library.pread(self._memory, buffer, _BUFFER_BYTES, ctypes.c_long(taken))
                if count <= 0 and ended:
                    break
                if count <= 0 and not restored:
                    restored = library.dup2(self._original, descriptor) == descriptor
                waiting, taken = buffer.raw[: max(count, 0)], taken + max(count, 0)
            elif library.poll(request, 1, 0) > 0:
                written = library.write(self._original, waiting, min(len(waiting), _PIPE_BYTES))
                waiting = waiting[written:] if written > 0 else b""  # nobody reads it any more
            else:
                if time.monotonic() > patience_s and not restored:
                    restored = library.dup2(self._original, descriptor) == descriptor
                time.sleep(_WAIT_S)
        return b"".join(match[0] for match in noise.finditer(content))

    def _is_written(self, library: ctypes.PyDLL) -> bool:
        """Whether the memory is still open for writing; then the processor is left to whoever writes."""
        if library.fcntl(self._memory, fcntl.F_SETLEASE, fcntl.F_RDLCK) == 0 or ctypes.get_errno() != errno.EAGAIN:
            return False
        library.sched_yield()
        return True


def _flush_native() -> None:
    """Let the C library's stdout give out what it holds back; its stderr holds nothing back."""
    library = ctypes.CDLL(None)
    library.fflush(ctypes.c_void_p.in_dll(library, "stdout"))
