"""The FROC curve as a picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..common.files import atomic_path
from ..evaluation.interval import Estimate

SIZE_IN = (5.0, 4.0)
DPI = 120


def write_froc_plot(
    path: Path,
    false_positives: NDArray[np.float64],
    sensitivity: NDArray[np.float64],
    froc: Estimate,
    averaged: Mapping[float, float],
) -> None:
    """Write a PNG: sensitivity against false positives per slide, with the points whose mean is the FROC score.

    Args:
        path: the file.
        false_positives: of the curve, per slide, (P,).
        sensitivity: of the curve, (P,).
        froc: the score.
        averaged: the sensitivity at the false positives that the score averages over.
    """
    figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(false_positives, sensitivity, color="tab:blue", linewidth=1.5)  # linear, as the score interpolates
    rates = list(averaged)
    axes.plot(rates, list(averaged.values()), "o", color="tab:blue", clip_on=False)
    axes.set_xscale("log", base=2)
    axes.set_xlim(rates[0] / 2, rates[-1])
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.set_ylim(0, 1)
    axes.set_xlabel("false positives per slide")
    axes.set_ylabel("share of lesions found")
    if froc.value is not None:
        ends = froc.ends_in_words()
        axes.set_title(f"FROC {froc.value:.3f} ({f'95 % interval {ends}' if ends else 'no interval'})")
    with atomic_path(path) as partial:
        canvas.print_png(str(partial))
