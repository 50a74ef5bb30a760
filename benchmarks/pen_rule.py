"""Measure what the pen-colour rule drops: strokes of many pens drawn over real tissue and glass, with and without the rule.

Every slide is a section (islands of glass and tissue paved with real tiles, or a real slide as it is) with its stains changed at
random and strokes of one pen. Ink is a dye (its optical density adds to that of what lies under it, Beer-Lambert) or a covering
paint; it has streaks, dry edges and sensor noise, and the slide is stored as JPEG. The truth is what was drawn: a cell (64 um) is
ink where half of it or more lies under a stroke; else it is tissue where half or more of it is tissue (paved sections), or where
the criterion keeps it on the slide without strokes (real slides). "Lost" is the tissue that the mask without the rule keeps and
the one with it does not, of one slide.

The constants of the rule were chosen on ``--part chosen``; ``--part held_out`` has other tissue, other pens, other seeds.

    python benchmarks/pen_rule.py --data DATA --part held_out
"""

import argparse
import csv
import logging
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from mosaic_tissue import BoolMap, Pixels, draw_glass, draw_island, outline_of, pave
from mosaics import CELL_UM, write_pyramid

from scripts.slides.geometry import PatchGrid, plan_reading
from scripts.slides.opening import open_slide
from scripts.tissue.mask import find_tissue

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
        """Side of a cell: 64 um, and twice that where a scan is too coarse for it."""
        return CELL_UM if self.mpp <= 4 else 2 * CELL_UM


def tiles_of(data: Path, part: str) -> list[Path]:
    """List the real tiles of a part: LC25000 colon was chosen on; brca-m2c breast is held out."""
    if part == "held_out":
        return sorted((data / "nuclei" / "brca-m2c").glob("*/images/*.png"))
    folder = data / "tiles" / "lc25000-colon"
    with open(folder / "labels.csv", newline="", encoding="utf-8") as file:
        return [folder / row["file"] for row in csv.DictReader(file)][::40]


def paved(rng: np.random.Generator, tile: Path, mpp: float) -> Section:
    """Pave islands of tissue with one real tile of 0.5 um/px, turned and mirrored."""
    px, cells = round((CELL_UM if mpp <= 4 else 2 * CELL_UM) / mpp), SCANS[mpp]
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


def restained(rng: np.random.Generator, pixels: Pixels) -> Pixels:
    """Scale the optical density of the slide by up to a quarter, its red part (the blue of haematoxylin) by up to a tenth more."""
    gain = rng.uniform(0.75, 1.25) * np.array([rng.uniform(0.9, 1.1), 1.0, rng.uniform(0.9, 1.1)])
    density = -np.log10((np.arange(256) + 1) / 256)[:, None] * gain
    table = np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8)
    return np.stack([table[pixels[..., channel], channel] for channel in range(3)], -1)


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


def cells_of(area: BoolMap, grid: PatchGrid) -> NDArray[np.float64]:
    """Give the share of every patch of the grid that an area (H, W) takes, (rows, columns)."""
    px, (rows, columns) = grid.patch_px_level0, grid.shape_yx
    full = np.zeros((rows * px, columns * px), dtype=bool)
    full[: area.shape[0], : area.shape[1]] = area[: rows * px, : columns * px]
    return full.reshape(rows, px, columns, px).mean(axis=(1, 3))


def masks_of(path: Path, pixels: Pixels, section: Section) -> tuple[PatchGrid, BoolMap, BoolMap]:
    """Store a slide; return its grid and its masks without and with the rule."""
    write_pyramid(path, pixels, section.mpp)
    with open_slide(path) as reader:
        grid = plan_reading(reader, patch_um=section.patch_um).grid
        return grid, *(
            find_tissue(reader, grid, drop_pen=drop, patch_um=section.patch_um).mask for drop in (False, True)
        )


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


class Cells(NamedTuple):
    """Cells of one kind, and how many of them a mask drops (ink) or keeps (tissue).

    Attributes:
        number: of all cells of the kind.
        without: those that the mask without the rule drops or keeps.
        with_rule: those that the mask with the rule drops or keeps.
    """

    number: np.int64
    without: np.int64
    with_rule: np.int64


@dataclass(frozen=True)
class Measured:
    """What the masks make of one slide with strokes.

    Attributes:
        ink: cells that are ink, and those that are dropped.
        ink_over_tissue: those of them that the mask without the rule keeps where no stroke was drawn, and those that are dropped.
        tissue: cells that are tissue, and those that are kept.
        lost: share of the tissue that the rule alone drops.
        lost_clean: the same on the slide without strokes.
    """

    ink: Cells
    ink_over_tissue: Cells
    tissue: Cells
    lost: float
    lost_clean: float


