"""A program in a fork says, writes and ends as what it does as a process of its own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import command_server as these
import pytest
from cohort.empty_files import touch
from command_server import CommandServer, command_server, without_path
from tiny_flow import BUNDLE, CONFIGS

CODE = """
import atexit, inspect, os, sys, threading, time
print([found.function for found in inspect.stack(0)][:1], bool(inspect.stack(context=1)))
print(sys.argv, repr(sys.path[0]), os.getcwd(), os.environ["PATH"], __name__, repr(sys.stdin.read()), flush=True)
threading.Thread(target=lambda: (time.sleep(0.2), print("late"))).start()
atexit.register(print, "last")
raise ValueError("wrong")
"""
STAYS = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
LEAVES = "from command_server import *; print(CommandServer().pid, flush=True); os._exit(0)"


def alone(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd, env=without_path(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def without_times(text: str) -> str:
    return re.sub(r"(\d+-\d+-\d+ )?\d+:\d+:\d+(,\d+)?", "", text)


def is_there(pid: int) -> bool:
    """Whether a process stays; one that is importing looks around only afterwards."""
    for _ in range(4800):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("stage", "config", "options", "code", "told"),
    [
        ("listing", "datalist.yaml", {"cohort": "folder"}, 0, "listing: 2 slides of 2 patients"),
        ("doctor", "doctor.yaml", {}, 1, "error: 2 slides cannot be read, see above"),
        ("listing", "datalist.yaml", {"cohort": "none"}, 2, "error: cohort"),
    ],
    ids=["done", "slides that fail", "refused"],
)
def test_a_command_is_that_of_a_process(
    stage: str, config: str, options: dict[str, str], code: int, told: str, tmp_path: Path
) -> None:
    words = ["-m", "monai.bundle", "run", stage, "--bundle_root", str(BUNDLE), "--config_file", str(CONFIGS / config)]
    words += ["--slides", "slides", *(word for name, value in options.items() for word in (f"--{name}", value))]
    found = []
    for name, run in (("fork", command_server().run), ("process", alone)):
        folder = tmp_path / name
        touch(folder / "slides", ["a/1.svs", "b/2.svs"])
        ended = run(*words, cwd=folder)
        written = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.csv")}
        found.append((ended.returncode, without_times(ended.stdout), without_times(ended.stderr), written))
    assert found[0] == found[1]
    assert found[0][0] == code and told in str(found[0]) and bool(found[0][3]) == (not code), found


def test_code_and_what_it_finds_are_those_of_a_process(tmp_path: Path) -> None:
    fork, process = (run("-c", CODE, "a b", "\udcff", cwd=tmp_path) for run in (command_server().run, alone))
    assert (fork.returncode, fork.stdout) == (process.returncode, process.stdout)
    assert fork.stderr.splitlines()[-1] == process.stderr.splitlines()[-1] == "ValueError: wrong"
    assert fork.returncode == 1 and fork.stdout.endswith("late\nlast\n")


@pytest.mark.parametrize(
    "code", ["import sys; sys.exit('no')", "import os; os.kill(os.getpid(), 9)", "import os; os._exit(3)"]
)
def test_its_end_is_that_of_a_process(code: str, tmp_path: Path) -> None:
    ends = [
        (ended.returncode, ended.stderr)
        for ended in (run("-c", code, cwd=tmp_path) for run in (command_server().run, alone))
    ]
    assert ends[0] == ends[1]


def test_who_waits_no_longer_ends_it(tmp_path: Path) -> None:
    command_server().run("-c", "", cwd=tmp_path)  # it has imported by now
    with pytest.raises(subprocess.TimeoutExpired):
        command_server().run("-c", STAYS, cwd=tmp_path, timeout_s=2)
    assert not is_there(int((tmp_path / "pid").read_text()))


def test_nothing_hangs_where_the_server_is_killed(tmp_path: Path) -> None:
    made = CommandServer()
    with pytest.raises(ConnectionError, match="has ended"):
        made.run("-c", "import os; os.kill(os.getppid(), 9)", cwd=tmp_path)
    with pytest.raises(ConnectionError):
        made.run("-c", "", cwd=tmp_path)
    made.close()


def test_the_server_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(these.__file__).parent), "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES], env=environment, stdout=subprocess.PIPE, text=True, timeout=240
    )
    assert not is_there(int(ended.stdout)) and not list(tmp_path.glob("commands*"))
