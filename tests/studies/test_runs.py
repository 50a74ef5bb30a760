"""What a run says of its process."""

import resource
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from scripts.common.errors import RequestError
from scripts.common.files import write_json
from scripts.studies import runs
from scripts.studies.recipe import Overlaid


@pytest.mark.parametrize(("platform", "most"), [("linux", 3 * 2**10), ("darwin", 3 * 2**20)])
def test_memory_is_told_in_mib(monkeypatch: pytest.MonkeyPatch, platform: str, most: int) -> None:
    """Linux counts in KiB, macOS in bytes."""
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=most))
    assert runs._peak_mib() == 3


def test_what_a_run_took_is_read_from_its_file(tmp_path: Path) -> None:
    run = runs.StudyRun(Overlaid("dsnet", ()), 0, tmp_path, {}, tmp_path)
    write_json(
        tmp_path / "run.json",
        {"request": run.request, "seconds": 3.5, "training_s": 2.5, "evaluating_s": 1, "peak_mib": 70},
    )
    assert run.spent() == runs.Spent(2.5, 1.0, 70.0)
    write_json(tmp_path / "run.json", {"request": run.request})
    with pytest.raises(RequestError, match=r"run\.json.*remove its folder"):
        run.spent()
