"""Fixtures that every folder of tests shares."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real slides; tests that need it are skipped where it is missing."""
    folder = Path(os.environ.get("DSNET_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no real slides: set DSNET_DATA to a folder that holds them")
    return folder
