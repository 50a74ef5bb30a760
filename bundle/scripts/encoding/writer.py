"""Writing an embedding file: row by row, whole or not at all, and sealed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
from numpy.typing import DTypeLike, NDArray

from ..common.errors import SlideError
from ..common.files import atomic_path
from ..common.hdf5 import new_hdf5
from ..common.journal import EMBEDDING_FORMATS, is_our_hdf5
from .checksums import seal
from .embedding_file import EmbeddingHeader, header_in, state_of

CHUNK_ROWS = 4096  # a chunk of one row makes a file load thirty times slower


@contextmanager
def embedding_writer(
    path: Path,
    *,
    patches: int,
    channels: int,
    dtype: DTypeLike = "float32",
    announce: Callable[[EmbeddingHeader], None] | None = None,
) -> Iterator[h5py.File]:
    """Open ``path`` for writing ``features``, ``coords`` and ``grid`` of at most ``patches`` rows, empty at first.

    The file appears under its name only when whole: with its checksums and, last, the mark ``complete``.

    Args:
        path: the file.
        patches: rows at most.
        channels: C.
        dtype: of the features.
        announce: is called with the header of the whole file, so that nobody has to open it for that.

    Raises:
        SlideError: a file of another tool, or of another stage, has the name.
    """
    if path.is_file() and not is_our_hdf5(path, formats=EMBEDDING_FORMATS, damaged=True):
        raise SlideError(
            f"{path}: a file of another tool or stage, which stays; expected none, or an embedding of ours: name another folder"
        )
    chunk = max(1, min(patches, CHUNK_ROWS))
    with atomic_path(path) as partial, new_hdf5(partial) as file:
        for name, width, kind in (("features", channels, dtype), ("coords", 2, "int64"), ("grid", 2, "int32")):
            shape, most = (0, width), (max(1, patches), width)
            file.create_dataset(name, shape, maxshape=most, dtype=kind, chunks=(chunk, width))
        yield file
        seal(file)
        header = header_in(file, path) if announce else None
    if announce and header:
        announce(replace(header, state=state_of(path)))


def append_rows(file: h5py.File, **rows: NDArray[Any]) -> None:
    """Add rows (n, width) to the datasets named."""
    for name, values in rows.items():
        dataset = file[name]
        dataset.resize(len(dataset) + len(values), axis=0)
        dataset[len(dataset) - len(values) :] = values


def write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Set root attributes; a value of None is left out."""
    for name, value in attributes.items():
        if value is not None:
            file.attrs[name] = value
