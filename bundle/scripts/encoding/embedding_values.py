"""What an embedding file states, value by value: features, coordinates, the grid's size and the side of a patch."""

from math import isfinite
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.hdf5 import dataset_of

FARTHEST_PX = 1 << 31  # no slide is so large
MOST_PATCH_PX = 1 << 16
MOST_CELLS = 1 << 22  # of V; the largest slides have some 600,000 patches of 64 um
SPARSE_CELLS = 1 << 18  # up to which tissue may be as sparse as it likes
MOST_CELLS_PER_PATCH = 1024


def require_features(values: NDArray[Any], path: Path) -> NDArray[np.floating[Any]]:
    """Return v of every patch, float16 or float32 (N, C); a leading axis of 1 is dropped.

    Raises:
        SlideError: there are no such vectors, they are no finite numbers, or all are zero.
    """
    values = _unstacked(values)
    if not values.size:
        raise no_patch(path)
    if values.ndim != 2:
        raise SlideError(f"{path}: features {values.shape}, expected (N, C), one vector per patch: write the file anew")
    if values.dtype not in (np.float16, np.float32):
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            values = values.astype(np.float32)
    least, most = (float(number) for number in torch.aminmax(torch.from_numpy(values)))  # NaN where there is one
    if not isfinite(least) or not isfinite(most):
        raise SlideError(f"{path}: features hold NaN or infinity, expected finite numbers: write the file anew")
    if least == most == 0:
        raise SlideError(
            f"{path}: no observed patch (every vector is zero), expected at least one: leave this slide out or check its encoder"
        )
    return values


def observed_rows(features: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which of the vectors (N, C) are not zero.

    By the least and the largest number of each: numpy looks at half-precision numbers one by one, torch at many.
    """
    if not features.shape[1]:
        return np.zeros(len(features), dtype=np.bool_)
    values = torch.from_numpy(features)
    observed: NDArray[np.bool_] = ((values.amin(dim=1) != 0) | (values.amax(dim=1) != 0)).numpy()
    return observed


def require_coords(values: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Return the top-left corner of every patch in level-0 pixels, (N, 2).

    Raises:
        SlideError: there are no such coordinates, or some lie where no slide has a patch.
    """
    values = _unstacked(values)
    if values.ndim != 2 or values.shape[1] != 2:
        raise SlideError(
            f"{path}: coords {values.shape}, expected (N, 2), x and y of the top-left corner of each patch: write the file anew"
        )
    if not (np.abs(values.astype(np.float64)) < FARTHEST_PX).all():
        raise SlideError(
            f"{path}: coords hold NaN or values beyond any slide, expected level-0 pixels: write the file anew"
        )
    coords_xy_px = np.rint(values).astype(np.int64)
    unset = (coords_xy_px == -1).all(axis=1)
    if unset.any() and not (coords_xy_px[~unset] < 0).any() and not unset.all():
        raise SlideError(
            f"{path}: {int(unset.sum())} patches at (-1, -1), as a value that was never set; expected the corner of each: write "
            "the file anew without them"
        )
    return coords_xy_px


def require_cells(shape_yx: tuple[int, ...], patches: int, path: Path) -> None:
    """Refuse a grid that no slide has, before anything of its size is made.

    Raises:
        SlideError: it is too large, for any slide or for so few patches.
    """
    most = min(MOST_CELLS, max(SPARSE_CELLS, MOST_CELLS_PER_PATCH * patches))
    if len(shape_yx) != 2 or min(shape_yx) < 1 or shape_yx[0] * shape_yx[1] > most:
        raise SlideError(
            f"{path}: {patches} patches on a grid of {' x '.join(map(str, shape_yx))} cells, expected at most {most}: a patch "
            "lies far from the others, or the step of the grid is too small: correct coords or its attribute patch_size_level0"
        )


def no_patch(path: Path) -> SlideError:
    """The error of a file without patches."""
    return SlideError(
        f"{path}: no observed patch, expected at least one: leave this slide out or check its tissue mask"
    )


def read_values(file: h5py.File, name: str, path: Path) -> NDArray[Any]:
    """Read a dataset of numbers.

    Raises:
        SlideError: there is none of that name, or it holds no numbers.
    """
    if not isinstance(file.get(name), h5py.Dataset):
        raise SlideError(
            f"{path}: no dataset {name!r} (it has {', '.join(file) or 'none'}), expected features and coords as TRIDENT and "
            "CLAM write them"
        )
    dataset = dataset_of(file, name)
    if dataset.dtype.kind not in "fiu":
        raise SlideError(f"{path}: {name} of type {dataset.dtype}, expected numbers: write the file anew")
    values: NDArray[Any] = dataset[()]
    return values


def _unstacked(values: NDArray[Any]) -> NDArray[Any]:
    return values[0] if values.ndim == 3 and values.shape[0] == 1 else values


def stated_px(file: h5py.File, path: Path) -> tuple[int, int] | None:
    """Return the side of a patch and the step from one to the next in level-0 pixels, where the file says so.

    TRIDENT writes ``patch_size_level0``, and ``patch_size`` and ``overlap`` at the magnification read, on ``coords``; CLAM writes
    nothing beside its features.

    Raises:
        SlideError: what it says is no size.
    """
    for attributes in (file["coords"].attrs, file.attrs):
        if "patch_size_level0" in attributes:
            patch_px = _whole(attributes, "patch_size_level0", path, least=1, most=MOST_PATCH_PX)
            overlap = _whole(attributes, "overlap", path, least=0, most=MOST_PATCH_PX) if "overlap" in attributes else 0
            if not overlap:
                return patch_px, patch_px
            side = _whole(attributes, "patch_size", path, least=1, most=MOST_PATCH_PX)
            step_px = patch_px - round(overlap / side * patch_px)
            if step_px < 1:
                raise SlideError(
                    f"{path}: attribute overlap of coords is {overlap} of patches of {side} px, expected less than a patch: "
                    "correct it"
                )
            return patch_px, step_px
    return None


def _whole(attributes: h5py.AttributeManager, name: str, path: Path, *, least: int, most: int) -> int:
    """A whole number that an attribute states, be it as a number, as text, or as an array of equal ones."""
    stated = attributes.get(name)
    found = {str(value.decode() if isinstance(value, bytes) else value) for value in np.ravel(np.asarray(stated))}
    try:
        value = float(found.pop()) if len(found) == 1 else float("nan")
    except ValueError:
        value = float("nan")
    if not (value.is_integer() and least <= value <= most):
        raise SlideError(
            f"{path}: attribute {name} of coords is {' '.join(str(stated).split())[:60]!r}, expected a whole number of pixels, "
            f"{least} to {most}: correct it"
        )
    return int(value)
