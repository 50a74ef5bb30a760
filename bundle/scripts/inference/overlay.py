"""The heat map as a picture to look at: painted over the slide, with a colour bar and a scale bar."""

from math import floor, log10
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ..common.figure_words import plain_text, shortened
from ..common.files import atomic_path
from .heat_map_view import HeatMapView

LONG_SIDE_IN = 8.0
DPI = 150
COLOR_MAP = "viridis"  # keeps apart from pink and purple tissue, and is safe for colour-blind readers
OPACITY = 0.55
COMPRESSION = 4  # of 0 to 9: a third of the time of 6, the usual one, for a file 3 % larger
SIDE_PX = round(LONG_SIDE_IN * DPI)  # of the slide, no more is seen
SCALE_BAR_SHARE = 0.25  # of the picture's width, at most


def write_overlay(path: Path, view: HeatMapView) -> None:
    """Write a PNG of the map over the slide; unobserved cells show the bare slide.

    Args:
        path: the file.
        view: the heat map; without a picture and a thumbnail it lies on white, without a resolution the scale bar is in pixels.
    """
    mpp_x, mpp_y, patch_px = view.mpp_x, view.mpp_y, view.grid.patch_px_level0
    rows, columns = view.heat.shape
    figure = Figure(figsize=_size_in(rows, columns), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    extent = (0, columns, rows, 0)  # in cells, y down
    axes.imshow(view.background, extent=extent)
    heat = axes.imshow(
        np.ma.masked_where(~view.observed, view.heat),
        extent=extent,
        interpolation="nearest",
        cmap=COLOR_MAP,
        alpha=OPACITY,
        vmin=0,
        vmax=1,
    )
    if mpp_x is not None and mpp_y is not None:
        axes.set_aspect(mpp_y / mpp_x)
        cell_um = patch_px * mpp_x
        length_um = nice_length(SCALE_BAR_SHARE * columns * cell_um)
        label = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
        _draw_scale_bar(axes, rows, length_cells=length_um / cell_um, label=label)
    else:
        length_px = nice_length(SCALE_BAR_SHARE * columns * patch_px)
        _draw_scale_bar(axes, rows, length_cells=length_px / patch_px, label=f"{length_px:g} px")
    axes.set_axis_off()
    label, options = plain_text(f"{view.kind.title}, {shortened(view.class_name)} ({view.kind.unit})")
    figure.colorbar(heat, ax=axes, shrink=0.8).set_label(label, **options)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    figure.clear()
    del canvas.renderer  # both of their pixels, which lie in a cycle, would stay for some 60 slides
    with atomic_path(path) as partial:
        drawn.save(partial, format="PNG", dpi=(DPI, DPI), compress_level=COMPRESSION)


def nice_length(most: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is at most ``most`` (over 0)."""
    power = 10.0 ** floor(log10(most))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= most * (1 + 1e-9))


def _draw_scale_bar(axes: Axes, rows: int, *, length_cells: float, label: str) -> None:
    """Draw a bar under the picture, so that it hides no tissue."""
    height = 0.012 * max(axes.get_xlim()[1], rows)
    axes.add_patch(Rectangle((0, rows + height), length_cells, height, facecolor="black", linewidth=0, clip_on=False))
    axes.annotate(
        label,
        (length_cells, rows + 1.5 * height),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )


def _size_in(rows: int, columns: int) -> tuple[float, float]:
    """Width and height of the figure in inches, with room for the bars and no side under 3."""
    longest = max(rows, columns)
    width, height = LONG_SIDE_IN * columns / longest, LONG_SIDE_IN * rows / longest
    return max(width, 3.0) + 1.5, max(height, 3.0) + 0.5
