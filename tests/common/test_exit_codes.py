import errno
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.common.boundary import file_boundary, slide_boundary
from scripts.common.ending import forget_end
from scripts.common.exit_codes import causes, outcome_of
from scripts.common.options import how_to_go_on
from scripts.common.process import install_exit_codes

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


@pytest.fixture
def installed() -> Iterator[None]:
    """The hook and the signal handlers, which are this process's own again afterwards."""
    hook, unraisable = sys.excepthook, sys.unraisablehook
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    install_exit_codes("go on like this")
    yield
    forget_end()
    logging.disable(logging.NOTSET)
    sys.excepthook, sys.unraisablehook = hook, unraisable
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ended(error: BaseException) -> object:
    with pytest.raises(SystemExit) as caught:
        sys.excepthook(type(error), error, None)
    return caught.value.code


def test_causes_that_lead_back_to_themselves_end() -> None:
    """A signal in the middle of an import can leave such a chain."""
    first, second = ImportError("not imported"), KeyboardInterrupt()
    first.__context__, second.__context__ = second, first
    assert [found for found, _ in zip(causes(first), range(9), strict=False)] == [first, second]


def test_sigterm_is_143_in_one_line(installed: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == 143
    logging.getLogger("engine").error("a trace")
    assert capfd.readouterr().err == "terminated: go on like this\n"


def test_ctrl_c_is_130_in_one_line(installed: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        os.kill(os.getpid(), signal.SIGINT)
    assert ended(caught.value) == 130
    assert capfd.readouterr().err == "interrupted: go on like this\n"


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "terminated: go on like this\n"), (signal.SIGINT, 130, "interrupted: go on like this\n")],
)
def test_a_signal_that_ends_an_import_is_one_line_too(
    installed: None, capfd: pytest.CaptureFixture[str], number: int, code: int, line: str
) -> None:
    """pydoc, which looks for the names of a config, and MONAI raise errors of their own on top of it."""
    with pytest.raises(RuntimeError) as caught:
        try:
            try:
                os.kill(os.getpid(), number)
            except BaseException:
                raise ImportError("problem in a module")  # noqa: B904 (as pydoc does)
        except ImportError as error:
            raise RuntimeError("Failed to instantiate") from error
    assert ended(caught.value) == code
    assert capfd.readouterr().err == line


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_forked_process_that_hears_the_signal_too_is_silent(
    installed: None, capfd: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    """One that loads data and has just begun printed a trace, or said again what this one says."""
    child = os.fork()
    if not child:
        try:
            os.kill(os.getpid(), number)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_compiled_code_turns_into_its_own_error_is_no_slide_s_failure(
    installed: None, number: int, kind: type[BaseException]
) -> None:
    """h5py's lock returns "with an exception set". The slide counted as damaged, and the run went on."""
    for boundary in (slide_boundary("a.h5"), file_boundary("a.json", "not JSON", "ours")):
        with pytest.raises(kind), boundary:
            try:
                os.kill(os.getpid(), number)
            except BaseException as end:
                raise SystemError("returned a result with an exception set") from end
    with pytest.raises(kind), slide_boundary("b.h5"):
        pytest.fail("no slide is begun after that")


def test_code_of_a_signal_that_became_another_error(installed: None, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
    assert ended(SystemError("returned a result with an exception set")) == 143
    assert capfd.readouterr().err == "terminated: go on like this\n"


def test_a_signal_that_is_dropped_in_a_finalizer_comes_again(
    installed: None, capfd: pytest.CaptureFixture[str]
) -> None:
    class Handle:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        Handle().__del__  # noqa: B018 (it is finalized here)
        for _ in range(1000):
            time.sleep(0.01)
    assert caught.value.code == 143
    assert capfd.readouterr().err == "terminated: go on like this\n"


def test_a_signal_that_becomes_another_error_in_a_finalizer_comes_again(
    installed: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a loader does that waits for its processes, when the same signal ends them."""

    class Loader:
        def __del__(self) -> None:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")

    with pytest.raises(SystemExit) as caught:
        Loader().__del__  # noqa: B018 (it is finalized here)
        for _ in range(1000):
            time.sleep(0.01)
    assert caught.value.code == 143
    assert capfd.readouterr().err == "terminated: go on like this\n"


ENDED_WITH_ITS_LOADERS = """
import os, signal, weakref
from scripts.common.process import install_exit_codes

class Loader:
    def __del__(self):
        missed()

def missed():
    raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")

install_exit_codes("go on like this")
weakref.finalize(Loader, missed)
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    Loader()
"""


def test_what_follows_from_a_signal_is_not_told() -> None:
    """Loader processes that the same signal ended are missed in finalizers, and among those of the exit."""
    ended = subprocess.run([sys.executable, "-c", ENDED_WITH_ITS_LOADERS], capture_output=True, text=True, cwd=BUNDLE)
    assert (ended.returncode, ended.stderr) == (143, "terminated: go on like this\n")


IN_A_LOADER = 'Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  File "a.py"\n{}\n'


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/model.pt"), "out/model.pt: cannot be written (No space left"),
        (OSError(errno.EROFS, "Read-only file system", "out"), "cannot be written (Read-only file system)"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: Permission denied"),
        (RuntimeError("can't flush (file write failed: errno = 28, error message = 'x')"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error", "a.h5"), "a.h5: Input/output error; expected a disk or a network folder"),
        (OSError(errno.ESTALE, "Stale file handle", "a.h5"), "a.h5: Stale file handle; expected a disk or a network folder"),
        (OSError(errno.ENOTCONN, "not connected", "a.h5"), "a.h5: Transport endpoint is not connected; expected a disk"),
        (RuntimeError("Can't decrement id ref count (\nfilename = 'a.h5', errno = 5, error = 'x')"), "a.h5: Input/output error"),
        (OSError(errno.EMFILE, "Too many open files", "a.h5"), "a.h5: Too many open files; expected a limit"),
        (RuntimeError("Too many open files. Communication with the workers"), "a file: Too many open files; expected a limit"),
        (RuntimeError("received 0 items of ancdata"), "a file: Too many open files; expected a limit"),
        (RuntimeError(IN_A_LOADER.format("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory")),
         "memory ran out (RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory); expected room for a batch"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory); expected room for a batch"),
        (MemoryError(), "error: memory ran out; expected room for a batch"),
        (MemoryError("Unable to allocate 7 GiB"), "memory ran out (Unable to allocate 7 GiB); expected room for a batch"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has"), "memory ran out (CUDA out of memory. Tried to "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "a smaller --batch_size or fewer --num_workers"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. "), "data ended by 'Terminated'"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/home']"), "'/tmp', '/home' takes"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "fewer --num_workers, or a smaller"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible"), "--num_workers 0"),
    ],
)  # fmt: skip
def test_what_the_system_refuses_is_1_in_one_line(
    installed: None, capfd: pytest.CaptureFixture[str], error: Exception, words: str
) -> None:
    wrapped = RuntimeError("Failed to instantiate")
    wrapped.__cause__ = error
    assert ended(wrapped) == 1
    line = capfd.readouterr().err
    assert words in line and line.startswith("error: ") and line.count("\n") == 1


def test_a_connection_that_broke_is_no_disk() -> None:
    assert outcome_of(OSError(errno.ENOTCONN, "not connected")) is None


def test_a_full_disk_met_in_a_finalizer_does_not_end_the_run(
    installed: None, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Cython shows its errors to the hook. Ended there, a run skipped every ``finally`` and waited for its decoder for ever."""
    full = "Can't decrement id ref count (file write failed: errno = 28, error message = 'x')"
    code = compile(f"raise RuntimeError({full!r})", "h5py/_objects.pyx", "exec")
    with pytest.raises(RuntimeError) as caught:
        exec(code)
    trace = caught.value.__traceback__
    assert trace is not None
    sys.excepthook(RuntimeError, caught.value, trace.tb_next)
    assert capfd.readouterr().err == ""


def test_the_word_about_resuming_follows_the_config() -> None:
    configs = BUNDLE / "configs"
    assert "--resume true goes on" in how_to_go_on([f"{configs}/train.yaml"])
    assert "the same command goes on" in how_to_go_on([f"{configs}/encode.yaml"])
    assert "begins anew" in how_to_go_on([f"{configs}/sample.yaml"])
