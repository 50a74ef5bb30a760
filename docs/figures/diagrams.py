"""Draws the diagrams of the documentation: python docs/figures/diagrams.py writes docs/images/*.svg.

Plain SVG with text as text; colours follow the reader's light or dark scheme.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parents[1] / "images"
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #2f3b4c; text-anchor: middle }
.small { font-size: 12px; fill: #5b6778 }
.left { text-anchor: start }
.box { fill: #f6f7f9; stroke: #b9c1cd }
.learnt { fill: #e3eef8; stroke: #7aa7d0 }
.data { fill: #eef5ea; stroke: #93bb83 }
.line { fill: none; stroke: #7d8896; stroke-width: 1.4 }
.dashed { stroke-dasharray: 4 4 }
.head { fill: #7d8896 }
.grid { fill: none; stroke: #7d8896; stroke-width: 0.6 }
.tissue { fill: #e6b8d4 }
.glass { fill: #fbfbfb; stroke: #b9c1cd }
@media (prefers-color-scheme: dark) {
  text { fill: #dfe4ec }
  .small { fill: #a5afbd }
  .box { fill: #262e3b; stroke: #556274 }
  .learnt { fill: #1f3a54; stroke: #5b8fbf }
  .data { fill: #2b3d29; stroke: #7aa06c }
  .line { stroke: #8b97a7 }
  .head { fill: #8b97a7 }
  .tissue { fill: #8d4f75 }
  .glass { fill: #39424f; stroke: #556274 }
}"""


class Drawing:
    """An SVG that grows by shapes; coordinates in px from the upper left."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.title = (width, height), title
        self.parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *lines: str, kind: str = "box") -> None:
        """A box with its first line large and the others small."""
        self.parts.append(f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>')
        top = y + height / 2 - 8 * (len(lines) - 1) + 5
        for index, line in enumerate(lines):
            self.text(x + width / 2, top + 16 * index, line, kind="small" if index else "")

    def text(self, x: float, y: float, line: str, kind: str = "") -> None:
        """A line of text around x, or from x on if left."""
        style = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text{style} x="{x:g}" y="{y:g}">{escape(line)}</text>')

    def arrow(self, *points: tuple[float, float], kind: str = "") -> None:
        """A line through the points, with its head on the last one."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="line {kind}" points="{path}"/>'.replace(' "', '"', 1))
        (x0, y0), (x, y) = points[-2:]
        along = ((x > x0) - (x < x0), (y > y0) - (y < y0))
        corners = [
            (x, y),
            *((x - 8 * along[0] + side * 4 * along[1], y - 8 * along[1] + side * 4 * along[0]) for side in (-1, 1)),
        ]
        self.parts.append(f'<polygon class="head" points="{" ".join(f"{a:g},{b:g}" for a, b in corners)}"/>')

    def shape(self, element: str) -> None:
        """Any other element."""
        self.parts.append(element)

    def svg(self) -> str:
        """The file's content."""
        width, height = self.size
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        return "\n".join(
            [head, f"<title>{escape(self.title)}</title>", f"<style>{STYLE}\n</style>", *self.parts, "</svg>", ""]
        )


