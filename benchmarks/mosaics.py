"""Slides with a known label out of real tiles, the study of docs/results.md.

    python benchmarks/mosaics.py --tiles DATA/tiles/lc25000-colon --positive colon_aca --negative colon_n --mpp 0.5 --out mosaics

A slide is glass with one or two islands of tissue, paved with tiles of the negative class (flipped and turned by half at random). In a
positive slide one connected lesion, a part of the tissue (``--share``), is paved with tiles of the positive class. Every slide has two
regions paved anew, so that a seam says nothing: the lesion and a sham, or two shams. Tiles are brought to one mean and spread of colour,
then every slide gets a random shift of its stains, so that colour alone does not give the label away; three in ten carry a pen stroke,
whatever their label. Tiles of one group (patient or origin) stand in one split only: half of the groups of a class in train, a fifth in
val.

``--tiles`` holds labels.csv with the columns file, class and group. Written to ``--out``: slides/NAME.tif (tiled JPEG pyramid),
masks/NAME.png (the lesion, one pixel per cell of 64 um), mosaics.json (the options) and, last, slides.csv (slide, label, patient, split).
The same options give the same files.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import tifffile
from mosaic_tissue import (
    BoolMap,
    Pixels,
    draw_glass,
    draw_island,
    draw_region,
    draw_stroke,
    outline_of,
    pave,
    shift_stains,
)
from PIL import Image, UnidentifiedImageError
from skimage import color

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scripts.common.errors import RequestError
from scripts.common.files import atomic_path, write_csv, write_json
from scripts.slides.table import SPLITS

CELL_UM = 64
LAB_MEAN, LAB_SPREAD = np.array([65.0, 22.0, -12.0]), np.array([14.0, 8.0, 6.0])
OPTIONS = "mosaics.json"


@dataclass(frozen=True)
class Options:
    """What decides the content of a set of mosaics, the tiles apart.

    Attributes:
        positive: classes of the lesion.
        negative: classes of everything else.
        slides: how many of each split; every second one is positive.
        cells: side of a slide in cells of 64 um.
        mpp: micrometres per pixel.
        scale: the tiles are resized by this first, so that they match ``mpp``.
        share: least and greatest part of the tissue that a lesion takes.
        seed: of everything that is drawn.
    """

    positive: tuple[str, ...]
    negative: tuple[str, ...]
    slides: Mapping[str, int] = field(default_factory=lambda: {"train": 140, "val": 40, "test": 60})
    cells: int = 24
    mpp: float = 0.25
    scale: float = 1.0
    share: tuple[float, float] = (0.02, 0.15)
    seed: int = 0

    @property
    def cell_px(self) -> int:
        """Side of a cell in pixels."""
        return round(CELL_UM / self.mpp)


@dataclass(frozen=True)
class Mosaic:
    """A slide and what is known of it.

    Attributes:
        name: of its files.
        split: train, val or test.
        label: 1 with a lesion, else 0.
        pixels: (side, side, 3).
        lesion: cells of the lesion, (cells, cells).
        tissue: pixels inside the outline of the tissue, (side, side).
        ink: pixels under the pen stroke, (side, side).
    """

    name: str
    split: str
    label: int
    pixels: Pixels
    lesion: BoolMap
    tissue: BoolMap
    ink: BoolMap


def draw_mosaics(tiles: Path, options: Options) -> Iterator[Mosaic]:
    """Draw the slides one by one, split by split.

    Raises:
        RequestError: labels.csv is missing or lacks a column, a class has no tile in some split, a tile cannot be read.
    """
    rng = np.random.default_rng(options.seed)
    rows = _read_labels(tiles / "labels.csv")
    split_of = _deal_groups(rng, rows, options)
    for split in SPLITS:
        pools = []
        for names in (options.negative, options.positive):
            files = [row["file"] for row in rows if row["class"] in names and split_of[row["group"]] == split]
            if not files and options.slides[split]:
                raise RequestError(
                    f"{tiles / 'labels.csv'}: no tiles of {', '.join(names)} for {split}; expected three groups per class at least"
                )
            pools.append([_normalised(tiles / file, options.scale) for file in files])
        height, width = (min((tile.shape[axis] for pool in pools for tile in pool), default=0) for axis in (0, 1))
        # All tiles get one size, so that paving leaves no gaps.
        negative, positive = ([tile[:height, :width] for tile in pool] for pool in pools)
        for index in range(options.slides[split]):
            is_positive = bool(index % 2)
            drawn = _draw(rng, negative, positive if is_positive else negative, is_positive, options)
            yield Mosaic(f"{split}_{index:03d}", split, int(is_positive), *drawn)


def _read_labels(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        raise RequestError(
            f"{path}: no such file; expected a table of the tiles with the columns file, class and group"
        )
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"file", "class", "group"} - set(reader.fieldnames or ())
        if missing:
            raise RequestError(f"{path}: no column {', '.join(sorted(missing))}; expected file, class and group")
        return list(reader)


def _deal_groups(rng: np.random.Generator, rows: Sequence[Mapping[str, str]], options: Options) -> dict[str, str]:
    """Give every group a split, class by class."""
    known = sorted({row["class"] for row in rows})
    split_of = {}
    for names in (options.positive, options.negative):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise RequestError(f"no tiles of class {', '.join(unknown)}; expected one of {', '.join(known)}")
        groups = sorted({row["group"] for row in rows if row["class"] in names})
        rng.shuffle(groups)
        for index, group in enumerate(groups):
            share = (index + 0.5) / len(groups)
            split_of[group] = "train" if share < 0.5 else "val" if share < 0.7 else "test"
    return split_of


def _normalised(path: Path, scale: float) -> Pixels:
    """A tile with the common mean and spread of colour (Reinhard et al. 2001, in Lab)."""
    try:
        image = Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError) as error:
        raise RequestError(f"{path}: cannot be read ({error}); expected a picture that Pillow reads") from error
    if scale != 1:
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    lab = color.rgb2lab(np.asarray(image))
    mean, spread = lab.reshape(-1, 3).mean(0), lab.reshape(-1, 3).std(0)
    lab = (lab - mean) / np.maximum(spread, 1e-3) * LAB_SPREAD + LAB_MEAN
    return (color.lab2rgb(np.clip(lab, [0, -80, -80], [100, 80, 80])) * 255).round().astype(np.uint8)


def _draw(
    rng: np.random.Generator, negative: list[Pixels], inside: list[Pixels], is_positive: bool, options: Options
) -> tuple[Pixels, BoolMap, BoolMap, BoolMap]:
    """Draw a slide: its pixels, and the masks of lesion, tissue and ink."""
    cells, px = options.cells, options.cell_px
    island = draw_island(rng, cells)
    canvas = pave(rng, negative, island, px)
    lesion = np.zeros_like(island)
    for tiles, is_lesion in ((negative, False), (inside, is_positive)):
        region = draw_region(rng, island, rng.uniform(*options.share))
        patchwork = pave(rng, tiles, region, px)
        wanted = np.kron(region, np.ones((px, px), dtype=bool))
        canvas[wanted] = patchwork[wanted]
        if is_lesion:
            lesion = region
    pixels = shift_stains(rng, canvas)
    tissue = outline_of(island, px)
    glass = draw_glass(rng, cells * px)
    bare = ~(tissue & canvas.any(-1))
    pixels[bare] = glass[bare]
    ink = np.zeros_like(tissue)
    if rng.random() < 0.3:
        draw_stroke(rng, pixels, ink, cells, px)
    return pixels, lesion & island, tissue, ink


def write_pyramid(path: Path, pixels: Pixels, mpp: float) -> None:
    """Write a tiled JPEG pyramid, halved until it fits 512 pixels."""
    with atomic_path(path) as partial, tifffile.TiffWriter(partial, bigtiff=True) as file:
        image, level = Image.fromarray(pixels), 0
        while True:
            file.write(
                np.asarray(image),
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 85},
                subfiletype=1 if level else 0,
                resolution=(1e4 / (mpp * 2**level),) * 2,
                resolutionunit="CENTIMETER",
            )
            if max(image.size) <= 512:
                return
            level, image = level + 1, image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)


def write_mosaics(tiles: Path, out: Path, options: Options) -> None:
    """Draw and write all slides."""
    rows = []
    for mosaic in draw_mosaics(tiles, options):
        write_pyramid(out / "slides" / f"{mosaic.name}.tif", mosaic.pixels, options.mpp)
        with atomic_path(out / "masks" / f"{mosaic.name}.png") as partial:
            Image.fromarray((mosaic.lesion * 255).astype(np.uint8)).save(partial)
        slide = f"slides/{mosaic.name}.tif"
        rows.append({"slide": slide, "label": mosaic.label, "patient": mosaic.name, "split": mosaic.split})
    write_json(out / OPTIONS, asdict(options))
    write_csv(out / "slides.csv", ["slide", "label", "patient", "split"], rows)


def main() -> int:
    """Write the slides; return the exit code."""
    defaults = Options((), ())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--positive", required=True, help="class or classes of the lesion, with commas between them")
    parser.add_argument("--negative", required=True, help="class or classes of everything else")
    parser.add_argument("--out", type=Path, required=True, help="folder that is written")
    for split, count in defaults.slides.items():
        parser.add_argument(f"--{split}", type=int, default=count, help=f"slides in {split} ({count})")
    parser.add_argument("--cells", type=int, default=defaults.cells, help="side of a slide in cells of 64 um (24)")
    parser.add_argument("--mpp", type=float, default=defaults.mpp, help="micrometres per pixel (0.25)")
    parser.add_argument("--scale", type=float, default=defaults.scale, help="the tiles are resized by this first (1)")
    parser.add_argument(
        "--share", type=float, nargs=2, default=defaults.share, metavar=("MIN", "MAX"), help="of a lesion in the tissue"
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of everything that is drawn (0)")
    asked = parser.parse_args()
    options = Options(
        positive=tuple(asked.positive.split(",")),
        negative=tuple(asked.negative.split(",")),
        slides={split: getattr(asked, split) for split in SPLITS},
        cells=asked.cells,
        mpp=asked.mpp,
        scale=asked.scale,
        share=tuple(asked.share),
        seed=asked.seed,
    )
    try:
        write_mosaics(asked.tiles, asked.out, options)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
