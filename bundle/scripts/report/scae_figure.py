"""The stage ``drawing_panels``: Fig. 2's pictures, of a trained S-CAE and patches of the training set."""

import logging
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..common.files import atomic_path, sha256_of
from ..common.option_table import checked
from ..common.option_words import Strategy
from ..common.outputs import HeldOutputs
from ..encoding.encoders import SCAEEncoder
from ..patches.patch_file import open_patches, whole_patches
from ..scae.panels import evenly_spaced, panels

PANEL_IN = 1.4
DPI = 150

_LOGGER = logging.getLogger(__name__)


def write_scae_panels(
    dataset_dir: str | Path,
    output_dir: str | Path,
    *,
    encoder: str | Path,
    strategy: Strategy = "separated",
    patches: int = 6,
    device: torch.device | str = "cpu",
    replace: bool = False,
) -> Path:
    """Write ``scae_panels.png``: one row per patch, at even steps through the file; one column per part (`..scae.panels`).

    Args:
        dataset_dir: folder of ``patches.h5``.
        output_dir: folder of the picture.
        encoder: weights of the S-CAE.
        strategy: that they were trained with.
        patches: rows.
        device: where the network runs.
        replace: whether a picture of another request may be replaced.

    Raises:
        RequestError: there are no patches or weights, or they are not what their stages write, or see
            :class:`..common.outputs.HeldOutputs`.
    """
    checked("patches", patches)
    drawn = Path(dataset_dir) / "patches.h5"
    with open_patches(drawn) as file, whole_patches(drawn):
        stored = file["patches"]
        pixels = np.stack([stored[index] for index in evenly_spaced(patches, of=len(stored))])
    network = SCAEEncoder(encoder, strategy).scae.to(device)
    columns = panels(network, torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device) / 255)
    figure = Figure(figsize=(PANEL_IN * len(columns), PANEL_IN * len(pixels) + 0.3), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(pixels), len(columns), squeeze=False)
    for column, (name, images) in enumerate(columns.items()):
        axes[0, column].set_title(name, fontsize=10)
        for row, image in enumerate(images.permute(0, 2, 3, 1).cpu().numpy()):
            axes[row, column].imshow(image, interpolation="nearest")
            axes[row, column].set_axis_off()
    path = Path(output_dir) / "scae_panels.png"
    request = {
        "dataset_dir": str(Path(dataset_dir).absolute()),
        "encoder": sha256_of(encoder),
        "strategy": strategy,
        "patches": patches,
    }
    outputs = HeldOutputs(output_dir, "drawing_panels", request, writes=(path.name,), replace=replace)
    with outputs, atomic_path(path) as partial:
        canvas.print_png(partial, metadata={"Software": None})
    _LOGGER.info("S-CAE panels: %s", path)
    return path
