"""The embedding file ``<slide_id>.h5``: V, O and T of one slide, in the layout that TRIDENT and CLAM read."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.files import atomic_path
from ..slides.geometry import PatchGrid
from .foreign import common_step, snap_to_grid, stated_px

FORMAT = "dsnet-embedding/1"
DIGITS = 16  # of a fingerprint
CHECKED_ROWS = 64  # for the fingerprint of a file of another tool, which has no checksum
CHUNK_ROWS = 4096  # a chunk of one row makes a file load thirty times slower


@dataclass(frozen=True)
class Embedding:
    """One slide after Transformation.

    Attributes:
        features: v of every observed patch, (N, C).
        coords_xy_px: their top-left corners in level-0 pixels, (N, 2).
        grid_yx: their row and column in V, (N, 2).
        shape_yx: rows and columns of V, the tightest box of the observed patches.
        patch_px_level0: side of a cell of V in level-0 pixels: of a patch, or of the step between patches that overlap.
        thumbnail: T, uint8 (2 rows, 2 columns, 3 L); None where the file has none.
        attributes: the root attributes.
    """

    features: NDArray[np.floating[Any]]
    coords_xy_px: NDArray[np.int64]
    grid_yx: NDArray[np.int32]
    shape_yx: tuple[int, int]
    patch_px_level0: int
    thumbnail: NDArray[np.uint8] | None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def origin_xy_px(self) -> tuple[int, int]:
        """Top-left corner of V's first cell in level-0 pixels."""
        x, y = self.coords_xy_px[0] - self.grid_yx[0, ::-1].astype(np.int64) * self.patch_px_level0
        return int(x), int(y)

    @property
    def grid(self) -> PatchGrid:
        """Where the cells of V lie."""
        return PatchGrid(self.patch_px_level0, self.origin_xy_px, self.shape_yx)

    def matrix(self, channel_range: Sequence[int | None] = (0, None)) -> NDArray[np.float32]:
        """V, float32 (C, rows, columns), of the channels [first, last): zero where nothing was observed."""
        features = self.features[:, slice(*channel_range)]
        v = np.zeros((features.shape[1], *self.shape_yx), dtype=np.float32)
        v[:, self.grid_yx[:, 0], self.grid_yx[:, 1]] = features.T
        return v


@contextmanager
def embedding_writer(path: Path, *, patches: int, channels: int) -> Iterator[h5py.File]:
    """Open ``path`` for writing ``features``, ``coords`` and ``grid`` of at most ``patches`` rows, empty at first.

    The file appears under its name only when whole: with the checksum over its datasets and, last, the mark ``complete``.
    """
    chunk = max(1, min(patches, CHUNK_ROWS))
    with atomic_path(path) as partial, h5py.File(partial, "w") as file:
        for name, width, dtype in (("features", channels, "float32"), ("coords", 2, "int64"), ("grid", 2, "int32")):
            shape, most = (0, width), (max(1, patches), width)
            file.create_dataset(name, shape, maxshape=most, dtype=dtype, chunks=(chunk, width))
        yield file
        file.attrs["checksum"] = _checksum(file)
        file.attrs["complete"] = True


def append_rows(file: h5py.File, **rows: NDArray[Any]) -> None:
    """Add rows (n, width) to the datasets named."""
    for name, values in rows.items():
        dataset = file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values


def require_whole(path: Path) -> dict[str, Any]:
    """Return the root attributes of a file that is complete and holds what was written.

    Raises:
        SlideError: the file cannot be read, does not say that it is complete, or its checksum differs.
    """
    with opened_embedding(path) as file:
        try:
            attributes = dict(file.attrs)
            whole = bool(attributes.get("complete")) and attributes.get("checksum") == _checksum(file)
        except (OSError, RuntimeError, KeyError) as error:
            raise SlideError(
                f"{path}: damaged ({error}); expected a whole embedding file: encode the slide anew"
            ) from error
    if not whole:
        raise SlideError(
            f"{path}: its content does not match its checksum, or was never completed: encode the slide anew"
        )
    return attributes


def _checksum(file: h5py.File) -> str:
    """SHA-256 over names, shapes, types and values of V, O and T, read by blocks of rows."""
    digest = hashlib.sha256()
    for name in ("features", "coords", "grid", "thumbnail"):
        if name not in file:
            continue
        dataset = file[name]
        digest.update(f"{name} {dataset.shape} {dataset.dtype.str}".encode())
        for start in range(0, len(dataset), CHUNK_ROWS):
            digest.update(np.ascontiguousarray(dataset[start : start + CHUNK_ROWS]).tobytes())
    return f"sha256:{digest.hexdigest()}"


def read_attributes(path: Path) -> dict[str, Any]:
    """Read the root attributes of an embedding file.

    Raises:
        SlideError: the file cannot be opened as HDF5.
    """
    with opened_embedding(path) as file:
        return dict(file.attrs)


def read_encoder(path: Path) -> str:
    """Read what made the features: of a file of ours the encoder's name and hash, of TRIDENT's the name, else "unknown".

    Raises:
        SlideError: the file is no feature file.
    """
    with opened_embedding(path) as file:
        stated = file.attrs.get("encoder", _dataset(file, "features", path).attrs.get("encoder", "None"))
        return "unknown" if stated == "None" else str(stated)


