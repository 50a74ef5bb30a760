"""Slides in several files: which others belong to the one that names the slide."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

NAMED_BY_HAMAMATSU = re.compile(r"^\s*(?:ImageFile[^=]*|MapFile|OptimisationFile|MacroImage)=(.+?)\s*$", re.MULTILINE)
"""Keys of a VMS or VMU file whose values are names of files beside it."""

IMAGE_OF_VMS = re.compile(r"^\s*ImageFile[^=]*=(.+?)\s*$", re.MULTILINE)
MAP_OF_VMS = re.compile(r"^\s*MapFile=(.+?)\s*$", re.MULTILINE)
"""Those that OpenSlide makes the levels of."""

DICOM_HEAD_BYTES = 16384
SERIES_UID = re.compile(rb"\x20\x00\x0e\x00(?:UI..|..\x00\x00)([0-9.]+)", re.DOTALL)
"""Tag (0020,000E), with its type written or implied, and its value."""

_IMAGE_TYPE = re.compile(rb"\x08\x00\x08\x00(?:CS..|..\x00\x00)([A-Z0-9_ \\]+)", re.DOTALL)
"""Tag (0008,0008): ORIGINAL\\PRIMARY\\VOLUME\\NONE, or LABEL, OVERVIEW, THUMBNAIL in the third place (DICOM PS3.3 C.8.12.4.1.1)."""

_SOP_CLASS = re.compile(rb"\x02\x00\x02\x00UI..([0-9.]+)", re.DOTALL)
_WHOLE_SLIDE_IMAGE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
"""Tag (0002,0002), and its value for a VL Whole Slide Microscopy Image (DICOM PS3.4 B.5)."""

_MATRIX_SIDES = re.compile(rb"\x48\x00[\x06\x07]\x00(?:UL)?\x04\x00(?:\x00\x00)?(.{4})", re.DOTALL)
"""Tags (0048,0006) and (0048,0007): columns and rows of the whole image."""


@dataclass(frozen=True)
class DicomHead:
    """What the head of a DICOM file tells.

    Attributes:
        series: its own and those it refers to; empty where the head does not tell.
        is_volume: it shows the tissue: not the label or an overview of the glass, nor another kind of object.
        pixels: of the whole image; 0 where the head does not tell.
    """

    series: frozenset[bytes]
    is_volume: bool
    pixels: int


def companions_of(path: Path) -> list[Path]:
    """List the files besides ``path`` that a reader takes the slide's pixels from, sorted.

    Those are the data folder of an MRXS slide, the images that a VMS or VMU file names, and the DICOM files of the same folder and
    series. OpenSlide joins these to one slide. A DICOM file whose head does not tell its series counts as one of them.

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


def dicom_head(path: Path) -> DicomHead | None:
    """Read the head of a DICOM file; None where the file is none or cannot be read."""
    try:
        status = path.stat()
        return _head(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return None


def passed_over(path: Path, level_sizes_xy_px: Sequence[tuple[int, int]]) -> Path | None:
    """Find a file beside a DICOM slide that should be one of its levels, and that OpenSlide has passed over.

    That is a file of the series with tissue whose size no level has. One named ``.dcm`` that is none may have been a level, too,
    where the folder holds no other series.

    Args:
        path: a file of the slide.
        level_sizes_xy_px: of the levels that OpenSlide lists.

    Raises:
        OSError: the folder cannot be read.
    """
    own = dicom_head(path)
    if own is None:
        return None
    with os.scandir(path.parent) as entries:
        beside = sorted(Path(entry.path) for entry in entries if entry.name != path.name and entry.is_file())
    heads = {other: dicom_head(other) for other in beside}
    known = {other: head for other, head in heads.items() if head is not None}
    of_slide = [other for other, head in known.items() if not own.series or not head.series or own.series & head.series]
    volumes = [other for other in of_slide if known[other].is_volume]
    sizes = {width * height for width, height in level_sizes_xy_px}
    if len(volumes) < len(level_sizes_xy_px):
        sizes.add(0)  # one that does not tell its size may be any of them
    lost = [other for other in volumes if known[other].pixels not in sizes]
    if not lost and len(of_slide) == len(known):
        lost = [
            other for other in beside if other.suffix.lower() == ".dcm" and other not in known and other.name[0] != "."
        ]
    return lost[0] if lost else None


def _same_series(path: Path) -> list[Path]:
    series = _series_of_file(path)
    if series is None:
        return []
    found = []
    with os.scandir(path.parent) as entries:
        for entry in entries:
            if entry.name == path.name or not entry.is_file():
                continue
            # What cannot be opened is no part of the slide for OpenSlide either.
            with suppress(FileNotFoundError, PermissionError):
                others = _series_of_file(Path(entry.path))
                if others is not None and (not series or not others or series & others):
                    found.append(Path(entry.path))
    return sorted(found)


def _series_of_file(path: Path) -> frozenset[bytes] | None:
    status = path.stat()
    head = _head(path, status.st_size, status.st_mtime_ns)
    return None if head is None else head.series


@lru_cache(maxsize=2**16)  # a folder may hold thousands of files and every slide of it asks for all
def _head(path: Path, size: int, mtime_ns: int) -> DicomHead | None:
    """See :func:`dicom_head`. Kept while the file stays."""
    with open(path, "rb") as file:
        head = file.read(DICOM_HEAD_BYTES)
    if head[128:132] != b"DICM":
        return None
    image_type = _IMAGE_TYPE.search(head)
    parts = image_type[1].decode().split("\\") if image_type else []
    sides = [int.from_bytes(side, "little") for side in _MATRIX_SIDES.findall(head)[:2]]
    kind = _SOP_CLASS.search(head)
    return DicomHead(
        series=frozenset(SERIES_UID.findall(head)),
        is_volume=(kind is None or kind[1] == _WHOLE_SLIDE_IMAGE)
        and not any(part.strip() in ("LABEL", "OVERVIEW", "THUMBNAIL") for part in parts[2:3]),
        pixels=sides[0] * sides[1] if len(sides) == 2 else 0,
    )
