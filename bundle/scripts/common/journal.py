"""What a stage wrote into a folder: a file of JSON lines beside its lock, from which a later run knows the files that are ours.

The first line has the stage and the request. Each of the next ones has a file and the SHA-256 of what it may hold, and is appended
before the file appears under its name. The last one says that the run came to its end. So a run that is killed anywhere leaves no
file that is not known.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import h5py

from .errors import RequestError
from .files import atomic_path, sha256_of
from .hdf5 import require_texts_that_end

SUFFIX = ".outputs.jsonl"
EMBEDDING_FORMATS = "dsnet-embedding/"
OUR_FORMATS = (EMBEDDING_FORMATS, "dsnet-patches/")
"""Beginnings of the root attribute ``format`` of our HDF5 files, which may be too large to hash."""

ANY = "*"
"""In the place of a digest: a log, which grows while it is written."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


@dataclass
class Journal:
    """The record of one stage, or one shard of it, in one folder.

    Attributes:
        path: the file of JSON lines.
        stage: what wrote.
        request: what decided the outputs, by name; plain JSON.
        files: the SHA-256 that each file written may have, by its name relative to the folder. There are two, of the last version
            and of the one before, as a kill may have left either. HDF5 files have none: they say themselves that they are ours.
        finished: whether the run came to its end.
    """

    path: Path
    stage: str
    request: dict[str, object]
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    finished: bool = False

    @property
    def folder(self) -> Path:
        """The folder that it is about."""
        return self.path.parent

    def start(self) -> None:
        """Write stage, request and the files that are known, whole or not at all."""
        lines = [{"stage": self.stage, "request": self.request}, *map(self._line, self.files)]
        with atomic_path(self.path, guarded=False) as partial:
            partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def add(self, name: str, *digests: str) -> None:
        """Note that the file ``name`` holds, or will hold, what has one of the digests."""
        if self.files.get(name) != digests:
            self.files[name] = digests
            self._append(self._line(name))

    def finish(self) -> None:
        """Note that the run came to its end."""
        self.finished = True
        self._append({"finished": True})

    def knows(self, name: str) -> bool:
        """Whether the file ``name`` is there and holds what this stage wrote.

        Raises:
            OSError: it cannot be read.
        """
        path = self.folder / name
        if name not in self.files or not path.is_file() or path.is_symlink():
            return False
        if path.suffix == ".h5":
            return is_our_hdf5(path, damaged=True)
        return ANY in self.files[name] or sha256_of(path) in self.files[name]

    def _line(self, name: str) -> dict[str, object]:
        return {"file": name, "sha256": list(self.files[name])}

    def _append(self, line: Mapping[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_journals(folder: str | os.PathLike[str]) -> list[Journal]:
    """Read what the stages that wrote into ``folder`` say of it.

    Raises:
        RequestError: a file has the name of a journal and is none.
    """
    return [_read(path) for path in sorted(Path(folder).glob(f".*{SUFFIX}"))]


def require_as_written(folder: str | os.PathLike[str], names: Iterable[str], *, expected: str) -> None:
    """Refuse files that are not what one finished run of their stage has left; one that no stage here knows is taken as is.

    Args:
        folder: where the stage wrote.
        names: of files in it, relative to the folder.
        expected: what wrote them and what to do, for the message.

    Raises:
        RequestError: the stage that wrote one is still at work or was stopped, so that files of two runs may lie together. Or one
            has changed or is gone, or a file in the folder has the name of a journal and is none.
        OSError: one cannot be read.
    """
    journals = read_journals(folder)
    for name in names:
        writers = [journal for journal in journals if name in journal.files]
        noted = [journal.files[name] for journal in writers]
        path = Path(folder) / name
        if stage := next((journal.stage for journal in writers if not journal.finished), None):
            raise RequestError(
                f"{path}: {stage} was stopped or is still at work here, so that files of two runs may lie together; expected "
                f"{expected}"
            )
        if noted and not path.is_file():
            raise RequestError(f"{path}: gone since it was written, expected {expected}")
        digest = sha256_of(path) if noted else ""
        if noted and not any(digest in digests or ANY in digests for digests in noted):
            raise RequestError(f"{path}: changed since it was written, expected {expected}")


def digests_of(path: Path) -> tuple[str, ...]:
    """What a journal notes of a file's content: its SHA-256; nothing of an HDF5 file.

    Raises:
        OSError: it cannot be read.
    """
    return () if path.suffix == ".h5" else (sha256_of(path),)


def is_our_hdf5(path: Path, *, formats: str | tuple[str, ...] = OUR_FORMATS, damaged: bool = False) -> bool:
    """Whether a file says that it is an embedding or patches of ours.

    Args:
        path: the file.
        formats: beginnings of what it may say.
        damaged: what to say of an HDF5 file that cannot be opened; a journal may know that it was ours.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as head:
        signature = head.read(len(HDF5_SIGNATURE))
    if signature != HDF5_SIGNATURE:
        return damaged and not signature
    try:
        with h5py.File(path, "r") as file:
            require_texts_that_end(file)
            return str(file.attrs.get("format", "")).startswith(formats)
    except (OSError, RuntimeError, KeyError):
        return damaged


def _may_be_ours(name: object) -> bool:
    """Whether a file below the folder may have this name."""
    if not isinstance(name, str) or "\0" in name:
        return False
    parts = PurePosixPath(name).parts
    try:
        fits = all(len(os.fsencode(part)) < 256 for part in parts)
    except UnicodeEncodeError:
        return False
    return fits and bool(parts) and parts[0] != "/" and ".." not in parts


def _read(path: Path) -> Journal:
    """Read one file; a last line that a kill cut short does not count.

    Raises:
        RequestError: its first line is not that of a journal.
    """
    lines: list[Any] = []
    # A folder, or a link to nowhere, counts as an empty file.
    content = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    for text in content.splitlines():
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            break
    head = lines[0] if lines else None
    if not isinstance(head, dict) or head.keys() != {"stage", "request"} or not isinstance(head["request"], dict):
        raise RequestError(
            f"{path}: not the record of outputs that a stage keeps under this name; expected none, or that of an earlier run: "
            "name another --output_dir, or move that file away"
        )
    journal = Journal(path, str(head["stage"]), head["request"])
    for line in (one for one in lines[1:] if isinstance(one, dict)):
        if _may_be_ours(line.get("file")) and isinstance(line.get("sha256"), list):
            journal.files[line["file"]] = tuple(line["sha256"])
        journal.finished = journal.finished or "finished" in line
    return journal
