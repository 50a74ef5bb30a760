"""The embedding files of a run: of each the header is read once, and the values are verified once, as long as it stays as it is."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py

from ..common.hdf5 import dataset_of
from ..common.option_words import Precision, words
from ..slides.geometry import PatchGrid
from .checksums import require_sealed
from .embedding_values import no_patch, numbers_in, require_feature_shape
from .store import Embedding, is_ours, opened_embedding, read_foreign, read_ours

DIGITS = 16  # of a fingerprint
CHECKED_ROWS = 64  # for the fingerprint of a file of another tool, which has no checksum
KEPT_FILES = 65536
UNKNOWN = "unknown"

_LOGGER = logging.getLogger(__name__)

FileState = tuple[int, ...]
"""Device, inode, size and time of the last change, by which a file is known to be as it was; empty where there is none."""


@dataclass(frozen=True)
class EmbeddingHeader:
    """What an embedding file says without the values of its patches.

    Attributes:
        patches: N.
        channels: C.
        levels: L; None where the file has no thumbnail.
        encoder: of a file of ours the encoder's name and hash, of TRIDENT's the name, else "unknown".
        fingerprint: what tells one slide's embedding from any other's, whatever it is called, in 16 hexadecimal digits: from the
            checksum of V, O and T that our files hold; of files of other tools, from the coordinates and the first vectors. It
            does not tell the slide's or patient's name.
        attributes: the root attributes.
        precision: that the encoder computed in; None where the file does not say.
        state: of the file when it was read.
        bytes_per_number: of the features as they are kept in memory.
        verified: whether all values were then compared with the checksums.
    """

    patches: int
    channels: int
    levels: int | None
    encoder: str
    fingerprint: str
    attributes: Mapping[str, Any]
    precision: Precision | None = None
    state: FileState = ()
    bytes_per_number: int = 4
    verified: bool = False


class EmbeddingFile:
    """One embedding file, ours or of another tool; :func:`embedding_file` returns the one of a path.

    Every answer is of the file as it is now: one that has changed is opened again, and verified again.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header: EmbeddingHeader | None = None
        self._grid: tuple[FileState, PatchGrid] | None = None
        self._keeps = False
        self._kept: tuple[FileState, Embedding] | None = None

    @property
    def header(self) -> EmbeddingHeader:
        """What it says without the values of its patches.

        Raises:
            SlideError: the file is no feature file, or holds no patch.
        """
        state = state_of(self.path)
        if self._header is None or not state or self._header.state != state:
            with opened_embedding(self.path) as file:
                self._header = header_in(file, self.path, state)
        return self._header

    @property
    def grid(self) -> PatchGrid:
        """Where the cells of V lie.

        Raises:
            SlideError: see :meth:`read`.
        """
        state = state_of(self.path)
        if self._grid is None or not state or self._grid[0] != state:
            return self.read().grid
        return self._grid[1]

    def verify(self) -> EmbeddingHeader:
        """Return the header of a file of ours that is complete and holds what was written; its values are not kept.

        Raises:
            SlideError: the file cannot be read, does not say that it is complete, or a checksum differs.
        """
        state = state_of(self.path)
        if self._header is None or not self._is_verified(state):
            with opened_embedding(self.path) as file:
                require_sealed(file, self.path)
                self._header = replace(header_in(file, self.path, state), verified=True)
        return self._header

    def read(self) -> Embedding:
        """Read it whole; a file of ours is compared with its checksums, once.

        Raises:
            SlideError: the file is not such a file, is damaged, holds no patch, or its coordinates lie on no regular grid of a
                size that a slide can have.
        """
        state = state_of(self.path)
        if self._kept is not None and state and self._kept[0] == state:
            return self._kept[1]
        with opened_embedding(self.path) as file:
            ours = is_ours(file)
            verify = not self._is_verified(state)
            embedding = read_ours(file, self.path, verify=verify) if ours else read_foreign(file, self.path)
            if self._header is None or self._header.state != state:
                self._header = header_in(file, self.path, state)
        self._header = replace(self._header, verified=ours)
        left_out = self._header.patches - len(embedding.features)
        if left_out and (self._grid is None or self._grid[0] != state):
            _LOGGER.debug(
                "%s: %d of %d patches are left out: their vector is zero, or another one has their cell",
                self.path,
                left_out,
                self._header.patches,
            )
        self._grid = state, embedding.grid
        if self._keeps:
            self._kept = state, embedding
        return embedding

    @contextmanager
    def keep_in_memory(self) -> Iterator[None]:
        """Keep in memory what is read inside the block, so that whoever reads it again there does not open the file."""
        before, self._keeps = self._keeps, True
        try:
            yield
        finally:
            self._keeps = before
            if not before:
                self._kept = None

    @property
    def cached_header(self) -> EmbeddingHeader | None:
        """The header as far as somebody has asked for it, for :meth:`remember` in another process; the file is not opened."""
        return self._header

    def remember(self, header: EmbeddingHeader | None) -> None:
        """Take the header that whoever wrote, read or verified the file, maybe in another process, has seen."""
        self._header = header or self._header

    def _is_verified(self, state: FileState) -> bool:
        return bool(state) and self._header is not None and self._header.verified and self._header.state == state


@lru_cache(maxsize=KEPT_FILES)
def embedding_file(path: Path) -> EmbeddingFile:
    """Return the file of a path, the same one at every call."""
    return EmbeddingFile(path)


def header_of(path: Path) -> EmbeddingHeader:
    """Return the header of a file, see :attr:`EmbeddingFile.header`."""
    return embedding_file(path).header


def read_embedding(path: Path) -> Embedding:
    """Read a file whole, see :meth:`EmbeddingFile.read`."""
    return embedding_file(path).read()


def header_in(file: h5py.File, path: Path, state: FileState = ()) -> EmbeddingHeader:
    """Read the header of an open file.

    Args:
        file: the file.
        path: its path, for messages.
        state: its state.

    Raises:
        SlideError: it is no feature file, or holds no patch.
    """
    features = numbers_in(file, "features", path)
    if not features.size:
        raise no_patch(path)
    patches, channels = require_feature_shape(features.shape, path)
    ours = is_ours(file)
    stated = file.attrs.get("encoder", features.attrs.get("encoder", "None"))
    return EmbeddingHeader(
        patches=patches,
        channels=channels,
        levels=dataset_of(file, "thumbnail").shape[2] // 3 if ours and "thumbnail" in file else None,
        encoder=UNKNOWN if str(stated) == "None" else str(stated),
        fingerprint=str(file.attrs["checksum"]).removeprefix("sha256:")[:DIGITS] if ours else _digest(file, path),
        attributes=dict(file.attrs),
        precision=_precision_in(file) if ours else None,
        state=state,
        bytes_per_number=min(features.dtype.itemsize, 4),
    )


def _precision_in(file: h5py.File) -> Precision | None:
    """As it is stated, by files of before among the parameters alone."""
    stated = file.attrs.get("precision") or json.loads(str(file.attrs.get("parameters", "{}"))).get("precision")
    return next((word for word in words(Precision) if word == stated), None)


def _digest(file: h5py.File, path: Path) -> str:
    digest = hashlib.sha256()
    features, coords = numbers_in(file, "features", path), numbers_in(file, "coords", path)
    for values in (coords[()], (features[0] if features.ndim == 3 else features)[:CHECKED_ROWS]):
        digest.update(f"{values.shape} {values.dtype.str}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:DIGITS]


def state_of(path: Path) -> FileState:
    """Return by what a file is known to be as it was."""
    try:
        status = path.stat()
    except OSError:  # the error of opening it says more
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
