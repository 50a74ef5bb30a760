"""Slides with pen strokes for `pen_rule.py`: real tissue, its stains changed at random, under the ink of one pen."""

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from mosaic_tissue import BoolMap, Pixels, draw_glass, draw_island, outline_of, pave
from mosaics import CELL_UM

from scripts.slides.geometry import plan_reading
from scripts.slides.opening import open_slide

PENS = {
    "chosen": {"blue": (20, 60, 150), "green": (20, 110, 60), "black": (25, 25, 30), "red": (190, 25, 45)},
    "held_out": {
        "navy": (35, 45, 120),
        "light blue": (60, 120, 190),
        "teal": (10, 120, 130),
        "dark green": (10, 70, 50),
        "grass green": (60, 150, 50),
        "blue-black": (30, 32, 45),
        "brown-black": (45, 35, 30),
        "orange": (230, 110, 30),
        "dark red": (130, 20, 35),
        "purple": (85, 40, 140),
    },
}
"""Colour of each pen over white glass where it is densest."""

SCANS = {0.25: 20, 0.5: 24, 1.0: 32, 2.0: 40, 4.0: 48, 8.0: 64}
"""Resolutions of the paved slides (um/px), and their side in cells."""

SEEDS = {"chosen": 1, "held_out": 2}
REAL = {"cmu-1-small-region.svs": None, "tcga-cr-7395-01a-01-ts1.svs": 0.5, "14082.tif": None}


@dataclass(frozen=True)
class Section:
    """A slide without ink: pixels (H, W, 3), tissue (H, W) or None where the criterion itself has to say, um/px."""

    name: str
    pixels: Pixels
    tissue: BoolMap | None
    mpp: float

    @property
    def patch_um(self) -> int:
        """Side of a cell."""
        return patch_um_at(self.mpp)


def patch_um_at(mpp: float) -> int:
    """Give the side of a cell: 64 um, and twice that where a scan is too coarse for it."""
    return CELL_UM if mpp <= 4 else 2 * CELL_UM


def tiles_of(data: Path, part: str) -> list[Path]:
    """List the real tiles of a part: LC25000 colon was chosen on; brca-m2c breast is held out."""
    if part == "held_out":
        return sorted((data / "nuclei" / "brca-m2c").glob("*/images/*.png"))
    folder = data / "tiles" / "lc25000-colon"
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return [folder / row["file"] for row in csv.DictReader(file)][::40]


def paved(rng: np.random.Generator, tile: Path, mpp: float) -> Section:
    """Pave islands of tissue with one real tile of 0.5 um/px, turned and mirrored."""
    px, cells = round(patch_um_at(mpp) / mpp), SCANS[mpp]
    image = Image.open(tile).convert("RGB")
    size = tuple(max(4, round(side * 0.5 / mpp)) for side in image.size)
    scaled = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    island = draw_island(rng, cells)
    tissue = outline_of(island, px)
    pixels = draw_glass(rng, cells * px).copy()
    pixels[tissue] = pave(rng, [scaled], np.ones_like(island), px)[tissue]
    return Section(f"{tile.stem} at {mpp:g} um/px", pixels, tissue, mpp)


def real(path: Path, mpp: float | None) -> Section:
    """Read a real slide whole."""
    with open_slide(path) as reader:
        size = reader.level_sizes_xy_px[0]
        pixels = reader.read_patches(np.zeros((1, 2), dtype=np.int64), size_xy_px=size, level=0)[0]
        mpp = CELL_UM / plan_reading(reader, mpp=mpp, read_level="highest").grid.patch_px_level0
    return Section(path.name, pixels, None, mpp)


def restained(rng: np.random.Generator, section: Section) -> Section:
    """Scale the optical density of the section by up to a quarter, its red part (the blue of haematoxylin) by up to a tenth more."""
    gain = rng.uniform(0.75, 1.25) * np.array([rng.uniform(0.9, 1.1), 1.0, rng.uniform(0.9, 1.1)])
    density = -np.log10((np.arange(256) + 1) / 256)[:, None] * gain
    table = np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8)
    return replace(section, pixels=np.stack([table[section.pixels[..., channel], channel] for channel in range(3)], -1))


