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
OFF_WHOLE_PX = 0.1  # by what single precision may move a coordinate of a large slide
PIXELS = frozenset({"px", "pixel", "pixels"})  # as an attribute unit says it
MOST_PATCH_PX = 1 << 16
MOST_CELLS = 1 << 22  # of V; the largest slides have some 600,000 patches of 64 um
SPARSE_CELLS = 1 << 18  # up to which tissue may be as sparse as it likes
MOST_CELLS_PER_PATCH = 1024

_TO_PIXELS = "round coords in pixels; divide those in micrometres by the slide's micrometres per pixel at level 0 first"


def require_features(values: NDArray[Any], path: Path) -> NDArray[np.floating[Any]]:
    """Return v of every patch, float16 or float32 (N, C); a leading axis of 1 is dropped.

    Raises:
        SlideError: there are no such vectors, they are no finite numbers, or all are zero.
    """
    require_feature_shape(values.shape, path)
    values = _unstacked(values)
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


def require_feature_shape(shape: tuple[int, ...], path: Path) -> tuple[int, int]:
    """Return N and C of features of this shape, (N, C) or (1, N, C).

    Raises:
        SlideError: it has no patch, or is another one.
    """
    if 0 in shape:
        raise no_patch(path)
    unstacked = shape[1:] if len(shape) == 3 and shape[0] == 1 else shape
    if len(unstacked) != 2:
        raise SlideError(
            f"{path}: features {shape}, expected (N, C), one vector per patch: name the folder of the patch features"
        )
    return unstacked[0], unstacked[1]


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
        SlideError: there are no such coordinates, some lie where no slide has a patch, or are no whole numbers.
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
    broken = (np.abs(values - coords_xy_px) > OFF_WHOLE_PX).any(axis=1)
    if broken.any():
        x, y = values[broken][0].tolist()
        raise SlideError(
            f"{path}: {int(broken.sum())} patches lie between pixels, the first at x {x:.2f}, y {y:.2f}; expected whole level-0 "
            f"pixels: {_TO_PIXELS}"
        )
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


def numbers_in(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    """Return a dataset of numbers.

    Raises:
        SlideError: there is none of that name, or it holds no numbers.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset):
        what = (
            f"{name} is a group ({', '.join(found) or 'empty'})"
            if isinstance(found, h5py.Group)
            else f"no dataset {name!r} (it has {', '.join(file) or 'none'})"
        )
        raise SlideError(
            f"{path}: {what}, expected the datasets features (N, C) and coords (N, 2), as TRIDENT and CLAM write them per patch: "
            "name the folder of such files, or write these two"
        )
    dataset = dataset_of(file, name)
    if dataset.dtype.kind not in "fiu":
        raise SlideError(f"{path}: {name} of type {dataset.dtype}, expected numbers: write the file anew")
    return dataset


def read_values(file: h5py.File, name: str, path: Path) -> NDArray[Any]:
    """Read :func:`numbers_in`."""
    values: NDArray[Any] = numbers_in(file, name, path)[()]
    return values


def _unstacked(values: NDArray[Any]) -> NDArray[Any]:
    return values[0] if values.ndim == 3 and values.shape[0] == 1 else values


def stated_px(file: h5py.File, path: Path) -> tuple[int, int] | None:
    """Return the side of a patch and the step from one to the next in level-0 pixels, where the file says so.

    TRIDENT writes ``patch_size_level0``, and ``patch_size`` and ``overlap`` at the magnification read, on ``coords``; CLAM writes
    nothing beside its features.

    Raises:
        SlideError: what it says is no size, or that coordinates are no pixels, as STAMP's, which are micrometres.
    """
    _require_unit(file, path)
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


def _require_unit(file: h5py.File, path: Path) -> None:
    for attributes in (file["coords"].attrs, file.attrs):
        unit = attributes.get("unit", "")
        if not {word.strip().casefold() for word in _words(unit)} - {""} <= PIXELS:
            raise SlideError(
                f"{path}: attribute unit of coords or of the file is {_shown(unit)}, expected 'px', level-0 pixels. Where "
                f"they are, correct it; else {_TO_PIXELS}"
            )


def _whole(attributes: h5py.AttributeManager, name: str, path: Path, *, least: int, most: int) -> int:
    """A whole number that an attribute states, be it as a number, as text, or as an array of equal ones."""
    stated = attributes.get(name)
    found = _words(stated)
    try:
        value = float(found.pop()) if len(found) == 1 else float("nan")
    except ValueError:
        value = float("nan")
    if not (value.is_integer() and least <= value <= most):
        raise SlideError(
            f"{path}: attribute {name} of coords is {_shown(stated)}, expected a whole number of pixels, "
            f"{least} to {most}: correct it"
        )
    return int(value)


def _words(stated: Any) -> set[str]:
    """What an attribute states, as text."""
    return {str(value.decode() if isinstance(value, bytes) else value) for value in np.ravel(np.asarray(stated))}


def _shown(stated: Any) -> str:
    return repr(" ".join(str(stated).split())[:60])
