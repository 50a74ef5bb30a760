"""A set of synthetic H&E slides with slide labels, so that the whole flow runs with no data from outside.

Every slide is islands of benign tissue on glass; a positive slide also holds one connected lesion of large, irregular,
crowded and dark nuclei. Stain, scanner and pen marks vary from slide to slide alike for both labels: the overall
colour does not tell the label.
"""

import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ..common.errors import RequestError
from ..common.files import atomic_path, write_csv, writing_to
from ..common.option_table import OF_STAGE, checked
from ..common.option_words import Split
from ..common.outputs import HeldOutputs
from ..common.progress import track
from .synthetic_tissue import GRID_UM, Layout, draw_layout, render_stains, resized

TILE_PX = 256
COARSEST_PX = 512  # the pyramid goes down to a level of at most this side
HAEMATOXYLIN_RGB, EOSIN_RGB = (0.65, 0.70, 0.29), (0.07, 0.95, 0.30)  # near Ruifrok and Johnston 2001
INKS_RGB = {"blue": (1.5, 0.9, 0.15), "green": (1.4, 0.4, 1.0), "black": (1.3, 1.35, 1.3)}
PEN_SHARE = 0.25  # of the slides of either label


@dataclass(frozen=True)
class SyntheticSlide:
    """What one worker needs to make one slide; its files follow from ``output_dir`` and ``name``."""

    output_dir: Path
    name: str
    label: int
    cells: int
    mpp: float
    lesion_share: tuple[float, float]
    seed: np.random.SeedSequence
    bank_seed: int

    @property
    def files(self) -> tuple[str, str]:
        """Slide and mask, relative to ``output_dir``."""
        return f"slides/{self.name}.tif", f"masks/{self.name}.png"


def write_slide_set(
    output_dir: str | os.PathLike[str],
    counts: Mapping[Split, int],
    *,
    seed: int,
    cells: int = 16,
    mpp: float = 0.5,
    lesion_share: tuple[float, float] = (0.1, 0.3),
    num_workers: int = 0,
    replace: bool = False,
) -> Path:
    """Write synthetic slides, their lesion masks and the table that lists them; return the path of ``slides.csv``.

    ``output_dir`` receives ``slides/<name>.tif`` (tiled JPEG pyramid, factors of 2, resolution tags in centimetres) and
    ``masks/<name>.png`` (255 = lesion, one pixel per cell of 64 um). Last comes ``slides.csv`` with the columns slide, label,
    patient, split. Labels alternate within a split, every slide is a patient of its own. The files depend on the
    other arguments alone, never on ``num_workers``. A slide does not depend on how many there are. So a repeated call rewrites the
    same bytes, and a larger one adds slides.

    Args:
        output_dir: folder of the set, made if missing.
        counts: number of slides of each split, train, val and test.
        seed: seed of the set, 0 or more.
        cells: side of a slide in cells of 64 um, 4 or more.
        mpp: resolution of level 0 in micrometres per pixel, 0.2 to 1.
        lesion_share: least and greatest share of a positive slide's tissue cells that the lesion takes.
        num_workers: processes that make slides; 0 or 1 makes them in this one.
        replace: whether a set of another request may be replaced.

    Raises:
        RequestError: an argument lies outside its range, or see :class:`..common.outputs.HeldOutputs`; nothing is written.
    """
    output_dir = Path(output_dir)
    low, high = checked("lesion_share", lesion_share)
    for name, value in (("seed", seed), ("cells", cells), ("mpp", mpp), ("num_workers", num_workers)):
        checked(name, value)
    for name, count in counts.items():
        checked(name, count, OF_STAGE["generating"][name])
    if not sum(counts.values()) or low > high:
        raise RequestError(
            f"{output_dir}: synthetic slides cannot be made with {', '.join(counts)} = {tuple(counts.values())} and lesion_share = "
            f"{lesion_share}; give one slide at least, and a least share before a greatest"
        )
    plans, rows = [], []
    for split_index, (split, count) in enumerate(counts.items()):
        children = np.random.SeedSequence([seed, split_index]).spawn(count)
        for index, child in enumerate(children):
            name, label = f"{split}_{index:03d}", index % 2
            plans.append(SyntheticSlide(output_dir, name, label, cells, mpp, (low, high), child, seed))
            rows.append({"slide": f"slides/{name}.tif", "label": label, "patient": name, "split": split})
    request = {"seed": seed, "cells": cells, "mpp": mpp, "lesion_share": [low, high]}
    names = ["slides.csv", *(name for plan in plans for name in plan.files)]
    held = HeldOutputs(output_dir, "generating", request, writes=names, replace=replace)
    progress = partial(track, total=len(plans), what="making slides", unit="slide")
    with writing_to(output_dir), held:
        if num_workers > 1:
            with ProcessPoolExecutor(num_workers, get_context("spawn"), initializer=held.join) as pool:
                for _ in progress(pool.map(write_slide, plans)):
                    pass
        else:
            for plan in progress(plans):
                write_slide(plan)
        write_csv(output_dir / "slides.csv", ["slide", "label", "patient", "split"], rows)
    return output_dir / "slides.csv"


def write_tiny_slide_set(output_dir: str | os.PathLike[str]) -> Path:
    """Write the smallest set that every stage accepts: four slides to train, two to validate, two to test.

    Returns the path of ``slides.csv``, see ``write_slide_set``. A slide of 4 cells has 512 px per side at 0.5 um/px.
    """
    return write_slide_set(output_dir, {"train": 4, "val": 2, "test": 2}, seed=0, cells=4)


