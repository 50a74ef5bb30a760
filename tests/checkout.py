"""A copy of the repository as a reader has it, its environments made, and the commands of a page run in it as they stand."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from docs_blocks import REPO, Block, blocks_of

STAMPS = (".installed", ".installed-cu12-test", ".installed-cu13-test")
PYTHON3 = """#!/bin/sh
# an environment that is there is not made again
[ "$1" = -m ] && [ "$2" = venv ] && [ -x "$3/bin/python" ] && exit
exec {} "$@"
"""
CURL = "fail-with-body\nsilent\nshow-error\n"


class Checkout:
    """The tracked files, copied.

    Args:
        folder: where to; made.
        models: what bundle/models holds.
        environments: interpreter of each environment by its folder's name, which gets links to what that environment holds.
    """

    def __init__(self, folder: Path, *, models: Path, environments: dict[str, str]) -> None:
        self.folder = folder
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, check=True, capture_output=True, text=True)
        for name in tracked.stdout.rstrip("\0").split("\0"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPO / name, folder / name)
        shutil.copytree(models, folder / "bundle" / "models", dirs_exist_ok=True)
        for name, python in environments.items():
            (folder / name).mkdir()
            for entry in Path(python).absolute().parent.parent.iterdir():
                if not entry.name.startswith(STAMPS[0]):
                    (folder / name / entry.name).symlink_to(entry)
            for stamp in STAMPS:
                (folder / name / stamp).touch()
        programs = folder.parent / "programs"
        programs.mkdir()
        (programs / "python3").write_text(PYTHON3.format(Path(sys.executable).absolute()), encoding="utf-8")
        (programs / "python3").chmod(0o755)
        (programs / ".curlrc").write_text(CURL, encoding="utf-8")  # an answer other than 200 ends curl with an error
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MAKE"))
        }
        self.environment |= {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "CURL_HOME": str(programs)}

    def blocks(self, page: str) -> list[Block]:
        """The blocks of commands of a page."""
        return [block for block in blocks_of(REPO / page) if block.commands]

    def run(self, blocks: Sequence[Block], *, timeout_s: float = 600) -> str:
        """Run blocks in one shell; return what they print.

        Raises:
            AssertionError: a command ended with an error.
        """
        done = subprocess.run(
            ["bash", "-ec", "\n".join(block.text for block in blocks)],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout_s,
        )  # fmt: skip
        assert done.returncode == 0, (
            f"{blocks[0]}: ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout + done.stderr

    @contextmanager
    def running(self, block: Block, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
        """Run a block whose last command does not end by itself."""
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-ec", block.text],
                cwd=self.folder, env=self.environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            yield process
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=60)
