"""A stage that another one runs: in this process, or as a command of its own, as a user would."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigWorkflow

from .config_files import CONFIGS


def run_stage(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> ConfigWorkflow:
    """Run a stage of the bundle in this process, whose logging stays as it is.

    Args:
        run_id: of the stage.
        files: its config files, an overlay after what it lies on.
        options: by id, as values; a text that begins with ``$`` is evaluated.

    Returns:
        what has run; its parser gives the objects that were used.
    """
    workflow = ConfigWorkflow(
        config_file=[str(file) for file in files],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        run_id=run_id,
        workflow_type="train",
        **{"bundle_root": str(CONFIGS.parent), **options},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow


def run_command(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> int:
    """Run a stage as a process of its own, which prints where this one does; return its exit code."""
    command = [sys.executable, "-m", "monai.bundle", "run", run_id]
    command += ["--config_file", str([str(file) for file in files])]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    return subprocess.run(command, check=False).returncode
