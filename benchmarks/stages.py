"""Stages of the bundle as commands, as a user gives them."""

import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def command_of(run_id: str, *files: str, checkout: Path = REPO, **options: object) -> list[str]:
    """Return the words of a stage's command that follow the interpreter.

    Args:
        run_id: the run of the configs, such as "training".
        files: names of the configs in bundle/configs, each laid over those before it.
        checkout: the working tree whose bundle runs.
        options: further options by name.
    """
    bundle = checkout / "bundle"
    configs = [str(bundle / "configs" / name) for name in files]
    words = ["-m", "monai.bundle", "run", run_id, "--bundle_root", str(bundle)]
    words += ["--config_file", configs[0] if len(configs) == 1 else str(configs)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    return words


def run_command(run_id: str, *files: str, **options: object) -> None:
    """Run a stage in a process of its own; where it fails, end with all that it has written."""
    command = [sys.executable, *command_of(run_id, *files, **options)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
