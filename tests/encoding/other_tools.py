"""Feature files as TRIDENT and CLAM lay them out: datasets, types, chunks and attributes."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray


def features_of(count: int, channels: int, *, mean: float = 0.0, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(mean, 1, (count, channels)).astype(np.float32)


def write_trident(
    path: Path,
    grid_yx: NDArray[np.int_],
    features: NDArray[np.floating],
    *,
    patch_px: int = 256,
    overlap_px: int = 0,
    level0_magnification: int = 40,
    magnification: int = 20,
    encoder: str = "uni_v1",
) -> Path:
    """Write ``features_<encoder>/<slide>.h5``: a row a chunk, everything about patches on ``coords``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scale = level0_magnification // magnification
    coords = np.ascontiguousarray(grid_yx[:, ::-1]).astype(np.int64) * (patch_px - overlap_px) * scale
    with h5py.File(path, "w") as file:
        for name, values in (("features", features), ("coords", coords)):
            width = values.shape[1]
            file.create_dataset(name, data=values, chunks=(1, width), maxshape=(None, width))
        file["features"].attrs.update({"name": path.stem, "savetodir": str(path.parent), "encoder": encoder})
        file["coords"].attrs.update(
            {
                "patch_size": patch_px,
                "patch_size_level0": patch_px * scale,
                "level0_magnification": level0_magnification,
                "target_magnification": magnification,
                "overlap": overlap_px,
                "name": path.stem,
                "savetodir": str(path.parents[1]),
                "level0_width": 100_000,
                "level0_height": 80_000,
            }
        )
    return path


def write_clam(path: Path, coords_xy_px: NDArray[np.int_], features: NDArray[np.floating]) -> Path:
    """Write ``h5_files/<slide>.h5``: no attribute at all; the size of a patch stands in another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in (("features", features.astype(np.float32)), ("coords", coords_xy_px.astype(np.int32))):
            width = values.shape[1]
            file.create_dataset(name, data=values, chunks=(32, width), maxshape=(None, width))
    return path
