"""Runs Python programs in forks of this process, which has imported what they import, so that each takes its own work alone.

Listens on the Unix socket of its argument. A request (docs_shim.py) is a line of JSON, ``words`` (the arguments of ``python``),
``folder``, ``environment`` and ``python`` (what programs find as ``sys.executable``), sent with the file descriptors of standard input,
output and error; the answer is the exit code. The program leaves as it would as a command: same ``sys.argv``, ``sys.path``, hooks.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
import warnings

import h5py  # noqa: F401
import matplotlib  # noqa: F401
import scipy.ndimage  # noqa: F401
import skimage.measure  # noqa: F401
import sklearn.linear_model
import sklearn.model_selection  # noqa: F401
import tifffile  # noqa: F401
import torch.utils.tensorboard  # noqa: F401

LONGEST = 1 << 20


def serve(path: str) -> dict[str, object] | None:
    """Answer requests; in a fork that is to run a program, return its request."""
    gc.freeze()  # else every fork copies, and at its end tears down, all that was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        while True:
            connection, _ = listening.accept()
            if os.fork():
                connection.close()
                continue
            break
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, streams, _, _ = socket.recv_fds(connection, LONGEST, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(LONGEST)
    program = os.fork()
    if program:
        _, status = os.waitpid(program, 0)
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    connection.close()
    for target, source in enumerate(streams):
        os.dup2(source, target)
        os.close(source)
    request: dict[str, object] = json.loads(message)
    return request


request = serve(sys.argv[1])
warnings.simplefilter("ignore")
os.environ.clear()
os.environ.update(request["environment"])
os.chdir(request["folder"])
words = request["words"]
sys.executable = request["python"]
sys.path[:0] = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
if words[0] == "-m":
    sys.argv = ["-m", *words[2:]]
    sys.path.insert(0, request["folder"])
    runpy.run_module(words[1], run_name="__main__", alter_sys=True)
else:
    sys.argv = list(words)
    sys.path.insert(0, os.path.dirname(os.path.abspath(words[0])))
    runpy.run_path(words[0], run_name="__main__")
