"""A Matplotlib figure as SVG inside a page: it takes font and colours from the page, so it reads on light and dark."""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

SVG = "http://www.w3.org/2000/svg"
XLINK_HREF = "{http://www.w3.org/1999/xlink}href"

CLASSES = 6
"""Classes that have a colour of their own; further ones take the first again."""

INK, MUTED, RULE = "#010101", "#010102", "#010103"
SERIES = tuple(f"#01020{index}" for index in range(CLASSES))
_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    **{colour: f"var(--series-{index})" for index, colour in enumerate(SERIES)},
}
"""Stand-ins that Matplotlib draws with, and the custom property of the page that takes their place."""

_STYLE: dict[Any, Any] = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.size": 9.5,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a class name may hold a dollar sign
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@contextmanager
def page_style() -> Iterator[None]:
    """Draw with the colours and sizes of the page inside the block."""
    with matplotlib.rc_context(_STYLE):
        yield


def inline_svg(figure: Figure, *, name: str, title: str) -> Markup:
    """Return the figure as an ``<svg>`` element with text as text.

    Args:
        figure: drawn within :func:`page_style`.
        name: unique in the page; every id of the element begins with it.
        title: what the picture shows, for those who do not see it.
    """
    stream = io.BytesIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # the reader's fonts draw the text
        FigureCanvasSVG(figure).print_svg(stream, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    ET.register_namespace("", SVG)
    root = ET.fromstring(stream.getvalue())
    for parent in list(root.iter()):
        for child in [child for child in parent if child.tag.endswith(("}metadata", "}style"))]:  # the style is for "*"
            parent.remove(child)
    _take_colours_of_page(root)
    _name_apart(root, name)
    for length in ("width", "height"):
        root.set(length, root.get(length, "").removesuffix("pt"))
    root.set("role", "img")
    root.set("aria-label", title)
    return Markup(ET.tostring(root, encoding="unicode"))  # ElementTree has escaped every text


def _take_colours_of_page(root: ET.Element) -> None:
    for element in root.iter():
        for attribute in ("style", "fill", "stroke"):
            value = element.get(attribute)
            if value:
                value = re.sub("|".join(_VARIABLES), lambda found: _VARIABLES[found[0]], value)
                element.set(attribute, re.sub(r"font-family:[^;]*", "font-family: inherit", value))


def _name_apart(root: ET.Element, name: str) -> None:
    """Drop the ids that nothing refers to, and make the others unique in the page."""
    referred: set[str] = set()

    def renamed(found: re.Match[str]) -> str:
        referred.add(found[2])
        return f"{found[1]}{name}-{found[2]}"

    for element in root.iter():
        if XLINK_HREF in element.attrib:
            element.set("href", element.attrib.pop(XLINK_HREF))
        for attribute in ("href", "clip-path"):
            if attribute in element.attrib:
                element.set(attribute, re.sub(r"^((?:url\()?#)([\w.-]+)", renamed, element.attrib[attribute]))
    for element in root.iter():
        identifier = element.attrib.pop("id", None)
        if identifier in referred:
            element.set("id", f"{name}-{identifier}")
