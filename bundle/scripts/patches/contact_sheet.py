"""A picture of what was drawn, to be looked at before hours of training."""

from pathlib import Path

import numpy as np
from PIL import Image

from ..common.files import atomic_path
from ..slides.geometry import PATCH_PX
from .patch_file import open_patches

MAX_PATCHES = 200
MAX_COLUMNS = 20
GAP_PX = 4


def write_contact_sheet(patches_file: Path, path: Path) -> None:
    """Write a PNG with one row of patches for a slide, in the order of the file; the rows hold each slide's first ones.

    At most 200 patches: with more than 200 slides the rows stand for slides at even steps. A slide with fewer patches
    than the others leaves the end of its row white.

    Raises:
        RequestError: ``patches_file`` is no file of patches.
    """
    with open_patches(patches_file) as file:
        slide_ids = file["slide_id"].asstr()[:]
        starts = np.flatnonzero(np.r_[True, slide_ids[1:] != slide_ids[:-1]])
        stops = np.r_[starts[1:], len(slide_ids)]
        shown = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), MAX_PATCHES)).round().astype(int))
        columns = min(MAX_PATCHES // len(shown), MAX_COLUMNS, int((stops - starts)[shown].max()))
        step_px = PATCH_PX + GAP_PX
        sheet = np.full((len(shown) * step_px + GAP_PX, columns * step_px + GAP_PX, 3), 255, dtype=np.uint8)
        for row, slide in enumerate(shown):
            y = row * step_px + GAP_PX
            for column, patch in enumerate(file["patches"][starts[slide] : min(starts[slide] + columns, stops[slide])]):
                x = column * step_px + GAP_PX
                sheet[y : y + PATCH_PX, x : x + PATCH_PX] = patch
    with atomic_path(path) as partial:
        Image.fromarray(sheet).save(partial)
