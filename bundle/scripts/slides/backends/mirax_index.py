"""Where the images of a MIRAX slide lie, by its index (https://openslide.org/formats/mirax)."""

import configparser
import math
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.errors import SlideError

OVERLAPS = ("OVERLAP_X", "OVERLAP_Y")
IMAGES = ("IMAGENUMBER_X", "IMAGENUMBER_Y", "CameraImageDivisionsPerSide")
"""Keys of the images along x and y, and of those along a side of the camera's photo."""

REMEDY = ": compare the file with its source"
_VERSION_BYTES = 5
"""Of the index, before the identifier of the slide; behind that stands where the list of the levels begins."""


class StoredImage(NamedTuple):
    """Where an image lies: its file, its first byte, its length in bytes."""

    path: Path
    start: int
    length: int


def images_of(path: Path, level: int) -> list[StoredImage]:
    """List the images of a level.

    Args:
        path: slide file (.mrxs); its folder lies beside it.
        level: pyramid level, 0 the finest.

    Raises:
        OSError: A file cannot be read.
        ValueError: The index says of an image what cannot be: no bytes, bytes past the end of its file, or two for one place.
    """
    folder = path.with_suffix("")
    settings = _settings(folder / "Slidedat.ini")
    files = [folder / settings["DATAFILE"][f"FILE_{n}"] for n in range(int(settings["DATAFILE"]["FILE_COUNT"]))]
    sizes = np.array([file.stat().st_size for file in files])
    content = np.fromfile(folder / settings["HIERARCHICAL"]["INDEXFILE"], dtype=np.uint8)
    (table,) = _words(content, _VERSION_BYTES + len(settings["GENERAL"]["SLIDE_ID"]), 1)
    entries = np.concatenate(list(_pages(content, table + 4 * level)))
    numbers, starts, lengths, of_file = entries.T
    if not ((of_file >= 0) & (of_file < len(files)) & (starts >= 0)).all():
        raise ValueError("an image lies in no file")
    if not ((lengths > 0) & (starts + lengths <= sizes[of_file])).all():
        raise ValueError("an image has no bytes, or ends past the end of its file")
    if len(np.unique(numbers)) < len(numbers):
        raise ValueError("two images for one place")
    return [StoredImage(files[file], start, length) for _, start, length, file in entries.tolist()]


def require_settings(path: Path) -> None:
    """Refuse settings of a slide that OpenSlide would follow to other pixels or out of its memory, before it opens the slide.

    Images that overlap by less than nothing it moves, and over NaN it does not return. Whatever else is wrong it says itself.

    Args:
        path: slide file (.mrxs); its folder lies beside it.

    Raises:
        SlideError: An overlap is less than 0 or no number, or the photos of the camera are no whole part of the images. The message
            does not name the slide.
    """
    ini = path.with_suffix("") / "Slidedat.ini"
    try:
        sections = _settings(ini)
    except (ValueError, OSError):
        return
    for section, key in product(sections, OVERLAPS):
        stated = sections[section].get(key) or ""
        with suppress(ValueError):
            if not 0 <= float(stated) < math.inf:
                raise SlideError(f"{ini.name}: {key}={stated} in {section}, expected pixels from 0 on{REMEDY}")
    with suppress(ValueError):
        across, down, divisions = (int(sections.get("GENERAL", key, fallback="") or "") for key in IMAGES)
        if divisions > 0 and (across % divisions or down % divisions):
            raise SlideError(
                f"{ini.name}: {across} x {down} images, expected multiples of {IMAGES[-1]}={divisions}{REMEDY}"
            )


def _settings(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True, delimiters=("=",))
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig", errors="replace"))
    except configparser.Error as error:
        raise ValueError(f"{path.name}: {error}".replace("\n", " ")) from error
    return parser


def _pages(content: NDArray[np.uint8], pointer: int) -> Iterator[NDArray[np.int64]]:
    """Yield the entries (n, 4) of each page of a level: number of the image, first byte, length, number of its file."""
    (at,) = _words(content, pointer, 1)
    _, at = _words(content, at, 2)
    seen: set[int] = set()
    while at:
        if at in seen:
            raise ValueError("a page of it comes back to itself")
        seen.add(at)
        count, following = _words(content, at, 2)
        yield _words(content, at + 8, 4 * count).reshape(-1, 4)
        at = following


def _words(content: NDArray[np.uint8], start: int, count: int) -> NDArray[np.int64]:
    part = content[start : start + 4 * count] if start >= 0 and count >= 0 else content[:0]
    if count < 0 or len(part) < 4 * count:
        raise ValueError(f"it has no {count} numbers at {start}")
    return part.view("<i4").astype(np.int64)
