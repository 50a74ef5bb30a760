"""What a run says of its process."""

import resource
import sys
from types import SimpleNamespace

import pytest

from scripts.studies import runs


@pytest.mark.parametrize(("platform", "most"), [("linux", 3 * 2**10), ("darwin", 3 * 2**20)])
def test_memory_is_told_in_mib(monkeypatch: pytest.MonkeyPatch, platform: str, most: int) -> None:
    """Linux counts in KiB, macOS in bytes."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=most))
    assert runs._peak_mib() == 3
