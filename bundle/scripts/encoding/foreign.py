"""The grid of V under the patches of another tool, which writes their coordinates alone."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError

MAX_COLLISIONS = 0.1
MIN_ON_STEP = 0.8  # of the distances between neighbours, multiples of the most frequent one where there is a grid


def stated_px(file: h5py.File) -> tuple[int, int] | None:
    """Return the side of a patch and the step from one to the next in level-0 pixels, where the file says so.

    TRIDENT writes ``patch_size_level0``, and ``patch_size`` and ``overlap`` at the magnification read, on ``coords``; CLAM writes
    nothing beside its features.
    """
    for attributes in (file["coords"].attrs, file.attrs):
        if "patch_size_level0" in attributes:
            patch_px = int(attributes["patch_size_level0"])
            overlap = int(attributes.get("overlap", 0)) / int(attributes.get("patch_size", patch_px))
            return patch_px, patch_px - round(overlap * patch_px)
    return None


def common_step(coords_xy_px: NDArray[np.int64], path: Path) -> int:
    """Return the most frequent distance between neighbours of a row or a column: the step of a grid that the file does not state.

    Raises:
        SlideError: distances are no multiples of it, so there is no grid.
    """
    if len(coords_xy_px) == 1:
        return 1
    distances = []
    for along, across in ((0, 1), (1, 0)):
        ordered = coords_xy_px[np.lexsort((coords_xy_px[:, along], coords_xy_px[:, across]))]
        same_line = np.diff(ordered[:, across]) == 0
        distances.append(np.diff(ordered[:, along])[same_line])
    steps, counts = np.unique(np.concatenate(distances), return_counts=True)
    steps, counts = steps[steps > 0], counts[steps > 0]
    step = int(steps[counts.argmax()]) if len(steps) else 0
    if not step or counts[steps % step == 0].sum() < MIN_ON_STEP * counts.sum():
        raise SlideError(
            f"{path}: the coordinates lie on no regular grid, and no attribute patch_size_level0 of coords says how large a patch is; "
            "expected either: write that attribute"
        )
    return step


def snap_to_grid(
    coords_xy_px: NDArray[np.int64], step_px: int, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of every patch kept, the smallest being 0, and which are kept.

    CLAM starts a grid anew in every piece of tissue, which leaves patches off a common grid: each goes to the nearest cell, and of
    two in one cell the first is kept, as long as that is rare.

    Raises:
        SlideError: it is not.
    """
    offsets = coords_xy_px - coords_xy_px.min(axis=0)
    grid_yx = np.rint(offsets[:, ::-1] / step_px).astype(np.int64)
    _, kept = np.unique(grid_yx, axis=0, return_index=True)
    if len(kept) < (1 - MAX_COLLISIONS) * len(grid_yx):
        raise SlideError(
            f"{path}: {len(grid_yx) - len(kept)} of {len(grid_yx)} patches share a cell of a grid of {step_px} px; expected patches "
            "that do not overlap, or overlap as stated: extract them without, or write the attributes overlap and patch_size of coords"
        )
    kept.sort()
    return grid_yx[kept], kept
