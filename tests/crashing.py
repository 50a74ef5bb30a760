"""Slides that end the process that opens them, as damaged files do with decoders in native code."""

import faulthandler
import os
import signal
import time
from pathlib import Path

import pytest

from scripts.slides.opening import Reading, open_slide
from scripts.slides.reader import SlideReader


def crash() -> None:
    """End this process by SIGSEGV."""
    faulthandler.disable()  # which pytest switches on: it would tell of the crash
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def crash_at(monkeypatch: pytest.MonkeyPatch, module: str, *names: str) -> None:
    """Let slides of these names end the process in which ``module`` opens them, which must not be this one."""
    here = os.getpid()

    def opened(path: Path, *reading: Reading) -> SlideReader:
        assert os.getpid() != here
        if Path(path).name in names:
            crash()
        return open_slide(path, *reading)

    monkeypatch.setattr(f"{module}.open_slide", opened)
