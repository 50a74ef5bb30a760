"""The folder that the documentation's commands are run in: a copy of the repository with what the reader has, as small as can be.

bash runs a block as it stands. In its ``PATH`` and in ``.venv`` stand stand-ins for python, pip and torchrun (docs_shim.py), which take
smaller sizes (docs_sizes.py) and let a fork run what would import for seconds (command_server.py).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from command_server import command_server
from docs_blocks import REPO, Block, blocks_of
from docs_sizes import DSNET, EPOCHS, FURTHER_SEEDS, request_of

TESTS = Path(__file__).resolve().parent
STAND_INS = {"python": "python", "python3": "python", "python3.11": "python", "pip": "pip", "torchrun": "torchrun"}
STAMPS = (".installed-cu12-test", ".installed-cu13-test", ".installed-cu13", ".docs")
CPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
"""One thread is faster than two on work this small."""


class World:
    """The folder.

    Args:
        folder: made.
        variables: further environment of the commands.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.log = ""
        self._done: set[object] = set()
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, check=True, capture_output=True, text=True)
        for name in tracked.stdout.rstrip("\0").split("\0"):
            if (REPO / name).is_file():  # else removed, and not committed yet
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(REPO / name, folder / name)
        programs = self._make_environment()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE", "PIP_"))}
        self.environment = {
            **kept,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "BASH_ENV": str(programs / "functions.sh"),
            "DOCS_PROGRAMS": str(programs),
            "COMMAND_SOCKET": command_server().socket,
            **CPU,
            **(variables or {}),
        }

    def _make_environment(self) -> Path:
        """``.venv``: what the environment of the tests has, with the stand-ins, and nothing left to install."""
        real, made = Path(sys.executable).absolute().parent, self.folder / ".venv"
        (made / "bin").mkdir(parents=True)
        (made / "lib").symlink_to(real.parent / "lib")
        for name, kind in STAND_INS.items():
            script = made / "bin" / name
            script.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -S "{TESTS / "docs_shim.py"}" {kind} "$@"\n', encoding="utf-8"
            )
            script.chmod(0o755)
        for program in real.iterdir():
            if not (made / "bin" / program.name).exists() and program.name != "activate":
                (made / "bin" / program.name).symlink_to(program)
        (made / "bin" / "activate").write_text("# the stand-ins are in PATH\n", encoding="utf-8")
        (made / "bin" / "functions.sh").write_text(f'dsnet() {{ {" ".join(DSNET)} "$@"; }}\n', encoding="utf-8")
        for stamp in STAMPS:
            (made / stamp).touch()
        return made / "bin"

    def run_page(self, path: Path) -> int:
        """Do what a page says, from top to bottom; return the number of blocks that were run.

        Raises:
            AssertionError: a block ended otherwise than the page says, or showed something else.
        """
        ran, blocks = 0, blocks_of(path)
        logs = [block.text for block in blocks if block.says("shows") == "log"]
        epochs = {EPOCHS: "2"} if any(re.search(" left$", text, re.MULTILINE) for text in logs) else {}
        for block in blocks:
            if file := block.says("file"):
                (self.folder / file).write_text(block.text, encoding="utf-8")
            elif shown := block.says("shows"):
                source = self.log if shown == "log" else (self.folder / shown).read_text(encoding="utf-8")
                missing = [line for line in block.text.splitlines() if not is_shown(line, source)]
                assert not missing, f"{block}: not in {shown}: {missing}\n{source[-3000:]}"
            elif block.commands and not block.says("run by"):
                self.run(block, **epochs)
                ran += 1
        return ran

    def run(self, block: Block, *, timeout_s: float = 300, **variables: str) -> None:
        """Run a block, with further environment; ``log`` is what it prints.

        Raises:
            AssertionError: it ended otherwise than the page says.
        """
        expected = int(block.says("exits with") or 0)
        assert not expected or len(block.commands) == 1, f"{block}: which of its commands exits with {expected}?"
        machines = int(block.says("run on").partition(" ")[0] or 1)
        log, text = self.folder / "log.txt", FURTHER_SEEDS.sub("", block.text)
        with open(log, "w", encoding="utf-8") as output:
            started = [
                subprocess.Popen(
                    ["bash", "-ec", text], cwd=self.folder / block.says("run in"), env={**self.environment, **variables},
                    stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                )
                for _ in range(machines)
            ]  # fmt: skip
            try:
                codes = [process.wait(timeout=timeout_s) for process in started]
            finally:
                for process in started:
                    if process.poll() is None:
                        os.killpg(process.pid, 9)
        self.log = log.read_text(encoding="utf-8", errors="replace")
        assert codes == [expected] * machines, (
            f"{block}: ended with {codes}, not {expected}\n{block.text}\n{self.log[-4000:]}"
        )
        self._done.update(map(request_of, block.commands))

    def has_run(self, block: Block) -> bool:
        """Whether each command of a block has been run here and ended as it was meant to."""
        return self._done.issuperset(map(request_of, block.commands))


def is_shown(line: str, output: str) -> bool:
    """Whether a line, but for its numbers and what "..." stands for, is one of the output's."""
    pattern = re.sub(r"\d+(\\\.\d+)?", lambda _: r"[\d.]+", re.escape(line.strip()).replace(r"\.\.\.", ".*"))
    return re.search(rf"^\s*{pattern}\s*$", output, re.MULTILINE) is not None