def marked(rng: np.random.Generator, section: Section, colour: tuple[int, int, int]) -> tuple[Pixels, BoolMap]:
    """Draw strokes of one pen over the section; return the pixels and where ink lies."""
    pixels = section.pixels.astype(np.float32)
    height, width = pixels.shape[:2]
    ink = np.zeros((height, width), dtype=bool)
    density = -np.log10((np.array(colour) + 1) / 256)
    step = section.patch_um / section.mpp
    for _ in range(3):
        breadth_px = (
            np.exp(rng.uniform(np.log(200), np.log(np.clip(0.12 * min(height, width) * section.mpp, 250, 3000))))
            / section.mpp
        )
        coverage, inside = draw_stroke(rng, (height, width), breadth_px, step)
        new = inside & ~ink
        thick = (coverage * new)[..., None]
        if rng.random() < 0.6:
            pixels *= 10 ** (-density * rng.uniform(0.5, 1.1) * thick)
        else:
            share = np.clip(rng.uniform(0.75, 1.0) * thick, 0, 1)
            pixels += share * (np.array(colour) - pixels)
        ink |= inside
    grain = gaussian_filter(rng.normal(0, 3, (512, 512)), 0.6)
    rows, columns = np.arange(height) % 512, np.arange(width) % 512
    pixels += grain[rows[:, None], columns][..., None]
    return np.clip(pixels, 0, 255).round().astype(np.uint8), ink


def draw_stroke(
    rng: np.random.Generator, shape_yx: tuple[int, int], breadth_px: float, cell_px: float
) -> tuple[NDArray[np.float32], BoolMap]:
    """Give the thickness of the ink (about 1) and the area of one bent stroke, (H, W) each."""
    height, width = shape_yx
    step = max(1, int(cell_px // 16))
    yy, xx = np.mgrid[0:height:step, 0:width:step].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = (xx - rng.uniform(0.25, 0.75) * width) * np.cos(angle) + (yy - rng.uniform(0.25, 0.75) * height) * np.sin(
        angle
    )
    across = (yy - height / 2) * np.cos(angle) - (xx - width / 2) * np.sin(angle)
    bend = rng.uniform(-0.15, 0.15) * min(height, width) * np.sin(along / (0.2 * width))
    off = np.abs(across - bend - rng.uniform(-0.3, 0.3) * min(height, width))
    streaks = gaussian_filter(rng.normal(0, 1, (64, 64)), (0.5, 6), mode="wrap")
    streaks = map_coordinates(
        streaks / streaks.std(), [(across / breadth_px * 20) % 63, (along / breadth_px * 4) % 63], order=1
    )
    frayed = off + 0.03 * breadth_px * streaks
    thickness = np.clip(1 + 0.08 * streaks, 0.6, 1.2) * np.where(frayed > 0.44 * breadth_px, 1.15, 1)  # darker rim
    inside = (frayed < breadth_px / 2) & (np.abs(along) < 0.4 * max(height, width))
    zoom = [np.minimum(np.arange(side) // step, n - 1) for side, n in zip(shape_yx, inside.shape, strict=True)]
    return thickness[zoom[0][:, None], zoom[1]].astype(np.float32), inside[zoom[0][:, None], zoom[1]]


def sections(
    data: Path, part: str, count: int, scans: Sequence[float], pens_over_real: int | None = None
) -> Iterator[tuple[str, Section, str]]:
    """Yield the kind, the section and the name of a pen of every slide.

    Args:
        data: Folder with slides, tiles and nuclei.
        part: Of the pens and of the tiles.
        count: Paved slides.
        scans: Their resolutions in turn, um/px.
        pens_over_real: Pens over each real slide; None: all.
    """
    rng = np.random.default_rng(SEEDS[part])
    tiles, pens = tiles_of(data, part), list(PENS[part])
    for index in range(count):
        mpp = scans[index % len(scans)]
        section = paved(rng, tiles[index * len(tiles) // count], mpp)
        yield f"{mpp:g} um/px", section, pens[(index // len(scans) + index) % len(pens)]
    if part == "held_out":
        for name, mpp in REAL.items():
            section = real(data / "slides" / name, mpp)
            for pen in pens[:pens_over_real]:
                yield name, section, pen
