"""Outputs that are either whole or absent."""

import csv
import errno
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from .errors import StorageError

_STORAGE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_PARTIAL = re.compile(r"\.(?P<stem>.+)\.\d+\.partial(?:\.[^.]*)?", re.DOTALL)
"""A name that :func:`atomic_path` yields."""

_BLOCK_BYTES = 1 << 18  # read at once
_LONGEST_STEM_BYTES, _DIGEST_DIGITS = 200, 32
"""A partial name is at most 255 bytes with the process and the suffix around it."""


class Guard(Protocol):
    """Says which files of a folder may be replaced, and notes those that are written."""

    folder: Path

    def covers(self, path: Path) -> bool:
        """Whether a file lies in its folder."""
        ...

    def admit(self, path: Path) -> None:
        """Raise a RequestError where ``path`` may not be replaced."""
        ...

    def record(self, path: Path, partial: Path) -> None:
        """Note that ``partial``, which is whole, is about to become ``path``."""
        ...

    def wrote(self, name: str) -> None:
        """Note a file of its folder that appeared without its being asked."""
        ...


_GUARDS: list[Guard] = []
"""Of the outputs that this process holds, the latest last."""


@contextmanager
def guarded_by(guard: Guard) -> Iterator[None]:
    """Let ``guard`` watch over its folder: :func:`atomic_path` asks it."""
    _GUARDS.append(guard)
    try:
        yield
    finally:
        del _GUARDS[len(_GUARDS) - 1 - _GUARDS[::-1].index(guard)]  # the latest: the same may watch from before, too


def unguard() -> None:
    """Let nobody watch in a process that works for the one that holds folders: that one notes what it is told of."""
    _GUARDS.clear()


@contextmanager
def atomic_path(path: str | os.PathLike[str], *, guarded: bool = True) -> Iterator[Path]:
    """Yield a name beside ``path`` to write to; on success flush it to disk and rename it to ``path``.

    The name keeps the suffix of ``path`` (writers that choose a format by suffix need it). On an error the partial file is
    removed and ``path`` keeps whatever it held before.

    Args:
        path: the file.
        guarded: whether whoever holds its folder is asked; not of the files that the holding itself takes.

    Raises:
        RequestError: the folder is held and ``path`` is not ours to replace.
    """
    path = Path(path)
    guard = _guard_of(path) if guarded else None
    if guard is not None:
        guard.admit(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{_partial_stem(path.stem)}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        if guard is not None:
            guard.record(path, partial)
        os.replace(partial, path)
    except OSError as error:
        said = str(partial) in str(error) or storage_reason(error)  # HDF5 names a file in its text alone
        if error.filename == str(partial) or (error.filename is None and said):
            error.filename = str(path)  # by which the user knows it
        raise
    finally:
        partial.unlink(missing_ok=True)


def note_written(path: str | os.PathLike[str]) -> None:
    """Tell whoever holds its folder of a file that is not written by :func:`atomic_path`, such as a log that grows."""
    path = Path(path).absolute()
    guard = _guard_of(path)
    if guard is not None:
        guard.wrote(path.relative_to(guard.folder).as_posix())


def _guard_of(path: Path) -> Guard | None:
    """What watches over the nearest of the folders that a file lies in, the latest of equals."""
    covering = [guard for guard in reversed(_GUARDS) if guard.covers(path)]
    return max(covering, key=lambda guard: len(guard.folder.parts), default=None)


@contextmanager
def writing_to(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Turn an error that ends all writing to ``folder`` (disk full, quota, mounted read-only) into a StorageError."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        reason = storage_reason(error)
        if reason is None:
            raise
        raise StorageError(
            f"{folder}: {reason}; slides finished so far are kept: make room there and run the same command again"
        ) from error


def storage_reason(error: BaseException) -> str | None:
    """What the system says where an error ends all writing (disk full, quota, mounted read-only); None for any other.

    h5py tells of it in the text of a RuntimeError when a file is closed.
    """
    number = error_number(error)
    return os.strerror(number) if number in _STORAGE_ERRORS else None


def error_number(error: BaseException) -> int | None:
    """The system's number of an error, as in :mod:`errno`; None for one that has none."""
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (match := re.search(r"errno = (\d+)", str(error))):  # of h5py's
        number = int(match[1])
    return number


def remove_partial(folder: str | os.PathLike[str], stems: Iterable[str]) -> None:
    """Remove what killed runs left of the outputs ``stems`` in ``folder``; only for a run that alone writes them."""
    known = {_partial_stem(stem) for stem in stems}
    for path in Path(folder).glob(".*.partial*"):
        found = _PARTIAL.fullmatch(path.name)
        if found is not None and found["stem"] in known:
            path.unlink(missing_ok=True)


def _partial_stem(stem: str) -> str:
    """``stem`` as it stands in the name of its partial file: one that would make that name too long ends in its digest."""
    name = os.fsencode(stem)
    if len(name) <= _LONGEST_STEM_BYTES:
        return stem
    digest = hashlib.sha256(name).hexdigest()[:_DIGEST_DIGITS]
    return f"{name[: _LONGEST_STEM_BYTES - _DIGEST_DIGITS].decode(errors='ignore')}{digest}"


def write_json(path: str | os.PathLike[str], content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON."""
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_csv(path: str | os.PathLike[str], columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV with a header of ``columns``; keys outside ``columns`` are an error.

    What is not Unicode, such as a file's name in another encoding, is written with backslashes.
    """
    with (
        atomic_path(path) as partial,
        open(partial, "w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(columns))
        writer.writeheader()
        writer.writerows(rows)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for block in blocks_of(path):
        digest.update(block)
    return digest.hexdigest()


def blocks_of(path: str | os.PathLike[str]) -> Iterator[memoryview]:
    """Yield what a file holds, block by block; the next one is read over the last.

    Raises:
        OSError: it cannot be read.
    """
    block = memoryview(bytearray(_BLOCK_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            yield block[:count]


def relative_to(path: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return ``path`` relative to ``folder``, so that it leads there from there; absolute where they lie on different drives.

    Of a folder that is reached through a link, ".." is the folder above what the link leads to.
    """
    real_folder = os.path.realpath(folder)
    try:
        relative = os.path.relpath(path, folder)
        if os.path.realpath(os.path.join(real_folder, relative)) == os.path.realpath(path):
            return relative
        above, name = os.path.split(path)
        return os.path.relpath(os.path.join(os.path.realpath(above), name), real_folder)
    except ValueError:
        return str(Path(path).resolve())
