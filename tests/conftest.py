"""Fixtures that every folder of tests shares."""

import gc
import os
import signal
from pathlib import Path

import pytest

from scripts.common.process import send_no_telemetry

send_no_telemetry()  # this process is ours
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts in the background ignore it

REPO = Path(__file__).resolve().parents[1]
LONGEST = ("test_docs.py", "test_flow.py", "test_forked.py", "test_checkpoint.py")
"""So that no process is left with one of them when the others have nothing to do any more."""

LAST = ("test_engine.py",)
"""They load OpenVINO into the process of the tests. After that, encoding may not fork it, and starts a process that imports for seconds."""


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real slides; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("DSNET_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real slides: set DSNET_DATA to a folder that holds them")
    return folder


def pytest_collection_finish() -> None:
    """What was imported stays: to look for garbage in it takes longer than many a test, and each fork would copy it."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what takes long first, and what slows others down last; skip tests marked ``cuda`` where torch sees no GPU."""
    place = {name: index - len(LONGEST) for index, name in enumerate(LONGEST)} | dict.fromkeys(LAST, 1)
    items.sort(key=lambda item: place.get(item.path.name, 0))
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked and not _gpu_is_there():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU: make gpu-check runs it on a machine that has one"))


def _gpu_is_there() -> bool:
    import torch

    return torch.cuda.is_available()
