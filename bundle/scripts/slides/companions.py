"""Slides in several files: which others belong to the one that names the slide."""

import os
import re
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

NAMED_BY_HAMAMATSU = re.compile(r"^\s*(?:ImageFile[^=]*|MapFile|OptimisationFile|MacroImage)=(.+?)\s*$", re.MULTILINE)
"""Keys of a VMS or VMU file whose values are names of files beside it."""

DICOM_HEAD_BYTES = 16384
SERIES_UID = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
"""Tag (0020,000E), with its type written or implied, and its value."""


def companions_of(path: Path) -> list[Path]:
    """List the files besides ``path`` that a reader takes the slide's pixels from, sorted.

    Those are the data folder of an MRXS slide, the images that a VMS or VMU file names, and the DICOM files of the same folder that
    are of the same series (OpenSlide joins them to one slide); a DICOM file whose head does not tell its series counts as one of them.

    Raises:
        OSError: ``path`` or its folder cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".mrxs":
        return sorted(file for file in path.with_suffix("").rglob("*") if file.is_file())
    if suffix in (".vms", ".vmu"):
        named = NAMED_BY_HAMAMATSU.findall(path.read_text(encoding="utf-8", errors="replace"))
        return sorted({path.parent / name for name in named if (path.parent / name).is_file()})
    return _same_series(path)


def is_dicom(path: Path) -> bool:
    """Whether a file begins as a DICOM file does.

    Raises:
        OSError: it cannot be read.
    """
    return _series_of_file(path) is not None


def _same_series(path: Path) -> list[Path]:
    series = _series_of_file(path)
    if series is None:
        return []
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name == path.name or not entry.is_file():
                continue
            with suppress(
                FileNotFoundError, PermissionError
            ):  # what cannot be opened is no part of the slide for OpenSlide either
                others = _series_of_file(Path(entry.path))
                if others is not None and (not series or not others or series & others):
                    found.append(Path(entry.path))
    return sorted(found)


def _series_of_file(path: Path) -> frozenset[bytes] | None:
    status = path.stat()
    return _series(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**16)  # a folder may hold thousands of files and every slide of it asks for all
def _series(path: Path, size: int, mtime_ns: int) -> frozenset[bytes] | None:
    """The series that the head of a DICOM file names, its own and those it refers to; None: not DICOM. Kept while the file stays."""
    with open(path, "rb") as file:
        head = file.read(DICOM_HEAD_BYTES)
    return frozenset(SERIES_UID.findall(head)) if head[128:132] == b"DICM" else None
