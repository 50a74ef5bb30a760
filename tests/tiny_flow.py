"""Running the stages of the bundle, in this process or as commands."""

import csv
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command_server import command_server
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism
from torch import Tensor

from scripts.common.errors import RequestError

BUNDLE = Path(__file__).resolve().parents[1] / "bundle"
CONFIGS = BUNDLE / "configs"
ON_CPU = {"device": "cpu", "num_workers": 0}
NO_GRAPH = {"graph": False}
"""Of train.yaml: drawing the network for TensorBoard takes longer than training it on slides this small."""
SMALL_NETWORK = {"network_def#multi_scale": False, "network_def#concurrent_bottleneck": False}
"""Of train.yaml: a third of DSNet's tensors, for tests of what a training does around its network."""


@dataclass(frozen=True)
class TinyFlow:
    """Where the stages left their outputs."""

    slides: Path
    patches: Path
    encoder: Path
    dataset: Path
    model: Path
    log: Path
    evaluation: Path

    @property
    def trained(self) -> dict[str, str]:
        """Options that name both trained networks."""
        return {"encoder": str(self.encoder), "model": str(self.model)}


def workflow(*files: str, run_id: str, workflow_type: str = "train", **options: Any) -> ConfigWorkflow:
    """Make the workflow of config files of the bundle; paths may be given as options."""
    options = {**(NO_GRAPH if "train.yaml" in files else {}), **options}
    values = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    return ConfigWorkflow(
        config_file=[str(CONFIGS / name) for name in files],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        run_id=run_id,
        workflow_type=workflow_type,
        **{"bundle_root": str(BUNDLE), **values},
    )


def run_config(*files: str, run_id: str, **options: Any) -> ConfigWorkflow:
    """Run a stage in this process and return its workflow; the random state that it sets is given back."""
    stage = workflow(*files, run_id=run_id, **options)
    try:
        stage.initialize()
        stage.run()
        stage.finalize()
    finally:
        set_determinism(seed=None)
    return stage


def run_command(run_id: str, *files: str, cwd: Path, options: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a stage as a user does, from ``cwd`` and without PYTHONPATH, in a fork that has imported already (command_server.py)."""
    names = [str(CONFIGS / name) for name in files]
    words = [run_id, "--bundle_root", BUNDLE, "--config_file", names[0] if len(names) == 1 else names]
    for name, value in options.items():
        words += [f"--{name}", value]
    return command_server().run("-m", "monai.bundle", "run", *map(str, words), cwd=cwd)


def cause_of(error: BaseException | None) -> RequestError:
    """Return the RequestError among the causes of what MONAI raises."""
    while error is not None and not isinstance(error, RequestError):
        error = error.__cause__ or error.__context__
    assert error is not None, "expected a RequestError"
    return error


def last_weights(output: Path) -> dict[str, Tensor]:
    """Weights after the last epoch of a training whose ``output_dir`` is ``log`` in this folder."""
    return torch.load(output / "log" / "last.pt", weights_only=True)["network"]


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
