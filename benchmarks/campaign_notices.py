"""What a strict reading of a damaged file, which is no slide, notices: whether something in it says that it is not what was written."""

import copy
import csv
import json
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch


def always(whole: Path, damaged: Path) -> bool:
    """Of a file with a checksum over all that matters: any change is to be noticed."""
    return True


def json_notices(whole: Path, damaged: Path) -> bool:
    """Whether a strict parser refuses the file, or its keys or kinds of values are not those of the whole one."""

    def parse(path: Path) -> Any:
        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            if len({name for name, _ in found}) < len(found):
                raise ValueError("a key twice")
            return dict(found)

        def refuse(name: str) -> Any:
            raise ValueError(name)

        return json.loads(path.read_bytes().decode(), object_pairs_hook=pairs, parse_constant=refuse)

    try:
        return _shape(parse(whole)) != _shape(parse(damaged))
    except (ValueError, OSError, RecursionError):
        return True


def hdf5_notices(whole: Path, damaged: Path) -> bool:
    """Whether a file of another tool cannot be read, has other shapes, kinds or numbers that are none, or two vectors for a place."""
    try:
        with h5py.File(whole) as one, h5py.File(damaged) as other:
            for name in ("features", "coords"):
                wanted, got = one[name], other[name]
                attributes = {key: str(value) for key, value in wanted.attrs.items()}
                if isinstance(other.get(name, getlink=True), h5py.ExternalLink) or got.shape != wanted.shape:
                    return True
                if got.dtype != wanted.dtype or {key: str(value) for key, value in got.attrs.items()} != attributes:
                    return True
                if not np.isfinite(got[()].astype(np.float64)).all():
                    return True
            if _one_place_two_vectors(other["features"][()].astype(np.float32), other["coords"][()]):
                return True
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError, ValueError):
        return True
    return False


def _one_place_two_vectors(features: np.ndarray, coords: np.ndarray) -> bool:
    """Whether two patches have one corner, and vectors that differ by more than arithmetic."""
    _, first, inverse = np.unique(coords, axis=0, return_index=True, return_inverse=True)
    return bool((np.abs(features - features[first[inverse.ravel()]]) > 1e-3 * np.abs(features).max()).any())


def patches_notice(whole: Path, damaged: Path) -> bool:
    """Whether training patches cannot be read, or have other shapes or kinds; what HDF5 writes anew has new checksums."""
    try:
        with h5py.File(whole) as one, h5py.File(damaged) as other:
            for name in ("patches", "coords", "rich", "slide_id"):
                if isinstance(other.get(name, getlink=True), h5py.ExternalLink):
                    return True
                if other[name][()].shape != one[name].shape or other[name].dtype != one[name].dtype:
                    return True
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError, ValueError):
        return True
    return False


def weights_notice(whole: Path, damaged: Path) -> bool:
    """Whether the checksums of the archive are wrong, or names, shapes or kinds are not those of the whole file."""
    try:
        with zipfile.ZipFile(damaged) as archive:
            if archive.testzip() is not None:
                return True
        one, other = (torch.load(path, map_location="cpu", weights_only=True) for path in (whole, damaged))
        return _tensors(one) != _tensors(other)
    except (
        OSError,
        ValueError,
        RuntimeError,
        zipfile.BadZipFile,
        NotImplementedError,
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        AttributeError,
    ):
        return True


def table_notices(whole: Path, damaged: Path, *, free: str | None = None) -> bool:
    """Whether a table has other columns, another number of lines or cells of another kind than the whole one.

    Args:
        whole: the whole one.
        damaged: the other.
        free: a column that may hold any text.
    """

    def shape(path: Path) -> list[Any]:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = csv.reader(file, strict=True)
        return [
            header,
            *(
                ["\0" in cell if name == free else _is_number(cell) for name, cell in zip(header, line, strict=True)]
                for line in lines
            ),
        ]

    try:
        return shape(whole) != shape(damaged)
    except (ValueError, OSError, csv.Error):
        return True


def predictions_notice(whole: Path, damaged: Path) -> bool:
    """Of the predictions of inference: a slide's label may be one that the model does not know."""
    return table_notices(whole, damaged, free="label")


def _shape(content: Any) -> Any:
    """Keys and kinds of parsed JSON; a whole number and another are one kind."""
    if isinstance(content, dict):
        return {key: _shape(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_shape(value) for value in content]
    return "number" if isinstance(content, int | float) and not isinstance(content, bool) else type(content).__name__


def _tensors(content: Any) -> Any:
    if isinstance(content, torch.Tensor):
        return (tuple(content.shape), str(content.dtype), bool(torch.isfinite(content.double()).all()))
    if isinstance(content, dict):
        return {key: _tensors(value) for key, value in content.items()}
    return copy.copy(type(content).__name__)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