def write_slide(plan: SyntheticSlide) -> None:
    """Make one slide and its lesion mask."""
    rng = np.random.default_rng(plan.seed)
    share = rng.uniform(*plan.lesion_share)
    layout = draw_layout(rng, cells=plan.cells, lesion_share=share if plan.label else 0.0)
    haematoxylin, eosin = render_stains(rng, layout, mpp=plan.mpp, bank_seed=plan.bank_seed)
    image = scan(rng, haematoxylin, eosin, ink=_pen_marks(rng, layout) if rng.uniform() < PEN_SHARE else None)
    slide, mask = plan.files
    with atomic_path(plan.output_dir / slide) as path:
        _write_pyramid(path, image, plan.mpp)
    with atomic_path(plan.output_dir / mask) as path:
        Image.fromarray(layout.lesion_cells.astype(np.uint8) * 255).save(path)


def scan(
    rng: np.random.Generator,
    haematoxylin: NDArray[np.float32],
    eosin: NDArray[np.float32],
    *,
    ink: NDArray[np.float32] | None,
) -> NDArray[np.uint8]:
    """Turn stain amounts (H, W) into the image (H, W, 3) of a random laboratory and scanner.

    Beer-Lambert: intensity = white * 10 ** -(sum of stain amount * stain vector), then the scanner's noise.

    Args:
        rng: source of the stain vectors, stain strengths, white point, sharpness and noise.
        haematoxylin: amount at every pixel.
        eosin: amount at every pixel.
        ink: optical density of pen marks for red, green, blue, (H, W, 3) or any square size to be enlarged, or None.
    """
    side_px, blur = len(haematoxylin), np.float32(rng.uniform(0, 0.2))
    stains = []
    for amount, vector, spread in ((haematoxylin, HAEMATOXYLIN_RGB, 0.2), (eosin, EOSIN_RGB, 0.25)):
        shifted = np.abs(np.asarray(vector) + rng.normal(0, 0.05, 3))
        shifted *= rng.lognormal(0, spread) / np.linalg.norm(shifted)
        stains.append((_blurred(amount, blur), shifted.astype(np.float32)))
    white = (rng.uniform(243, 250) + rng.normal(0, 1, 3)).astype(np.float32)
    noise = np.float32(rng.uniform(0.8, 1.8))
    image = np.empty((side_px, side_px, 3), np.uint8)
    for band in range(3):  # one by one: a third of the memory
        density = sum(amount * vector[band] for amount, vector in stains)
        if ink is not None:
            density += resized(ink[..., band], side_px).clip(0)
        density *= -np.float32(np.log(10))
        level = np.exp(density, out=density)
        level *= white[band]
        level += noise * rng.standard_normal(level.shape, np.float32)
        image[..., band] = np.rint(level, out=level).clip(0, 255)
    return image


def _blurred(amount: NDArray[np.float32], blur: np.float32) -> NDArray[np.float32]:
    """Return ``amount`` convolved along both axes with (blur, 1 - 2 blur, blur); four times as fast as scipy's filters."""
    rows = amount.copy()
    rows[1:-1] += blur * (amount[:-2] + amount[2:] - 2 * amount[1:-1])
    both = rows.copy()
    both[:, 1:-1] += blur * (rows[:, :-2] + rows[:, 2:] - 2 * rows[:, 1:-1])
    return both


def _pen_marks(rng: np.random.Generator, layout: Layout) -> NDArray[np.float32]:
    """Return the optical density (n, n, 3), on the layout's grid, of one or two pen strokes across the slide."""
    grid_px = len(layout.edge_um)
    ink = np.zeros((grid_px, grid_px, 3), np.float32)
    vector = np.asarray(INKS_RGB[str(rng.choice(list(INKS_RGB)))], np.float32)
    for _ in range(rng.integers(1, 3)):
        stroke = Image.new("L", (grid_px, grid_px))
        width_px = max(3, round(min(rng.uniform(50, 100), layout.side_um / 12) / GRID_UM))
        time = np.linspace(0, 1, 60)
        ends = rng.uniform(0.02, 0.98, (2, 3))  # rows x, y; columns start, bend, end of a quadratic Bezier curve
        curve = ends[:, :1] * (1 - time) ** 2 + 2 * ends[:, 1:2] * time * (1 - time) + ends[:, 2:] * time**2
        points = [tuple(point) for point in (curve.T * grid_px).tolist()]
        ImageDraw.Draw(stroke).line(points, fill=255, width=width_px, joint="curve")
        cover = ndimage.gaussian_filter(np.asarray(stroke, np.float32) / 255, 1.5)
        ink = np.maximum(ink, cover[..., None] * vector * rng.uniform(0.7, 1.0))
    return ink


def _write_pyramid(path: Path, image: NDArray[np.uint8], mpp: float) -> None:
    """Write ``image`` as a tiled JPEG TIFF with halved levels down to at most ``COARSEST_PX`` a side."""
    with tifffile.TiffWriter(path) as file:
        factor = 1
        while True:
            file.write(
                image,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 88},
                tile=(TILE_PX, TILE_PX),
                subfiletype=0 if factor == 1 else 1,
                resolution=(1e4 / (mpp * factor), 1e4 / (mpp * factor)),
                resolutionunit="CENTIMETER",
                metadata=None,
                software=False,
            )
            if max(image.shape[:2]) <= COARSEST_PX:
                break
            image = np.asarray(Image.fromarray(image).reduce(2))
            factor *= 2
