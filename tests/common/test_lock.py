import errno
import fcntl
import os
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
import errno, fcntl, sys, time
if len(sys.argv) > 3:
    def no_locks(*_):
        raise OSError(int(sys.argv[3]), "no locks here")
    fcntl.flock = no_locks
sys.path.insert(0, sys.argv[1])
from scripts.common.lock import folder_lock
with folder_lock(sys.argv[2], "encoding"):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path, *arguments: str) -> Iterator[int]:
    """Let another process hold the folder; killed at the end. With an error number, its file system answers locks with that."""
    command = [sys.executable, "-c", HOLD, str(BUNDLE), str(folder), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
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
        raise KeyboardInterrupt  # not a signal, which a process started in the background ignores
    with folder_lock(tmp_path, "encoding"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cannot = pytest.raises(RequestError, match=r"file/out: cannot be written \(Not a directory\)")
    with cannot, folder_lock(tmp_path / "file" / "out", "encoding"):
        pass


@pytest.fixture(params=["ENOSYS", "ENOTSUP", "ENOLCK"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """A file system that has no locks, and how it says so."""
    number = getattr(errno, request.param)

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return number


def test_without_locks_a_marker_holds_the_folder(
    tmp_path: Path, no_locks: int, caplog: pytest.LogCaptureFixture
) -> None:
    with folder_lock(tmp_path, "encoding"):
        assert "a file system without locks" in caplog.text
        assert (tmp_path / ".encoding.soft.lock").is_file()
        refused = pytest.raises(RequestError, match=rf"process {os.getpid()} on .*if that process is gone, delete")
        with refused, folder_lock(tmp_path, "encoding"):
            pass
        with folder_lock(tmp_path, "encoding.1-of-2"):
            pass
    assert not (tmp_path / ".encoding.soft.lock").exists()
    with folder_lock(tmp_path, "encoding"):
        pass


def test_a_marker_is_taken_over_once_its_run_on_this_machine_was_killed(tmp_path: Path, no_locks: int) -> None:
    with (
        held_elsewhere(tmp_path, str(no_locks)) as pid,
        pytest.raises(RequestError, match=rf"process {pid} on .*\.encoding\.soft\.lock"),
        folder_lock(tmp_path, "encoding"),
    ):
        pass
    assert (tmp_path / ".encoding.soft.lock").is_file()
    with folder_lock(tmp_path, "encoding"):
        pass


def test_a_marker_of_another_machine_stays_until_it_is_deleted(tmp_path: Path, no_locks: int) -> None:
    marker = tmp_path / ".encoding.soft.lock"
    marker.write_text("1\nanother-machine\n")
    with pytest.raises(RequestError, match=r"delete .*\.soft\.lock"), folder_lock(tmp_path, "encoding"):
        pass
    marker.unlink()
    with folder_lock(tmp_path, "encoding"):
        pass


def test_other_errors_of_locking_are_not_taken_for_the_want_of_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", fail)
    failing = pytest.raises(RequestError, match=r"cannot be written \(Input/output error\)")
    with failing, folder_lock(tmp_path, "encoding"):
        pass
    assert not (tmp_path / ".encoding.soft.lock").exists()