def flow() -> Drawing:
    """The whole method."""
    d = Drawing(860, 290, "From a slide to its probability")
    d.shape('<rect class="glass" x="10" y="85" width="90" height="110" rx="6"/>')
    d.shape('<path class="tissue" d="M30 115 q20 -22 42 -4 q18 20 4 46 q-14 26 -38 18 q-24 -12 -8 -60z"/>')
    d.text(55, 215, "slide", "small")
    d.arrow((100, 105), (130, 105))
    d.box(130, 75, 110, 60, "tissue mask", "glass, ink out")
    d.arrow((240, 105), (270, 105))
    d.box(270, 75, 100, 60, "patches", "64 um per side")
    d.arrow((370, 105), (400, 105))
    d.box(400, 75, 90, 60, "S-CAE", "128 numbers", kind="learnt")
    d.arrow((490, 105), (520, 105))
    d.box(520, 70, 80, 70, "V, O", "H x W", kind="data")
    d.arrow((100, 195), (270, 195))
    d.box(270, 168, 220, 54, "low magnifications", "three thumbnails, 2 x 2 px per patch")
    d.arrow((490, 195), (520, 195))
    d.box(520, 165, 80, 60, "T", "2H x 2W", kind="data")
    d.arrow((600, 105), (640, 105), (640, 130), (670, 130))
    d.arrow((600, 195), (640, 195), (640, 165), (670, 165))
    d.box(670, 108, 80, 80, "DSNet", "1.1 M", kind="learnt")
    for y, name in ((100, "probability"), (148, "stream score"), (196, "heat map")):
        d.text(768, y + 5, name, "left small")
    for x0, x1, name in ((130, 600, "Transformation: no label"), (640, 850, "Integration: one label per slide")):
        d.shape(f'<path class="line" d="M{x0} 262 v-10 H{x1} v10"/>')
        d.text((x0 + x1) / 2, 280, name, "small")
    d.text(365, 45, "once per slide, kept in a file of some hundred kB to some MB", "small")
    return d


def scae() -> Drawing:
    """The patch encoder."""
    d = Drawing(860, 330, "S-CAE, the patch encoder")
    d.shape('<rect class="glass" x="10" y="105" width="80" height="80" rx="4"/>')
    for x, y in ((30, 125), (52, 150), (72, 122), (35, 168), (70, 170)):
        d.shape(f'<circle class="tissue" cx="{x}" cy="{y}" r="8"/>')
    d.text(50, 205, "112 x 112 px", "small")
    d.arrow((90, 145), (120, 145))
    d.box(120, 115, 90, 60, "trunk", "28 x 28", kind="learnt")
    d.arrow((210, 130), (235, 130), (235, 65), (260, 65))
    d.arrow((210, 145), (260, 145))
    d.arrow((210, 160), (235, 160), (235, 235), (260, 235))
    d.box(260, 35, 130, 60, "F", "96 feature maps", kind="learnt")
    d.box(260, 115, 130, 60, "mask M", "where nuclei are", kind="learnt")
    d.box(260, 205, 130, 60, "B", "32 coarse maps", kind="learnt")
    d.arrow((390, 65), (440, 65), (440, 90), (460, 90))
    d.arrow((390, 145), (440, 145), (440, 120), (460, 120))
    d.box(460, 75, 110, 60, "F at M", "zero elsewhere")
    d.arrow((570, 105), (620, 105))
    d.box(620, 78, 100, 54, "mean", "over the nuclei")
    d.arrow((390, 235), (620, 235))
    d.box(620, 208, 100, 54, "mean", "over the patch")
    d.arrow((720, 105), (760, 105), (760, 150), (780, 150))
    d.arrow((720, 235), (760, 235), (760, 190), (780, 190))
    d.box(780, 130, 70, 80, "v", "96 + 32", kind="data")
    d.arrow((515, 135), (515, 298), kind="dashed")
    d.arrow((325, 265), (325, 315), (430, 315), kind="dashed")
    d.box(430, 298, 210, 32, "decoders: the patch again", kind="learnt")
    d.text(720, 319, "in training alone", "small")
    return d


