"""Outputs that are either whole or absent."""

import csv
import errno
import hashlib
import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import StorageError

_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; on success flush it to disk and rename it to ``path``.

    The name keeps the suffix of ``path`` (writers that choose a format by suffix need it). On an error the partial file is
    removed and ``path`` keeps whatever it held before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error that ends all writing to ``folder`` (disk full, quota, mounted read-only) into a StorageError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE_ERRORS:
            raise
        raise StorageError(
            f"{folder}: {error.strerror or error}; slides finished so far are kept: make room there and run the same command again"
        ) from error


def remove_partial(folder: str | os.PathLike[str], stems: Container[str]) -> None:
    """Remove what killed runs left of the outputs ``stems`` in ``folder``; only for a run that alone writes them."""
    for path in Path(folder).glob(".*.partial*"):
        if path.name.split(".partial")[0].rpartition(".")[0][1:] in stems:
            path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV with a header of ``columns``; keys outside ``columns`` are an error."""
    with atomic_path(path) as partial, open(partial, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(rows)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def relative_to(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return ``path`` relative to ``folder``; absolute where they lie on different drives."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return str(Path(path).resolve())
