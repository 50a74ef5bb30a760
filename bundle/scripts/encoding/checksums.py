"""The seal of an embedding file: what it holds is what was written, values and attributes."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError

CHECKED = ("features", "coords", "grid", "thumbnail")
BLOCK_ROWS = 4096
SEAL = "checksum_rest"  # of the attributes and all other values
_SEAL = ("checksum", SEAL, "complete")


def seal(file: h5py.File) -> None:
    """Set ``checksum``, ``checksum_rest`` and, last, ``complete``."""
    file.attrs["checksum"] = checksum(file)
    file.attrs[SEAL] = checksum_rest(file)
    file.attrs["complete"] = True


def require_sealed(file: h5py.File, path: Path, values: Mapping[str, NDArray[Any]] | None = None) -> None:
    """Check that a file is complete and holds what was written.

    Args:
        file: the file, open.
        path: its path, for messages.
        values: of its datasets in `CHECKED`, where they are read already; None reads them, by blocks.

    Raises:
        SlideError: it is not, or its content differs from a checksum. ``checksum_rest`` counts where the file has it: older ones
            have none.
    """
    stated = file.attrs.get(SEAL)
    whole = bool(file.attrs.get("complete")) and file.attrs.get("checksum") == checksum(
        file if values is None else values
    )
    if not whole or (stated is not None and stated != checksum_rest(file)):
        raise SlideError(
            f"{path}: its content does not match its checksum, or was never completed: encode the slide anew"
        )


def checksum(file: h5py.File | Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, shapes, types and values of V, O and T, read by blocks of rows; a slide's fingerprint derives from it."""
    digest = hashlib.sha256()
    for name in CHECKED:
        if name not in file:
            continue
        dataset = file[name]
        digest.update(f"{name} {dataset.shape} {dataset.dtype.str}".encode())
        for start in range(0, len(dataset), BLOCK_ROWS):
            digest.update(np.ascontiguousarray(dataset[start : start + BLOCK_ROWS]).tobytes())
    return f"sha256:{digest.hexdigest()}"


def checksum_rest(file: h5py.File) -> str:
    """SHA-256 over all else: the attributes of everything in the file, and its other datasets."""
    digest = hashlib.sha256()
    for name, item in _items(file):
        for key in sorted(item.attrs):
            if name or key not in _SEAL:
                value = np.asarray(item.attrs[key])
                digest.update(repr((name, key, value.dtype.str, value.tolist())).encode())
        if isinstance(item, h5py.Dataset) and name not in CHECKED:
            digest.update(f"{name} {item.shape} {item.dtype.str}".encode())
            digest.update(np.ascontiguousarray(item[()]).tobytes())
    return f"sha256:{digest.hexdigest()}"


def _items(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """The root and all that it holds, by name."""
    names: list[str] = []
    file.visit(names.append)
    yield "", file
    for name in sorted(names):
        yield name, file[name]
