"""Python programs in forks of a process that has imported what they import: each takes its own work alone.

    python benchmarks/forked.py DESCRIPTOR PARENT        # of a Unix socket that listens, alone in its folder; the process it ends with

A request is a line of JSON, ``words`` (the arguments of ``python``), ``folder``, ``environment`` and ``python`` (what the program finds
as ``sys.executable``), sent with the descriptors of standard input, output and error (tests/command_server.py). The answer is the exit
code. Who closes the connection before that ends the program, which runs and leaves as it would by itself: same ``sys.argv``,
``sys.path``, hooks, output and exit code. What a library reads of the environment as it is imported, this process has given it.
"""

import atexit
import gc
import inspect
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import Any, NoReturn

import fire  # noqa: F401
import h5py  # noqa: F401
import matplotlib  # noqa: F401
import monai.bundle  # noqa: F401
import scipy.ndimage  # noqa: F401
import skimage.measure  # noqa: F401
import sklearn.linear_model
import sklearn.model_selection  # noqa: F401
import tifffile  # noqa: F401
import torch._dynamo  # an optimizer imports it
import torch.utils.tensorboard

LONGEST = 1 << 20
POLL_S = 0.01
LOOK_S = 1.0
"""How often the server looks whether the process that started it is still there."""

SELDOM = (100_000, 50, 50)
"""Thresholds of the garbage collector: a small program ends before it is worth a look."""

BROKEN = 70
"""The exit code where the program could not be run at all."""


def get_ready() -> None:
    """Prepare this process for being forked: one thread, no garbage to be collected again in each fork, and no file to be looked for."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # a fork of a process that has started a team of threads could not start its own
    # asked for a file that it does not know, as Fire does in every fork, it looks at all modules that it has not seen yet
    inspect.getmodule(compile("", "<no file>", "exec"))
    inspect.stack.__defaults__ = (0,)  # nor for the lines around its caller, which Fire does not show
    gc.collect()
    gc.freeze()
    gc.set_threshold(*SELDOM)


def become(
    words: Sequence[str],
    folder: str | Path,
    streams: Sequence[int],
    *,
    at_exit: Callable[[], None] = util._exit_function,
) -> NoReturn:
    """Be, in a fork, the program that ``python`` with these arguments is.

    Args:
        words: ``-m`` and a module, ``-c`` and code, or a script, and its arguments.
        folder: Where it runs.
        streams: Descriptors of standard input, output and error.
        at_exit: What is done last. The handlers of ``atexit`` are those of the process that was forked, too: all of them only where
            that process has done nothing but import.
    """
    code = BROKEN
    try:
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            _reopen(number, name)
        os.chdir(folder)
        code = _exit_code(list(words))
        threading._shutdown()  # type: ignore[attr-defined]
        at_exit()
    except SystemExit as late:  # a signal while it was leaving
        code = _code_of(late)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
        os._exit(code & 0xFF)


def _reopen(number: int, name: str) -> None:
    """A stream of its own, with the encoding that Python has chosen for it."""
    old = getattr(sys, f"__{name}__")
    how = {"encoding": old.encoding, "errors": old.errors} if old else {}
    stream = open(number, "w" if number else "r", buffering=1, closefd=False, **how)  # noqa: SIM115
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _exit_code(words: list[str]) -> int:
    """Run a program, with the exit code that the interpreter would give."""
    try:
        _run(words)
    except SystemExit as end:
        return _code_of(end)
    except BaseException as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        try:
            sys.excepthook(type(error), error.with_traceback(trace), trace)
        except SystemExit as end:
            return _code_of(end)
        return 1
    return 0


def _run(words: list[str]) -> None:
    sys.modules["__main__"] = types.ModuleType("__main__")
    if words[0] == "-m":
        sys.argv = ["-m", *words[2:]]
        runpy._run_module_as_main(words[1])  # type: ignore[attr-defined]  # what the interpreter itself calls
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        exec(compile(words[1], "<string>", "exec"), vars(sys.modules["__main__"]))
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


def _code_of(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def serve(listening: socket.socket, parent: int) -> None:
    """Run the program of each request in a fork, and tell its exit code, as long as this process has that parent; then kill them all."""
    running: dict[int, socket.socket] = {}
    while os.getppid() == parent:
        ready = select.select([listening, *running.values()], [], [], POLL_S if running else LOOK_S)[0]
        if listening in ready:
            connection, _ = listening.accept()
            if program := _begin(connection, [listening, *running.values()]):
                running[program] = connection
        for program, connection in [*running.items()]:
            if connection in ready:  # closed: nobody waits any more
                _kill(program)
            ended, status = os.waitpid(program, 0 if connection in ready else os.WNOHANG)
            if ended:
                with suppress(ConnectionError), running.pop(program):
                    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    for program in running:
        _kill(program)


def _begin(connection: socket.socket, others: Sequence[socket.socket]) -> int | None:
    """Start the program of a request; return its process, or None where the request was not finished."""
    connection.settimeout(LOOK_S)
    streams: list[int] = []
    try:
        message, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
        while not message.endswith(b"\n"):
            more = connection.recv(LONGEST)
            if not more:
                raise ConnectionError("the request was not finished")
            message += more
        program = os.fork()
        if not program:
            try:
                for own in (connection, *others):
                    own.close()
                _start(json.loads(message), streams)
            finally:
                os._exit(BROKEN)
    except OSError:  # it is gone, or stands still, or there can be no process more
        connection.close()
        return None
    finally:
        for stream in streams:
            os.close(stream)
    return program


def _kill(program: int) -> None:
    """Kill a program and what it has started."""
    for ended in (os.killpg, os.kill):  # it may not have got its group yet
        with suppress(ProcessLookupError):
            ended(program, signal.SIGKILL)


def _start(request: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = request["python"]
    sys.dont_write_bytecode = bool(os.environ.get("PYTHONDONTWRITEBYTECODE"))
    words, folder = list(request["words"]), request["folder"]
    if words[0] == "-u":  # output is shown line by line anyway
        del words[0]
    if words[:2] == ["-W", "ignore"]:
        del words[:2]
        warnings.simplefilter("ignore")
    of_script = os.path.dirname(os.path.join(folder, words[0]))
    sys.path[0] = {"-m": folder, "-c": ""}.get(words[0], of_script)  # until now that of this file
    sys.path[1:1] = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    become(words, folder, streams, at_exit=atexit._run_exitfuncs)


if __name__ == "__main__":
    get_ready()
    with socket.socket(fileno=int(sys.argv[1])) as listening:
        serve(listening, parent=int(sys.argv[2]))
        shutil.rmtree(os.path.dirname(listening.getsockname()), ignore_errors=True)
