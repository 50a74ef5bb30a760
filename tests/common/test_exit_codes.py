import errno
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.common.boundary import file_boundary, slide_boundary
from scripts.common.ending import forget_end
from scripts.common.exit_codes import causes
from scripts.common.options import how_to_go_on
from scripts.common.process import install_exit_codes


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


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/model.pt"), "out/model.pt: cannot be written (No space left"),
        (OSError(errno.EROFS, "Read-only file system", "out"), "cannot be written (Read-only file system)"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: Permission denied"),
        (RuntimeError("can't flush (file write failed: errno = 28, error message = 'x')"), "No space left on device"),
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
    configs = Path(__file__).parents[2] / "bundle" / "configs"
    assert "--resume true goes on" in how_to_go_on([f"{configs}/train.yaml"])
    assert "the same command goes on" in how_to_go_on([f"{configs}/encode.yaml"])
    assert "begins anew" in how_to_go_on([f"{configs}/sample.yaml"])
