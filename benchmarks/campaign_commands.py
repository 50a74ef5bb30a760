"""Commands of the bundle in forks of this process, which has imported what they import: each starts at once."""

import os
import resource
import select
import signal
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from forked import become

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
    # until the bundle's own code is asked, Python alone would show its trace
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    warnings.simplefilter("ignore")
    become(["-m", "monai.bundle", *words], folder, [os.open(os.devnull, os.O_RDONLY), output, output])
