"""What ``python``, ``pip`` and ``torchrun`` are where a test runs the commands of the documentation: the same, with smaller sizes
(docs_sizes.py). What imports much is run by docs_runner.py.

    python docs_shim.py {python,pip,torchrun} ARGUMENTS        # DOCS_SOCKET: that of docs_runner.py
"""

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from docs_sizes import program, smaller

ALONE = ("transformation.py", "training_memory.py")  # they measure their process


def main(name: str, words: Sequence[str]) -> int:
    """Run a program; return its exit code, or be replaced by it."""
    if name == "pip":
        words = ["-m", "pip", *words]
    if name == "torchrun":
        place = words.index("-m")
        own = smaller(["torchrun", *words[:place]])
        words = ["-m", "torch.distributed.run", *own[1:], *smaller(words[place:])]
        os.environ["MASTER_ADDR"] = "127.0.0.1"
    else:
        if words[:2] == ["-W", "ignore"]:  # as docs_runner.py does
            words = words[2:]
        words = smaller(words)
        is_script = bool(words) and words[0].endswith(".py") and program(words) not in ALONE
        if is_script or (words[:1] == ["-m"] and words[1] == "monai.bundle"):
            return _ask(words)
    os.execv(sys.executable, [sys.executable, *words])


def _ask(words: Sequence[str]) -> int:
    environment = {name: value for name, value in os.environ.items() if name != "BASH_ENV"}
    own = str(Path(os.environ["DOCS_PROGRAMS"]) / "python")
    request = {"words": list(words), "folder": os.getcwd(), "environment": environment, "python": own}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["DOCS_SOCKET"])
        socket.send_fds(connection, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        return int(connection.recv(16) or b"70")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]) & 0xFF)
