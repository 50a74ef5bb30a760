"""What a native library prints to descriptors 1 and 2, caught while one call of it lasts.

What changes a whole process stands in :mod:`.process`, but for this and for the limit in :mod:`.hdf5`. Programs that use this code
as a library have these two, too.
"""

import ctypes
import errno
import fcntl
import logging
import os
import re
import select
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_BUFFER_BYTES = 1 << 16
_PIPE_BYTES = 4096  # a pipe that can be written takes as many at once
_WAIT_S, _PATIENCE_S = 0.001, 1.0  # with whoever reads slowly what this process prints

_CATCHING = threading.Lock()
_LOGGER = logging.getLogger(__name__)


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
