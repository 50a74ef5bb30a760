"""What a run asks of an embedding file again and again, read once: its width, its levels, its encoder, its fingerprint."""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import h5py

from ..common.hdf5 import dataset_of
from .foreign import no_patch
from .store import is_ours, opened_embedding

DIGITS = 16  # of a fingerprint
CHECKED_ROWS = 64  # for the fingerprint of a file of another tool, which has no checksum
KEPT_FILES = 65536
UNKNOWN = "unknown"


@dataclass(frozen=True)
class EmbeddingFacts:
    """Facts of one embedding file.

    Attributes:
        patches: N.
        channels: C.
        levels: L; None where the file has no thumbnail.
        encoder: of a file of ours the encoder's name and hash, of TRIDENT's the name, else "unknown".
        fingerprint: what tells one slide's embedding from any other's, whatever it is called, in 16 hexadecimal digits: from the checksum
            of V, O and T that our files hold; of files of other tools, from the coordinates and the first vectors. It does not tell the
            slide's or patient's name.
    """

    patches: int
    channels: int
    levels: int | None
    encoder: str
    fingerprint: str


def facts_of(path: Path) -> EmbeddingFacts:
    """Return the facts of a file, which is opened once as long as it stays as it is; the values of its patches are not read.

    Raises:
        SlideError: the file is no feature file, or holds no patch.
    """
    try:
        status = path.stat()
    except OSError:  # the error of opening it says more
        return _read(path)
    return _kept(path.absolute(), (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=KEPT_FILES)
def _kept(path: Path, status: tuple[int, ...]) -> EmbeddingFacts:
    return _read(path)


def _read(path: Path) -> EmbeddingFacts:
    with opened_embedding(path) as file:
        features = dataset_of(file, "features")
        if not features.size:
            raise no_patch(path)
        ours = is_ours(file)
        stated = file.attrs.get("encoder", features.attrs.get("encoder", "None"))
        return EmbeddingFacts(
            patches=int(features.shape[-2]),
            channels=int(features.shape[-1]),
            levels=dataset_of(file, "thumbnail").shape[2] // 3 if ours and "thumbnail" in file else None,
            encoder=UNKNOWN if str(stated) == "None" else str(stated),
            fingerprint=str(file.attrs["checksum"]).removeprefix("sha256:")[:DIGITS] if ours else _digest(file),
        )


def _digest(file: h5py.File) -> str:
    digest = hashlib.sha256()
    features, coords = dataset_of(file, "features"), dataset_of(file, "coords")
    for values in (coords[()], (features[0] if features.ndim == 3 else features)[:CHECKED_ROWS]):
        digest.update(f"{values.shape} {values.dtype.str}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:DIGITS]
