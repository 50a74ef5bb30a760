"""Measure the tissue criterion on mosaics whose tissue, glass and pen marks are known, and on the real slides.

The truth does not come from the slides: the generator of the mosaics is run again with the same random stream, and the
outlines of its islands and pen strokes are recorded. A cell (64 um) is ink where half of it or more lies under a
stroke, else tissue where half or more of it is tissue, glass where it holds neither.

    python benchmarks/tissue_criterion.py --mosaics DIR --data DIR --share 0.1 0.3
"""

import argparse
import importlib.util
import logging
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bundle"))

from scripts.slides.geometry import plan_reading
from scripts.slides.reader import open_slide
from scripts.tissue.mask import DEAD_BAND, find_tissue
from scripts.tissue.score import rle_scores

VARIANTS: dict[str, dict[str, Any]] = {
    "rle (at 2 um/px)": {},
    "rle + pen colour": {"ink_filter": True},
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


class RecordingGenerator:
    """A random generator that remembers the ends of the last pen stroke drawn from it."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator
        self.stroke: NDArray[np.int64] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def integers(self, *args: Any) -> Any:
        """Draw integers; four of them at once, in a 2 x 2, are the ends of a stroke."""
        drawn = self.generator.integers(*args)
        if len(args) == 3 and args[2] == (2, 2):
            self.stroke = drawn
        return drawn


def load_tool(path: Path) -> ModuleType:
    """Import the generator of the mosaics from its file."""
    spec = importlib.util.spec_from_file_location("make_mosaics", path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: no Python file: give the generator of the mosaics by --tool")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def truth_of_mosaics(
    tool: ModuleType, mosaics: Path, tiles: Path, share: list[str]
) -> dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return the tissue, ink and glass cells (24, 24) of every mosaic; check that the random stream is the same."""
    truth, islands, current = {}, [], []
    make_island, make_slide = tool.island, tool.slide

    def island(generator: Any, cells: int) -> NDArray[np.bool_]:
        islands.append(make_island(generator, cells))
        return islands[-1]

    def slide(generator: Any, negative: Any, positive: Any, cells: int, px: int, *rest: Any) -> Any:
        recorder = RecordingGenerator(generator)
        made = make_slide(recorder, negative, positive, cells, px, *rest)
        side = cells * px
        outline = Image.fromarray(islands[-1].astype(np.uint8) * 255).resize((cells * 8,) * 2, Image.Resampling.BICUBIC)
        tissue = np.asarray(outline.resize((side, side), Image.Resampling.BILINEAR)) > 127
        ink = np.zeros((side, side), dtype=bool)
        if recorder.stroke is not None:
            radius = int(px * 0.4)
            for y, x in np.linspace(*recorder.stroke, 4 * cells).astype(int):
                ink[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius] = True
        shares = [m.reshape(cells, px, cells, px).mean(axis=(1, 3)) for m in (tissue & ~ink, ink, tissue)]
        current[:] = [(shares[0] >= 0.5, shares[1] >= 0.5, (shares[1] == 0) & (shares[2] == 0))]
        return made

    def write(path: Path, *_: Any) -> None:
        truth[path.stem] = current[0]

    with tempfile.TemporaryDirectory() as out:
        arguments = ["make_mosaics", "--tiles", str(tiles), "--positive", "colon_aca", "--negative", "colon_n"]
        arguments += ["--mpp", "0.5", "--out", out, "--share", *share]
        with (
            patch.multiple(tool, island=island, slide=slide, write_pyramid=write),
            patch.object(sys, "argv", arguments),
        ):
            tool.main()
        for mask in sorted(Path(out, "masks").glob("*.png")):
            if mask.read_bytes() != (mosaics / "masks" / mask.name).read_bytes():
                raise SystemExit(
                    f"{mosaics}: {mask.name} differs from what --share {share} makes: give the share it was made with"
                )
    return truth


def measure_mosaics(mosaics: Path, truth: dict[str, Any]) -> None:
    """Print the table of the mosaics, one row a variant."""
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
        "glass dropped, all | IoU with level 0: mean / worst | ms a slide |\n|---|---|---|---|---|---|---|---|---|"
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


def measure_real(data: Path) -> None:
    """Print what is kept of the real slides, and how far each mask agrees with that of full resolution."""
    print(
        "\n| slide | method | patches | kept | IoU with level 0 | glass under | tissue from | box (row0, col0, rows, cols) | remark |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, mpp in REAL_MPP.items():
        with open_slide(data / "slides" / name) as reader:
            grid = plan_reading(reader, mpp=mpp).grid
            full = find_tissue(reader, grid, **VARIANTS[FULL]).mask
            for variant in (FULL, "rle (at 2 um/px)", "rle + pen colour", "otsu"):
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
    parser.add_argument(
        "--mosaics", type=Path, required=True, help="folder that make_mosaics.py wrote (seed 0, 240 slides)"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with slides/ and tiles/lc25000-colon/")
    parser.add_argument(
        "--share", nargs=2, default=["0.02", "0.15"], help="the --share that the mosaics were made with"
    )
    parser.add_argument("--tool", type=Path, help="make_mosaics.py (default: tools/make_mosaics.py beside --data)")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    tool = load_tool(arguments.tool or arguments.data.resolve().parent / "tools" / "make_mosaics.py")
    tiles = arguments.data / "tiles" / "lc25000-colon"
    measure_mosaics(arguments.mosaics, truth_of_mosaics(tool, arguments.mosaics, tiles, arguments.share))
    measure_real(arguments.data)
    measure_fluids()


if __name__ == "__main__":
    main()
