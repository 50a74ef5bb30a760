"""ROC curves of several methods in one picture, each the mean over its trainings with a band (Fig. 6 and 7)."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..common.files import atomic_path, write_csv
from ..evaluation.curves import MeanRoc

SIZE_IN = (7.0, 5.5)
DPI = 120
COLUMNS = ("method", "false_positive_rate", "recall", "recall_low", "recall_high")


def write_roc(csv_path: Path, png_path: Path, curves: Mapping[str, MeanRoc]) -> None:
    """Write the curves by method as numbers and as a picture."""
    rows = [
        dict(zip(COLUMNS, (name, *(round(float(value), 5) for value in point)), strict=False))
        for name, curve in curves.items()
        for point in zip(curve.at, curve.recall, *(curve.band or ()), strict=True)
    ]
    write_csv(csv_path, COLUMNS, rows)
    figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, linestyle=":")
    for index, (name, curve) in enumerate(curves.items()):
        style = ("-", "--", "-.")[index // 10 % 3]
        (line,) = axes.plot(curve.at, curve.recall, linestyle=style, linewidth=1.5, label=name)
        if curve.band is not None:
            axes.fill_between(curve.at, *curve.band, color=line.get_color(), alpha=0.08, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_aspect("equal")
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("recall")
    figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    with atomic_path(png_path) as partial:
        canvas.print_png(str(partial))
