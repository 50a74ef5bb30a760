import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.common.errors import RequestError
from scripts.common.lock import folder_lock

BUNDLE = Path(__file__).parents[2] / "bundle"
HOLD = """
import sys, time
sys.path.insert(0, sys.argv[1])
from scripts.common.lock import folder_lock
with folder_lock(sys.argv[2], "encoding"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[int]:
    """Let another process hold the folder; killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(BUNDLE), str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_second_run_is_refused_with_owner_and_age_until_the_first_is_killed(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path) as pid,
        pytest.raises(RequestError, match=rf"process {pid} on .* for \d+\.\d minutes"),
        folder_lock(tmp_path, "encoding"),
    ):
        pass
    assert (tmp_path / ".encoding.owner.json").is_file(), "a killed run cannot tidy up"
    with folder_lock(tmp_path, "encoding"):
        assert str(os.getpid()) in (tmp_path / ".encoding.owner.json").read_text()
    assert not (tmp_path / ".encoding.owner.json").exists()


def test_another_name_is_another_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path), folder_lock(tmp_path, "encoding.1-of-2"):
        pass


def test_the_lock_is_released_on_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folder_lock(tmp_path, "encoding"):
        signal.raise_signal(signal.SIGINT)
    with folder_lock(tmp_path, "encoding"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cannot = pytest.raises(RequestError, match=r"file/out: cannot be written \(Not a directory\)")
    with cannot, folder_lock(tmp_path / "file" / "out", "encoding"):
        pass