def measured(
    rng: np.random.Generator, section: Section, colour: tuple[int, int, int], folder: Path, picture: Path | None
) -> Measured:
    """Store a section in ``folder`` as it is and with strokes, and compare the masks of both; save a picture where one is asked for."""
    pixels, ink = marked(rng, section, colour)
    grid, clean, clean_kept = masks_of(folder / "clean.tif", section.pixels, section)
    _, without, kept = masks_of(folder / "marked.tif", pixels, section)
    is_ink = cells_of(ink, grid) >= 0.5
    over = is_ink & clean
    tissue = (clean if section.tissue is None else cells_of(section.tissue & ~ink, grid) >= 0.5) & ~is_ink
    if picture:
        draw(picture, pixels, [without, kept], grid, is_ink)
    return Measured(
        ink=Cells(is_ink.sum(), (is_ink & ~without).sum(), (is_ink & ~kept).sum()),
        ink_over_tissue=Cells(over.sum(), (over & ~without).sum(), (over & ~kept).sum()),
        tissue=Cells(tissue.sum(), (tissue & without).sum(), (tissue & kept).sum()),
        lost=float((tissue & without & ~kept).sum() / max(1, tissue.sum())),
        lost_clean=float((clean & ~clean_kept).sum() / max(1, clean.sum())),
    )


def line_of(key: str, slides: Sequence[Measured]) -> str:
    """Return the line of the table that sums some slides up."""
    ink = Cells(*np.sum([slide.ink for slide in slides], axis=0))
    over = Cells(*np.sum([slide.ink_over_tissue for slide in slides], axis=0))
    tissue = Cells(*np.sum([slide.tissue for slide in slides], axis=0))
    cells = [
        f"{ink.number}: {ink.without / ink.number:.3f} / {ink.with_rule / ink.number:.3f}",
        f"{over.number}: {over.without / max(over.number, 1):.3f} / {over.with_rule / max(over.number, 1):.3f}",
        f"{tissue.without / tissue.number:.4f} / {tissue.with_rule / tissue.number:.4f}",
        f"{max(slide.lost for slide in slides):.4f}",
        f"{max(slide.lost_clean for slide in slides):.4f}",
    ]
    return f"| {key} | {len(slides)} | {' | '.join(cells)} |"


def main() -> None:
    """Draw, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--part", choices=sorted(PENS), default="held_out")
    parser.add_argument("--slides", type=int, default=60, help="paved slides (60)")
    parser.add_argument(
        "--scans",
        type=float,
        nargs="+",
        choices=list(SCANS),
        default=list(SCANS),
        help="their resolutions, um/px (all)",
    )
    parser.add_argument("--pens", type=int, default=None, help="pens over each real slide (all ten)")
    parser.add_argument(
        "--pictures", type=Path, default=None, help="folder for a picture of every slide and what is kept of it"
    )
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    found: dict[str, list[Measured]] = {}
    worst: list[tuple[float, str]] = []
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for index, (kind, section, pen) in enumerate(
            sections(arguments.data, arguments.part, arguments.slides, arguments.scans, arguments.pens)
        ):
            rng = np.random.default_rng(index)
            section = Section(section.name, restained(rng, section.pixels), section.tissue, section.mpp)
            picture = arguments.pictures and arguments.pictures / f"{index:03d}_{pen}.jpg"
            slide = measured(rng, section, PENS[arguments.part][pen], Path(folder), picture)
            worst += [(slide.lost, f"{section.name}, {pen}"), (slide.lost_clean, f"{section.name}, no stroke")]
            for key in (kind, pen, "all"):
                found.setdefault(key, []).append(slide)
    print(f"{len(worst) // 2} slides in {time.perf_counter() - start:.0f} s\n")
    print(
        "| slides with | slides | ink cells: dropped without / with the rule | over tissue alone | tissue kept without / with | "
        "most lost to the rule, one slide | without strokes |\n|---|---|---|---|---|---|---|"
    )
    for key, slides in found.items():
        print(line_of(key, slides))
    print("\nmost tissue lost:", "; ".join(f"{share:.4f} ({name})" for share, name in sorted(worst, reverse=True)[:5]))


def draw(path: Path, pixels: Pixels, masks: list[BoolMap], grid: PatchGrid, is_ink: BoolMap) -> None:
    """Save the slide beside what each mask keeps of it, and the ink cells that stay, in yellow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = 6
    size = (grid.shape_yx[1] * side, grid.shape_yx[0] * side)
    extent = tuple(n * grid.patch_px_level0 for n in grid.shape_yx)
    full = np.full((*extent, 3), 255, dtype=np.uint8)
    full[: pixels.shape[0], : pixels.shape[1]] = pixels[: extent[0], : extent[1]]
    small = np.asarray(Image.fromarray(full).resize(size, Image.Resampling.BOX))
    panels = [small]
    for mask in masks:
        panel = small.copy()
        panel[np.kron(~mask, np.ones((side, side), dtype=bool))] = 0
        panel[np.kron(mask & is_ink, np.ones((side, side), dtype=bool))] = (255, 255, 0)
        panels.append(panel)
    Image.fromarray(np.concatenate(panels, axis=1)).save(path)


if __name__ == "__main__":
    main()
