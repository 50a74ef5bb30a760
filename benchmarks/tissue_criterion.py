"""Measure the tissue criterion on mosaics whose tissue, glass and pen marks are known, and on the real slides.

The truth does not come from the slides: the mosaics are drawn again, with the outlines of their islands and pen strokes. A cell
(64 um) is ink where half of it or more lies under a stroke, else tissue where half or more of it is tissue, glass where it
holds neither.

    python benchmarks/tissue_criterion.py --mosaics DIR --data DATA
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from mosaics import OPTIONS, Options, draw_mosaics

from scripts.slides.geometry import plan_reading
from scripts.slides.opening import open_slide
from scripts.tissue.mask import DEAD_BAND, find_tissue
from scripts.tissue.score import rle_scores

Truth = dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]
VARIANTS: dict[str, dict[str, Any]] = {
    "rle (at 2 um/px)": {},
    "rle without pen colours": {"drop_pen": False},
    "rle at 0.5 um/px (level 0)": {"um_px": 0.5},
    "rle at 1 um/px": {"um_px": 1.0},
    "rle at 4 um/px": {"um_px": 4.0},
    "otsu": {"method": "otsu"},
}
FULL = "rle at 0.5 um/px (level 0)"
REAL_MPP = {
    "cmu-1-small-region.svs": None,
    "tcga-cr-7395-01a-01-ts1.svs": 0.5,
    "14082.tif": None,
    "test3-DAPI-387.ndpi": None,
}


def truth_of_mosaics(mosaics: Path, tiles: Path) -> Truth:
    """Return the tissue, ink and glass cells of every mosaic, (cells, cells) each; check that these are the mosaics drawn."""
    known = json.loads((mosaics / OPTIONS).read_text(encoding="utf-8"))
    options = Options(**{name: tuple(value) if isinstance(value, list) else value for name, value in known.items()})
    truth, cells, px = {}, options.cells, options.cell_px
    for mosaic in draw_mosaics(tiles, options):
        with Image.open(mosaics / "masks" / f"{mosaic.name}.png") as mask:
            if not np.array_equal(np.asarray(mask) > 0, mosaic.lesion):
                raise SystemExit(
                    f"{mosaics}: {mosaic.name} is not what its options and {tiles} make: give the tiles it was made of"
                )
        parts = (mosaic.tissue & ~mosaic.ink, mosaic.ink, mosaic.tissue)
        shares = [part.reshape(cells, px, cells, px).mean(axis=(1, 3)) for part in parts]
        truth[mosaic.name] = (shares[0] >= 0.5, shares[1] >= 0.5, (shares[1] == 0) & (shares[2] == 0))
    return truth


def measure_mosaics(mosaics: Path, truth: Truth) -> None:
    """Print the table of the mosaics, one row per variant."""
    masks: dict[str, dict[str, NDArray[np.bool_]]] = {}
    seconds = {}
    for variant, options in VARIANTS.items():
        start = time.perf_counter()
        masks[variant] = {}
        for name in truth:
            with open_slide(mosaics / "slides" / f"{name}.tif") as reader:
                found = find_tissue(reader, plan_reading(reader).grid, **options)
            masks[variant][name] = found.mask
        seconds[variant] = (time.perf_counter() - start) / len(truth)
    marked = [name for name, cells in truth.items() if cells[1].any()]
    print(f"{len(truth)} mosaics, {len(marked)} with a pen stroke\n")
    print(
        "| method | tissue kept, marked | ink dropped | glass dropped, marked | tissue kept, all | worst slide | "
        "glass dropped, all | IoU with level 0: mean / worst | ms per slide |\n|---|---|---|---|---|---|---|---|---|"
    )
    for variant, found in masks.items():
        kept = {name: float(found[name][cells[0]].mean()) for name, cells in truth.items()}
        worst = min(kept, key=kept.__getitem__)
        overlaps = [
            (mask & masks[FULL][name]).sum() / max(1, (mask | masks[FULL][name]).sum()) for name, mask in found.items()
        ]
        figures = [
            share(found, truth, 0, marked, kept=True),
            share(found, truth, 1, marked, kept=False),
            share(found, truth, 2, marked, kept=False),
            share(found, truth, 0, list(truth), kept=True),
            f"{kept[worst]:.3f} ({worst})",
            share(found, truth, 2, list(truth), kept=False),
            f"{np.mean(overlaps):.4f} / {min(overlaps):.3f}",
            f"{1000 * seconds[variant]:.0f}",
        ]
        print(f"| {variant} | {' | '.join(figures)} |")


def share(masks: dict[str, Any], truth: dict[str, Any], kind: int, names: list[str], *, kept: bool) -> str:
    """Return the share of one kind of cell that the masks keep, or drop, over all ``names`` together."""
    cells = np.concatenate([masks[name][truth[name][kind]] for name in names])
    return f"{(cells == kept).mean():.4f} of {cells.size}"


def measure_real(data: Path, names: Sequence[str]) -> None:
    """Print what is kept of real slides, and how far each mask agrees with that of full resolution."""
    print(
        "\n| slide | method | patches | kept | IoU with level 0 | glass under | tissue from | box (row0, col0, rows, cols) | remark |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        with open_slide(data / "slides" / name) as reader:
            grid = plan_reading(reader, mpp=REAL_MPP[name]).grid
            full = find_tissue(reader, grid, **VARIANTS[FULL]).mask
            for variant in (FULL, "rle (at 2 um/px)", "rle without pen colours", "otsu"):
                found = find_tissue(reader, grid, **VARIANTS[variant])
                either = (found.mask | full).sum()
                overlap = f"{(found.mask & full).sum() / either:.3f}" if either else "both empty"
                print(
                    f"| {name} | {variant} | {found.mask.size} | {found.mask.sum()} | {overlap} | {found.glass_threshold:.3f} | "
                    f"{found.threshold:.3f} | {found.box} | {found.reason} |"
                )


def measure_fluids() -> None:
    """Print the scores of smears and blood drawn at 2 um/px: no real slide here shows them large enough."""
    generator = np.random.default_rng(0)
    noise = generator.normal(0, 3, (64, 32, 32, 1))
    ramp = np.linspace(-1, 1, 32)[None, None, :, None] * np.array([5.0, 20.0, 12.0])
    cells = gaussian_filter(generator.normal(0, 1, (64, 32, 32, 1)), (0, 0.8, 0.8, 0))
    cells *= 12 / cells.std()
    eosin, blood = np.array([228.0, 165.0, 190.0]), np.array([190.0, 60.0, 70.0])
    drawn = {
        "even eosin smear": eosin + 0 * noise,
        "eosin smear with a gradient, noise of 3 grey levels": eosin + ramp + noise,
        "even clot of blood, noise of 3 grey levels": blood + noise,
        "packed red cells (4 um texture, 12 grey levels)": blood + cells + noise,
    }
    print("\n| drawn patch | run-length score, median of 64 |\n|---|---|")
    for name, pixels in drawn.items():
        patches = np.clip(pixels, 0, 255).astype(np.uint8)
        print(f"| {name} | {np.median(rle_scores(patches, dead_band=DEAD_BAND)):.3f} |")


def main() -> None:
    """Read the arguments and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaics", type=Path, required=True, help="folder that mosaics.py wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder with slides/ and tiles/lc25000-colon/")
    parser.add_argument("--slides", nargs="+", default=list(REAL_MPP), choices=list(REAL_MPP), help="real ones (all)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    tiles = arguments.data / "tiles" / "lc25000-colon"
    measure_mosaics(arguments.mosaics, truth_of_mosaics(arguments.mosaics, tiles))
    measure_real(arguments.data, arguments.slides)
    measure_fluids()


if __name__ == "__main__":
    main()