def fingerprint(path: Path) -> str:
    """Return what tells one slide's embedding from any other's, whatever it is called, in 16 hexadecimal digits.

    Made of the checksum of V, O and T that our files hold; of files of other tools, of the coordinates and the first vectors. It
    does not tell the slide's or patient's name.

    Raises:
        SlideError: the file is no feature file.
    """
    with opened_embedding(path) as file:
        if "checksum" in file.attrs:
            return str(file.attrs["checksum"]).removeprefix("sha256:")[:DIGITS]
        digest = hashlib.sha256()
        features = _dataset(file, "features", path)
        for values in (
            _dataset(file, "coords", path)[()],
            (features[0] if features.ndim == 3 else features)[:CHECKED_ROWS],
        ):
            digest.update(f"{values.shape} {values.dtype.str}".encode())
            digest.update(values.tobytes())
    return digest.hexdigest()[:DIGITS]


def read_shape(path: Path) -> tuple[int, int | None]:
    """Read C and L without loading the features; L is None where the file has no thumbnail.

    Raises:
        SlideError: the file is no feature file, or holds no patch.
    """
    with opened_embedding(path) as file:
        features = _dataset(file, "features", path)
        if not features.size:
            raise _no_patch(path)
        levels = file["thumbnail"].shape[2] // 3 if "thumbnail" in file else None
        return int(features.shape[-1]), levels


def read_embedding(path: Path, *, verify: bool = True) -> Embedding:
    """Read an embedding file of ours, or a feature file of another tool (``features`` and ``coords`` alone).

    For the latter the grid is rebuilt from the coordinates and cropped to the tightest box; a leading axis of 1 is dropped. Where
    patches overlap by what the file states (``overlap`` and ``patch_size``, as TRIDENT writes them), a cell of V is the middle of a
    patch, one step wide. Patches off a common grid go to the nearest cell.

    Args:
        path: the file.
        verify: compare a file of ours with its checksum; what reads the same files many times may do without.

    Raises:
        SlideError: the file is not such a file, is damaged, holds no patch, or its coordinates lie on no regular grid.
    """
    if verify and read_attributes(path).get("format") == FORMAT:
        require_whole(path)
    with opened_embedding(path) as file:
        features, coords = _dataset(file, "features", path), _dataset(file, "coords", path)
        stated = stated_px(file)
        arrays = [array[0] if array.ndim == 3 and array.shape[0] == 1 else array[()] for array in (features, coords)]
        feature_rows, coords_xy_px = arrays[0], np.rint(arrays[1]).astype(np.int64)
        thumbnail = file["thumbnail"][()] if "thumbnail" in file else None
        grid_yx = file["grid"][()] if "grid" in file and "grid_shape" in file.attrs else None
        attributes = dict(file.attrs)
    if not feature_rows.size:
        raise _no_patch(path)
    if feature_rows.ndim != 2 or coords_xy_px.shape != (len(feature_rows), 2):
        raise SlideError(
            f"{path}: features {feature_rows.shape} and coords {coords_xy_px.shape}, expected (N, C) and (N, 2): "
            "write the file anew"
        )
    if not np.isfinite(feature_rows).all():
        raise SlideError(f"{path}: features hold NaN or infinity, expected finite numbers: write the file anew")
    if not feature_rows.any():
        raise SlideError(
            f"{path}: no observed patch (every vector is zero), expected at least one: leave this slide out or check its encoder"
        )
    if grid_yx is None:
        patch_px, step_px = stated or (common_step(coords_xy_px, path),) * 2
        grid_yx, kept = snap_to_grid(coords_xy_px, step_px, path)
        feature_rows, coords_xy_px = feature_rows[kept], coords_xy_px[kept] + (patch_px - step_px) // 2
        rows, columns = (int(size) for size in grid_yx.max(axis=0) + 1)
    else:
        step_px = stated[0] if stated else common_step(coords_xy_px, path)
        rows, columns = (int(size) for size in attributes["grid_shape"])
    return Embedding(
        features=feature_rows,
        coords_xy_px=coords_xy_px,
        grid_yx=grid_yx.astype(np.int32),
        shape_yx=(rows, columns),
        patch_px_level0=step_px,
        thumbnail=thumbnail,
        attributes=attributes,
    )


@contextmanager
def opened_embedding(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading.

    Raises:
        SlideError: it cannot be opened as HDF5.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise SlideError(
            f"{path}: not a readable HDF5 file ({error}); expected the slide's embedding: encode the slide"
        ) from error
    with file:
        yield file


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    if name not in file:
        raise SlideError(
            f"{path}: no dataset {name!r} (it has {', '.join(file) or 'none'}), expected features and coords as TRIDENT and "
            "CLAM write them"
        )
    return file[name]


def _no_patch(path: Path) -> SlideError:
    return SlideError(
        f"{path}: no observed patch, expected at least one: leave this slide out or check its tissue mask"
    )


def write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set root attributes; a value of None is left out."""
    for name, value in attributes.items():
        if value is not None:
            file.attrs[name] = value
