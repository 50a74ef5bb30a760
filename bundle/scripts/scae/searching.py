"""The stage ``searching``: brief trainings of the S-CAE at the rates that the search asks for, and what they gave."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.data import DataLoader, Dataset, Subset

from ..common.errors import RequestError
from ..common.files import atomic_path, write_csv, write_json, writing_to
from ..common.outputs import Found, HeldOutputs
from ..common.stage import run_stage
from ..patches.dataset import PatchDataset
from .detections import local_maxima
from .objective import darkness
from .rate_search import COLUMNS, Measured, Step, chosen, search
from .scae_network import SCAE

_LOGGER = logging.getLogger(__name__)


def search_sparsity(
    patches: PatchDataset,
    output_dir: str | Path,
    *,
    config_file: str | Path,
    options: Mapping[str, Any],
    device: torch.device,
    nuclei_per_mm2: float,
    measured_patches: int = 1000,
    replace: bool = False,
    **bounds: Any,
) -> float:
    """Search rho on a set of patches; write ``sparsity.csv`` (after each step), ``sparsity.png``, ``sparsity.json`` (the choice).

    Args:
        patches: those that the options' training reads.
        output_dir: folder of the outputs, and of a folder for each training.
        config_file: the training, ``train_scae.yaml``.
        options: of every training; only the sparsity rate changes between steps, not the seed.
        device: where it is measured.
        nuclei_per_mm2: prior density, in tissue.
        measured_patches: nuclei and error are measured on so many patches, at even steps of the set.
        replace: whether a search of another request may be replaced.
        bounds: of :func:`.rate_search.search`.

    Returns:
        The chosen rate, in percent.

    Raises:
        RequestError: an option is wrong, or see :class:`..common.outputs.HeldOutputs`.
    """
    patch_um = patches.patch_um
    output = Path(output_dir).absolute()  # a config evaluates a text that begins with $
    shown = np.unique(np.linspace(0, len(patches) - 1, measured_patches).round().astype(int))
    subset = Subset(patches, shown.tolist())

    def try_rate(rate: float) -> Measured:
        folder = output / f"rho_{rate:.2f}"
        own = {"network_def#sparsity_rate": rate, "output_dir": str(folder), "replace": True}
        network = run_stage("training", [config_file], {**options, **own}).parser.get_parsed_content("network")
        return measure(network, subset, patch_um=patch_um, device=device)

    without_influence = ("bundle_root", "device", "num_workers")
    request = {
        **{name: value for name, value in options.items() if name not in without_influence},
        **bounds,
        "nuclei_per_mm2": nuclei_per_mm2,
        "measured_patches": measured_patches,
    }
    names = ("sparsity.csv", "sparsity.png", "sparsity.json")
    steps: list[Step] = []
    with (
        writing_to(output),
        HeldOutputs(output, "searching", request, writes=names, replace=replace, found=Found(below=True)),
    ):
        for step in search(try_rate, nuclei_per_mm2=nuclei_per_mm2, **bounds):
            steps.append(step)
            write_csv(output / "sparsity.csv", COLUMNS, (step.cells() for step in steps))
        best = chosen(steps, nuclei_per_mm2=nuclei_per_mm2)
        write_json(
            output / "sparsity.json",
            {"prior_nuclei_per_mm2": nuclei_per_mm2, **best.cells()},
        )
        plot(steps, best, nuclei_per_mm2=nuclei_per_mm2, path=output / "sparsity.png")
    _LOGGER.info("rho %.2f: %.0f nuclei/mm2, prior %.0f", best.sparsity_rate, best.nuclei_per_mm2, nuclei_per_mm2)
    return best.sparsity_rate


@torch.no_grad()
def measure(network: SCAE, patches: Dataset[Any], *, patch_um: float, device: torch.device) -> Measured:
    """Count nuclei and error of a trained S-CAE.

    Args:
        network: the S-CAE.
        patches: items ``{"image": (3, 112, 112) on the scale of 0 to 255}``.
        patch_um: their side on the slide.
        device: where it is measured.

    Raises:
        RequestError: an S-CAE without a detection map.
    """
    if network.strategy == "mixed":
        raise RequestError("the strategy mixed has no sparsity rate: search with strategy separated")
    network.eval()
    counts: list[int] = []
    errors: list[float] = []
    active: list[float] = []
    dark: list[float] = []
    for batch in DataLoader(patches, batch_size=64):
        images = (batch["image"].to(device) / 255).contiguous(memory_format=torch.channels_last)
        trunk = network.trunk(images)
        maxima = local_maxima(network.detect.detection(trunk), threshold=network.detect.threshold)
        counts += maxima.sum(dim=(1, 2, 3)).tolist()
        errors += (network(images) - images).square().mean(dim=(1, 2, 3)).tolist()
        mask = network.detect.hard(trunk)
        active += mask.mean(dim=(1, 2, 3)).tolist()
        dark += darkness(mask, images).tolist()
    return Measured(
        nuclei_per_mm2=float(np.mean(counts)) / (patch_um / 1000) ** 2,
        error=float(np.mean(errors)),
        active_share=float(np.mean(active)),
        darkness=float(np.mean(dark)),
    )


def plot(steps: list[Step], best: Step, *, nuclei_per_mm2: float, path: Path) -> None:
    """Draw density and error of every step over its rate."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    density, error = figure.subplots(2, 1, sharex=True)
    rates = [step.sparsity_rate for step in steps]
    density.axhline(nuclei_per_mm2, color="0.6", linestyle="--", label="prior")
    density.axvline(best.sparsity_rate, color="tab:green", alpha=0.5, label=f"chosen: {best.sparsity_rate:.2f} %")
    density.plot(rates, [step.nuclei_per_mm2 for step in steps], "o")
    density.set_ylabel("detected nuclei / mm$^2$")
    density.legend()
    error.plot(rates, [step.error for step in steps], "s", color="tab:orange")
    error.axhline(min(step.largest_error for step in steps), color="0.6", linestyle=":", label="largest error allowed")
    error.set_ylabel("reconstruction error")
    error.set_xlabel("sparsity rate in percent (numbers: order of the steps)")
    error.legend()
    for step in steps:
        for axes, value in ((density, step.nuclei_per_mm2), (error, step.error)):
            axes.annotate(str(step.step), (step.sparsity_rate, value), textcoords="offset points", xytext=(5, 4))
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=120)
