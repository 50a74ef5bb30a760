"""Counts how often embedding files are really opened, by h5py and by Python, in this process and in those that it forks."""

import builtins
import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest


def count_opens(monkeypatch: pytest.MonkeyPatch, log: Path) -> Callable[[], Counter[str]]:
    """From now on write the name of every ``.h5`` file that is opened to ``log``; return a function that counts them by name."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def noting(original: Callable[..., Any], place: int) -> Callable[..., Any]:
        def opened(*arguments: Any, **options: Any) -> Any:
            path = arguments[place] if len(arguments) > place else None
            if isinstance(path, str | os.PathLike) and str(path).endswith(".h5"):
                os.write(descriptor, f"{Path(path).name}\n".encode())
            return original(*arguments, **options)

        return opened

    monkeypatch.setattr(h5py.File, "__init__", noting(h5py.File.__init__, 1))
    monkeypatch.setattr(builtins, "open", noting(builtins.open, 0))
    monkeypatch.setattr(io, "open", noting(io.open, 0))
    return lambda: Counter(log.read_text().split())
