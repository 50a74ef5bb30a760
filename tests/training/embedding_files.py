"""Dataset folders made of random embeddings, small enough to train on in a second."""

from pathlib import Path

import h5py
import numpy as np

from scripts.common.files import write_csv
from scripts.encoding.store import FORMAT
from scripts.encoding.writer import append_rows, embedding_writer, write_attributes

STEP_PX = 32
CHANNELS = 8


def write_embedding(
    path: Path,
    *,
    shape_yx: tuple[int, int] = (6, 5),
    channels: int = CHANNELS,
    levels: int | None = 3,
    mean: float = 0.0,
    seed: int = 0,
    encoder: str = "Random sha256:0",
    precision: str | None = None,
    last: float | None = None,
) -> Path:
    """Write an embedding that was observed everywhere; without a thumbnail where ``levels`` is None, the last channel ``last``."""
    rng = np.random.default_rng(seed)
    grid_yx = np.argwhere(np.ones(shape_yx, dtype=bool)).astype(np.int32)
    with embedding_writer(path, patches=len(grid_yx), channels=channels) as file:
        features = rng.normal(mean, 1, (len(grid_yx), channels))
        if last is not None:
            features[:, -1] = last
        append_rows(file, features=features, grid=grid_yx, coords=grid_yx[:, ::-1] * STEP_PX)
        file["coords"].attrs["patch_size_level0"] = STEP_PX
        if levels is not None:
            size = (2 * shape_yx[0], 2 * shape_yx[1], 3 * levels)
            file["thumbnail"] = rng.integers(0, 256, size).astype(np.uint8)
        stated = {} if precision is None else {"precision": precision}
        write_attributes(file, {"format": FORMAT, "grid_shape": np.array(shape_yx), "encoder": encoder, **stated})
    return path


def write_foreign(
    path: Path, grid_yx: np.ndarray, *, channels: int = CHANNELS, seed: int = 0, dtype: str = "float32"
) -> Path:
    """Write a feature file of another tool: no grid, no thumbnail."""
    with h5py.File(path, "w") as file:
        file["features"] = np.random.default_rng(seed).normal(size=(len(grid_yx), channels)).astype(dtype)
        file["coords"] = grid_yx[:, ::-1] * STEP_PX
        file["coords"].attrs["patch_size_level0"] = STEP_PX
    return path


def write_table(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write slides.csv of a dataset folder."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(folder / "slides.csv", columns, rows)
    return folder


def write_dataset(
    folder: Path,
    *,
    train: int = 4,
    val: int = 4,
    test: int = 2,
    gap: float = 0.3,
    flip_test: bool = False,
    channels: int = CHANNELS,
) -> Path:
    """Write a set whose two classes differ by ``gap`` in the mean of V; the slides themselves do not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    for split, count in (("train", train), ("val", val), ("test", test)):
        for index in range(count):
            name, label = f"{split}_{index}", index % 2
            size = {"shape_yx": (6, 5 + index), "channels": channels}
            write_embedding(folder / f"{name}.h5", **size, mean=gap * label, seed=len(rows))  # type: ignore[arg-type]
            written = 1 - label if flip_test and split == "test" else label
            rows.append({"slide": f"{name}.tif", "label": written, "split": split, "patient": name})
    return write_table(folder, rows)
