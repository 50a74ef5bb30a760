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
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from mosaic_tissue import BoolMap, Pixels
from mosaics import write_pyramid
from pen_slides import PENS, SCANS, Section, marked, restained, sections

from scripts.slides.geometry import PatchGrid, plan_reading
from scripts.slides.opening import open_slide
from scripts.tissue.mask import find_tissue


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
            section = restained(rng, section)
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
