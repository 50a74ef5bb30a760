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

LONG_SIDE_IN = 8.0  # of the slide in the picture
LEAST_WIDTH_IN, LEAST_HEIGHT_IN = 1.5, 4.5  # of the room for it: so high are the longest words beside it
MARGIN_IN, SCALE_BAR_ROOM_IN = 0.1, 0.4
COLOUR_BAR_IN, COLOUR_BAR_ROOM_IN = 0.2, 1.1  # its width; with its figures and its label
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
    figure, axes, colour_bar = _place(view)
    canvas = FigureCanvasAgg(figure)
    rows, columns = view.heat.shape
    extent = (0, columns, rows, 0)  # in cells, y down
    axes.imshow(view.background, extent=extent, aspect="auto")
    heat = axes.imshow(
        np.ma.masked_where(~view.observed, view.heat),
        extent=extent,
        aspect="auto",
        interpolation="nearest",
        cmap=COLOR_MAP,
        alpha=OPACITY,
        vmin=0,
        vmax=1,
    )
    _draw_scale_bar(axes, view)
    axes.set_axis_off()
    label, options = plain_text(f"{view.kind.title}, {shortened(view.class_name)}")
    figure.colorbar(heat, cax=colour_bar).set_label(f"{label}\n({view.kind.unit})", **options)
    canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    figure.clear()
    del canvas.renderer  # both of their pixels, which lie in a cycle, would stay for some 60 slides
    with atomic_path(path) as partial:
        drawn.save(partial, format="PNG", dpi=(DPI, DPI), compress_level=COMPRESSION)


def _place(view: HeatMapView) -> tuple[Figure, Axes, Axes]:
    """Return a figure of the slide's shape, and its places for the slide and the colour bar.

    Both are set in inches: matplotlib's own layout would draw all texts twice to see how much room they take.
    """
    rows, columns = view.heat.shape
    mpp_x, mpp_y = view.mpp_xy or (1.0, 1.0)
    inch = LONG_SIDE_IN / max(columns, rows * mpp_y / mpp_x)  # of a cell along x
    width, height = columns * inch, rows * mpp_y / mpp_x * inch
    room_x, room_y = max(width, LEAST_WIDTH_IN), max(height, LEAST_HEIGHT_IN)
    full_x, full_y = room_x + 2 * MARGIN_IN + COLOUR_BAR_ROOM_IN, room_y + MARGIN_IN + SCALE_BAR_ROOM_IN
    figure = Figure(figsize=(full_x, full_y), dpi=DPI)

    def add(left: float, bottom: float, width: float, height: float) -> Axes:
        return figure.add_axes((left / full_x, bottom / full_y, width / full_x, height / full_y))

    slide = add(MARGIN_IN, SCALE_BAR_ROOM_IN + (room_y - height) / 2, width, height)
    bar = add(2 * MARGIN_IN + room_x, SCALE_BAR_ROOM_IN + 0.1 * room_y, COLOUR_BAR_IN, 0.8 * room_y)
    return figure, slide, bar


def nice_length(most: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is at most ``most`` (over 0)."""
    power = 10.0 ** floor(log10(most))
    return max(factor * power for factor in (1, 2, 5) if factor * power <= most * (1 + 1e-9))


def _draw_scale_bar(axes: Axes, view: HeatMapView) -> None:
    """Draw a bar of a round length under the picture, so that it hides no tissue."""
    rows, columns = view.heat.shape
    cell = view.grid.patch_px_level0 * (view.mpp_xy[0] if view.mpp_xy else 1.0)
    length = nice_length(SCALE_BAR_SHARE * columns * cell)
    unit = "µm" if view.mpp_xy else "px"
    label = f"{length / 1000:g} mm" if view.mpp_xy and length >= 1000 else f"{length:g} {unit}"
    height = 0.012 * max(columns, rows)  # in cells
    axes.add_patch(Rectangle((0, rows + height), length / cell, height, facecolor="black", linewidth=0, clip_on=False))
    axes.annotate(
        label,
        (length / cell, rows + 1.5 * height),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
    )
