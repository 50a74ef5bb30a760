"""Commands of the bundle in forks of this process, which has imported what they import: each starts at once."""

import gc
import os
import resource
import runpy
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import util
from pathlib import Path
from typing import NoReturn

import h5py  # noqa: F401
import matplotlib  # noqa: F401
import monai.bundle.__main__  # noqa: F401
import scipy.ndimage  # noqa: F401
import skimage.measure  # noqa: F401
import sklearn.model_selection  # noqa: F401
import tifffile  # noqa: F401
import torch.utils.tensorboard

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "bundle" / "configs"
LIMIT_S = 120.0
"""A command hangs that says nothing for so long, or has not ended after ten times as long."""

POLL_S = 0.01
LOG = ".campaign.log"
"""What a command said, in its folder."""

TRACE = "Traceback (most recent call last)"


@dataclass(frozen=True)
class Disturbance:
    """What happens to a command: a signal after some seconds, or no file may grow beyond some bytes."""

    signal: int | None = None
    after_s: float = 0.0
    file_bytes: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (minus the number of the signal that ended it, None if it had to be stopped), output, time."""

    code: int | None
    said: str
    seconds: float
    group: int

    @property
    def error(self) -> str:
        """The line that says why it failed."""
        return next((line for line in reversed(self.said.splitlines()) if line.startswith("error: ")), "")

    def sweep(self) -> None:
        """End what is left of its group of processes."""
        with suppress(ProcessLookupError):
            os.killpg(self.group, signal.SIGKILL)


def stage(run_id: str, *files: str, **options: object) -> list[str]:
    """The words of a stage's command, those that follow ``python -m monai.bundle``."""
    named = [str(CONFIGS / name) for name in files]
    words = ["run", run_id, "--bundle_root", str(REPO / "bundle")]
    words += ["--config_file", named[0] if len(named) == 1 else str(named)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def get_ready() -> None:
    """Prepare this process for being forked: one thread, and no garbage to be collected again in each fork."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # a fork of a process that has started a team of threads could not start its own
    gc.collect()
    gc.freeze()


def run(
    words: Sequence[str], folder: Path, *, limit_s: float = LIMIT_S, disturbance: Disturbance | None = None
) -> Ended:
    """Run a command in ``folder``; its children are left alone unless it is stopped (:meth:`Ended.sweep`)."""
    happens = disturbance or Disturbance()
    ours, theirs = os.pipe()
    start = time.monotonic()
    child = os.fork()
    if not child:
        _become(words, folder, theirs, happens.file_bytes)
    os.close(theirs)
    os.set_blocking(ours, False)
    said, code, is_open, pending, heard = bytearray(), None, True, happens.signal, 0.0
    while True:
        passed = time.monotonic() - start
        if pending is not None and passed >= happens.after_s:
            os.kill(child, pending)
            pending = None
        if passed - heard > limit_s or passed > 10 * limit_s:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        ready = select.select([ours] if is_open else [], [], [], POLL_S)[0]
        heard = passed if ready else heard
        is_open = is_open and (not ready or _drained(ours, said))
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            code = os.waitstatus_to_exitcode(status)
            break
    _drained(ours, said)
    os.close(ours)
    (folder / LOG).write_bytes(said)
    return Ended(code, said.decode(errors="replace"), time.monotonic() - start, child)


def _drained(pipe: int, said: bytearray) -> bool:
    """Read what is there; tell whether there may be more."""
    with suppress(BlockingIOError):
        while chunk := os.read(pipe, 1 << 16):
            said += chunk
        return False
    return True


def _become(words: Sequence[str], folder: Path, output: int, file_bytes: int | None) -> NoReturn:
    """Be that command, in a fork."""
    code = 70
    try:
        os.setsid()
        for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
            os.dup2(os.open(os.devnull, os.O_RDONLY) if number == 0 else output, number)
            stream = open(number, "r" if number == 0 else "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        os.chdir(folder)
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # until the bundle's own code is asked, Python alone would show its trace
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        warnings.simplefilter("ignore")
        sys.argv = ["-m", *words]
        code = _exit_code()
        threading._shutdown()  # type: ignore[attr-defined]
        util._exit_function()
    except SystemExit as late:  # a signal while it was leaving
        code = _code_of(late)
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
        os._exit(code)


def _exit_code() -> int:
    """Run ``python -m monai.bundle``, with the exit code that the interpreter would give."""
    try:
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return _code_of(end)
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        except SystemExit as end:
            return _code_of(end)
        return 1
    return 0


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1
