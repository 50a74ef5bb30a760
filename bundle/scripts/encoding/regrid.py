"""The grid of V under patches of which only coordinates are known: its step, and the cell of each patch."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError

MAX_COLLISIONS = 0.1  # of the patches, that may fall into a cell that another one has
MIN_ON_STEP = 0.8  # of the distances between neighbours, multiples of the most frequent one where there is a grid

SAME_OF_LARGEST, SAME_OF_SPREAD = 0.001, 0.1
"""By so much two vectors of one patch may differ: of the largest number in a file, or of the spread of a channel over patches."""

SPREAD_ROWS = 1024  # of a file, evenly spaced, that tell the spread


def common_step(coords_xy_px: NDArray[np.int64], path: Path) -> int:
    """Return the most frequent distance between neighbours of a row or a column: the step of a grid that the file does not state.

    Raises:
        SlideError: there is none, as of a single patch, or distances are no multiples of it, so there is no grid.
    """
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
            f"{path}: the coordinates of {len(coords_xy_px)} patches show no regular grid, and no attribute patch_size_level0 of "
            "coords says how large a patch is; expected either: write that attribute, the side of a patch in level-0 pixels"
        )
    return step


def require_one_vector_each(features: NDArray[Any], coords_xy_px: NDArray[np.int64], path: Path) -> None:
    """Refuse two patches with the same corner whose vectors are not the same.

    CLAM lists a patch twice where two of its contours overlap; its vectors then differ by the arithmetic of a GPU at most. That is
    far less than what tells one patch from another, even where all vectors of an encoder are alike.

    Raises:
        SlideError: there are such.
    """
    _, first, inverse = np.unique(coords_xy_px, axis=0, return_index=True, return_inverse=True)
    again = np.setdiff1d(np.arange(len(coords_xy_px)), first)
    if not len(again):
        return
    one, other = (features[rows].astype(np.float32) for rows in (again, first[inverse.ravel()[again]]))
    spread = features[:: -(-len(features) // SPREAD_ROWS)].astype(np.float32).std(axis=0).mean()
    most = max(SAME_OF_LARGEST * float(np.abs(features).max()), SAME_OF_SPREAD * float(spread))
    close = (np.abs(one - other) <= most).all(axis=1)
    if not close.all():
        x, y = coords_xy_px[again[~close][0]].tolist()
        raise SlideError(
            f"{path}: {int((~close).sum())} patches have the corner of another one and other vectors, the first at x {x}, y {y}; "
            "expected one vector per place: compare coords with its source, or write the file anew"
        )


def snap_to_grid(
    coords_xy_px: NDArray[np.int64], step_px: int, path: Path
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of every patch kept, the smallest being 0, and which are kept.

    CLAM starts a grid anew in every piece of tissue, which leaves patches off a common grid. Each goes to the nearest cell, and
    halfway between two to the later one, so that a piece that is off by half a step stays whole. Of two in one cell the first is
    kept, as long as that is rare.

    Raises:
        SlideError: it is not.
    """
    offsets = coords_xy_px - coords_xy_px.min(axis=0)
    grid_yx = np.floor(offsets[:, ::-1] / step_px + 0.5).astype(np.int64)
    _, kept = np.unique(grid_yx, axis=0, return_index=True)
    if len(kept) < (1 - MAX_COLLISIONS) * len(grid_yx):
        raise SlideError(
            f"{path}: {len(grid_yx) - len(kept)} of {len(grid_yx)} patches share a cell of a grid of {step_px} px; expected "
            "patches that do not overlap, or overlap as stated: extract them without, or write the attributes overlap and "
            "patch_size of coords"
        )
    kept.sort()
    return grid_yx[kept], kept
