"""The reliability diagram: what was predicted against what came true, before and after calibration."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..common.figure_words import plain_text
from ..common.files import atomic_path
from .calibration import ReliabilityBin

PANEL_IN = (4.0, 5.0)
DPI = 120


def write_reliability_plot(
    path: Path, panels: Sequence[tuple[str, Sequence[ReliabilityBin]]], *, probability: str, event: str
) -> None:
    """Write a PNG: in each panel the observed share per bin with its interval, and below it the number of slides.

    Args:
        path: the file.
        panels: title and bins of each.
        probability: what the horizontal axis shows, such as "P(tumour)".
        event: what the vertical axis counts, such as "share of tumour".
    """
    width, height = PANEL_IN
    figure = Figure(figsize=(width * len(panels), height), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1))
    for column, (title, bins) in enumerate(panels):
        _draw(axes[0, column], axes[1, column], [one for one in bins if one.slides])
        axes[0, column].set_title(title)
        shown, options = plain_text(probability)
        axes[1, column].set_xlabel(shown, **options)
    shown, options = plain_text(event)
    axes[0, 0].set_ylabel(shown, **options)
    axes[1, 0].set_ylabel("slides")
    with atomic_path(path) as partial:
        canvas.print_png(str(partial))


def _draw(above: Axes, below: Axes, bins: Sequence[ReliabilityBin]) -> None:
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    for one in bins:
        if one.mean_probability is not None and one.observed is not None and one.ci95 is not None:
            above.vlines(one.mean_probability, *one.ci95, color="tab:blue", linewidth=1.5)
            above.plot([one.mean_probability], [one.observed], "o", color="tab:blue", clip_on=False)
    above.set_xlim(0, 1)
    above.set_ylim(0, 1)
    centres = [(one.low + one.high) / 2 for one in bins]
    bars = below.bar(centres, [one.slides for one in bins], width=0.9 * (bins[0].high - bins[0].low), color="0.7")
    below.bar_label(bars, fontsize=8)
    below.margins(y=0.25)
