"""Programs run in forks of a process that has imported what they import (benchmarks/forked.py): one such process for each of pytest's.

A real ``python -m monai.bundle`` imports for six seconds before it begins. Its exit code and output are those of the fork
(tests/benchmarks/test_forked.py). What depends on the import itself, on signals or on memory is tested with a real one.

    python command_server.py ARGUMENTS        # what ``python`` is to programs that run there, for those that they start
"""

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

SERVER = Path(__file__).resolve().parents[1] / "benchmarks" / "forked.py"
FORKED = ("monai.bundle", "torch.distributed.run")
"""Modules that import for long."""

WAITING = 64
STAND_IN = '#!/bin/sh\nexec "{}" -S "{}" "$0" "$@"\n'


class CommandServer:
    """A process that has imported the bundle and runs each program in a fork."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="commands"))  # pytest's own are too long for a socket
        self.socket = str(self._folder / "socket")
        self._python = self._folder / "python"
        self._python.write_text(STAND_IN.format(sys.executable, Path(__file__).resolve()), encoding="utf-8")
        self._python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.socket)
            listening.listen(WAITING)
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(listening.fileno()), str(os.getpid())],
                env=self._environment(), pass_fds=[listening.fileno()], start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        """No threads, which forks would not have, and no GPU, which they could not use."""
        return {
            **without_path(),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def run(self, *words: str, cwd: Path, timeout_s: float = 240, **variables: str) -> subprocess.CompletedProcess[str]:
        """Do what ``subprocess.run`` does of ``python`` with these arguments, as a user without PYTHONPATH, and raise what it raises."""
        environment = {**without_path(), **variables, "COMMAND_SOCKET": self.socket}
        request = request_of(words, str(cwd), environment, str(self._python))
        with open(os.devnull) as nothing, tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            streams = [file.fileno() for file in (nothing, out, err)]
            try:
                code = ask(self.socket, request, streams, timeout_s=timeout_s)
            except TimeoutError:
                raise subprocess.TimeoutExpired(words, timeout_s) from None
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read())
        return subprocess.CompletedProcess(words, code, *said)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)


def without_path() -> dict[str, str]:
    """The environment of a user, who has not set PYTHONPATH."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@cache
def command_server() -> CommandServer:
    """The server of this pytest process, started on first use; it ends with the process."""
    made = CommandServer()
    atexit.register(made.close)
    return made


def request_of(words: Sequence[str], folder: str, environment: Mapping[str, str], python: str) -> dict[str, Any]:
    """What the server is asked for."""
    return {"words": words, "folder": folder, "environment": dict(environment), "python": python}


def flags_of(words: Sequence[str]) -> int:
    """Return the number of words before the program."""
    return {"-u": 1, "-W": 2}.get(words[0], 0) if words else 0


def ask(path: str, request: Mapping[str, Any], streams: Sequence[int], *, timeout_s: float | None = None) -> int:
    """Let the server at a socket run a program; return its exit code, minus the number of the signal that ended it.

    Raises:
        TimeoutError: it had not ended after so long; it is killed.
        ConnectionError: the server has ended, or the program could not be started.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        connection.connect(path)
        message = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(connection, [message], list(streams))
        connection.sendall(message[sent:])
        answer = connection.recv(16)
    if not answer:
        raise ConnectionError(f"{path}: the process that runs programs has ended")
    return int(answer)


def run_as(python: str, words: Sequence[str], *, forked: bool) -> int:
    """Run a program on the streams of this process, and return its exit code; or let it replace this process.

    Args:
        python: What the program finds as ``sys.executable``.
        words: The arguments of ``python``.
        forked: Whether the server at COMMAND_SOCKET runs it.
    """
    if not forked:
        os.execv(sys.executable, [sys.executable, *words])
    environment = {name: value for name, value in os.environ.items() if name != "BASH_ENV"}
    return ask(os.environ["COMMAND_SOCKET"], request_of(words, os.getcwd(), environment, python), [0, 1, 2]) & 0xFF


def is_forked(words: Sequence[str]) -> bool:
    """Whether this is one of the modules that import for long."""
    what = words[flags_of(words) :]
    return what[:1] == ["-m"] and what[1] in FORKED


if __name__ == "__main__":
    sys.exit(run_as(sys.argv[1], sys.argv[2:], forked=is_forked(sys.argv[2:])))