def dsnet() -> Drawing:
    """The slide's network."""
    d = Drawing(860, 300, "DSNet, the network of the slide")
    d.box(10, 40, 90, 70, "V, O", "128, H x W", kind="data")
    d.box(10, 190, 90, 70, "T", "9, 2H x 2W", kind="data")
    d.arrow((100, 75), (130, 75))
    d.arrow((100, 225), (130, 225))
    d.box(
        130, 35, 200, 80, "4 concurrent bottlenecks", "sparse convolutions:", "what was observed alone", kind="learnt"
    )
    d.box(130, 185, 200, 80, "7 x 7, 4 multi-scale blocks", "1 x 1, 3 x 3, 5 x 5, 7 x 7", "side by side", kind="learnt")
    d.text(365, 62, "320, H/4", "small")
    d.text(365, 252, "320, H/4", "small")
    d.arrow((330, 75), (400, 75), (400, 125), (420, 125))
    d.arrow((330, 225), (400, 225), (400, 175), (420, 175))
    d.box(420, 105, 120, 90, "a V' + (1 - a) T'", "a: stream score,", "one per slide", kind="learnt")
    d.arrow((540, 150), (560, 150))
    d.box(560, 115, 100, 70, "channels", "a weight each", kind="learnt")
    d.arrow((660, 150), (680, 150))
    d.box(680, 105, 100, 90, "1 x 1", "mean and", "maximum", kind="learnt")
    d.arrow((780, 150), (800, 150))
    d.text(830, 155, "P(class)")
    d.arrow((230, 115), (230, 138))
    d.text(230, 155, "after the first: Grad-CAM, the heat map", "small")
    d.arrow((480, 195), (480, 240))
    d.text(480, 258, "which stream it relied on", "small")
    return d


def matrices() -> Drawing:
    """V, O and T of one slide."""
    d = Drawing(860, 300, "One slide as V, O and T")
    middle, radius = (136, 142), (98, 72)
    cells = [(row, column) for row in range(5) for column in range(6)]
    inside = {
        (row, column)
        for row, column in cells
        if ((30 + 40 * column - middle[0]) / radius[0]) ** 2 + ((70 + 40 * row - middle[1]) / radius[1]) ** 2 < 1
    }
    rows, columns = (sorted({cell[axis] for cell in inside}) for axis in (0, 1))
    d.shape('<rect class="glass" x="10" y="50" width="240" height="200" rx="4"/>')
    d.shape(f'<ellipse class="tissue" cx="{middle[0]}" cy="{middle[1]}" rx="{radius[0]}" ry="{radius[1]}"/>')
    for row, column in cells:
        d.shape(f'<rect class="grid" x="{10 + 40 * column}" y="{50 + 40 * row}" width="40" height="40"/>')
    d.text(130, 35, "slide in patches of 64 um")
    d.text(130, 275, f"box of the tissue: {len(rows)} rows, {len(columns)} columns", "small")
    for left, title, note in (
        (310, "V, O", "a vector of C numbers, or nothing"),
        (590, "T", "2 x 2 pixels, three thumbnails deep"),
    ):
        d.text(left + 100, 35, title)
        d.text(left + 100, 275, note, "small")
        for row, column in [(row, column) for row in rows for column in columns]:
            x, y = left + 40 * (column - columns[0]), 70 + 40 * (row - rows[0])
            seen = (row, column) in inside
            if title == "T":
                for dx, dy in ((0, 0), (20, 0), (0, 20), (20, 20)):
                    kind = "tissue" if seen else "glass"
                    d.shape(f'<rect class="{kind}" x="{x + dx + 1}" y="{y + dy + 1}" width="18" height="18"/>')
            else:
                kind = "data" if seen else "glass"
                d.shape(f'<rect class="{kind}" x="{x + 2}" y="{y + 2}" width="36" height="36" rx="3"/>')
                if seen:
                    d.text(x + 20, y + 25, "v", "small")
    d.arrow((258, 150), (300, 150))
    d.arrow((520, 150), (580, 150))
    d.text(550, 140, "same box", "small")
    return d


def drawings() -> Iterator[tuple[Path, str]]:
    """Path and content of every diagram."""
    for draw in (flow, scae, dsnet, matrices):
        yield IMAGES / f"{draw.__name__}.svg", draw().svg()


if __name__ == "__main__":
    for path, content in drawings():
        path.write_text(content, encoding="utf-8")
