"""The directories of a TIFF, read within bounds and by no TIFF library: native readers follow what they say blindly."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from .tiff_page import TiffDirectories, TiffPage

MAX_DIRECTORIES = 4096
MAX_ENTRIES = 1024
MAX_CHILDREN = 64
MAX_TEXT_BYTES = 2**26
MAX_SIDE_PX = 2**21
"""Side of the largest page, some 500 mm at 0.25 um/px."""

MAX_TILE_PX = 2**26
"""Pixels of the largest tile."""

_DTYPES = {1: "u1", 2: "S1", 3: "u2", 4: "u4", 5: "2u4", 6: "i1", 7: "S1", 8: "i2", 9: "i4", 10: "2i4"}
_DTYPES |= {11: "f4", 12: "f8", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_WHOLE_NUMBERS = frozenset({1, 3, 4, 13, 16, 18})
_TEXTS = frozenset({1, 2, 7})
_MAGIC: dict[bytes, tuple[Literal["<", ">"], bool]] = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}
_NDPI_TAG = 65420
_TEXT_TAGS = frozenset({270, 305, 700})
_READ_TAGS = _TEXT_TAGS | {
    254, 256, 257, 258, 259, 262, 274, 277, 282, 283, 284, 296, 317, 322, 323, 324, 325, 330, 338, 339, 347,
}  # fmt: skip
"""Tags without which the pixels, their size or the scanner would be taken for others."""

_INT64_SAFE = 2**62


def read_directories(path: Path) -> TiffDirectories | None:
    """Read the directories of a TIFF, classic or BigTIFF; ``None`` where the file does not begin as one.

    Raises:
        SlideError: A directory is met twice, or lies past the end of the file, or states what cannot be. Such are values that the
            file has no room for, a size of 0 or beyond all slides, a tag of a wrong type. The message does not name the file.
    """
    with open(path, "rb") as content:
        head = content.read(132)
        if head[:4] not in _MAGIC or head[128:] == b"DICM":  # DICOM may have a TIFF's head before its own
            return None
        source = _Source(content.fileno(), *_MAGIC[head[:4]])
        return source.directories()


@dataclass(frozen=True)
class _Entry:
    """Where a tag's values lie, how many there are, and TIFF's number of their type."""

    kind: int
    count: int
    at: int


class _Source:
    """An open TIFF."""

    def __init__(self, descriptor: int, order: Literal["<", ">"], is_big: bool) -> None:
        self._descriptor = descriptor
        self._order = order
        self._is_big = is_big
        self._size = os.fstat(descriptor).st_size
        self._seen: set[int] = set()
        self._is_ndpi = False

    def directories(self) -> TiffDirectories:
        """Follow the chain of directories to its end."""
        offset = self._first()
        pages: list[TiffPage] = []
        while offset:
            entries, following = self._entries(offset, len(pages))
            page = _Directory(self, entries, len(pages), offset).page()
            pages.append(replace(page, children=tuple(self._children(entries, len(pages)))))
            offset = following
        if not pages:
            raise SlideError("a TIFF without a directory")
        return TiffDirectories(tuple(pages), self._is_ndpi)

    def _first(self) -> int:
        if self._is_big:
            if self.number(4, 2) != 8 or self.number(6, 2) != 0:
                raise SlideError("a BigTIFF whose header does not say that offsets have 8 bytes")
            return self.number(8, 8)
        wide = self.number(4, 8) if self._size >= 16 and self._order == "<" else 0
        if wide and self._has_ndpi_tag(wide):  # NDPI is a classic TIFF with offsets of 8 bytes
            self._is_ndpi = True
            return wide
        return self.number(4, 4)

    def _has_ndpi_tag(self, offset: int) -> bool:
        if offset + 2 > self._size:
            return False
        length = min(self.number(offset, 2), MAX_ENTRIES) * 12
        table = os.pread(self._descriptor, length, offset + 2)
        return any(int.from_bytes(table[at : at + 2], "little") == _NDPI_TAG for at in range(0, len(table), 12))

    def _entries(self, offset: int, number: int) -> tuple[dict[int, _Entry], int]:
        """Read one directory's entries, by tag, and where the next one lies (0: nowhere)."""
        if offset in self._seen:
            raise SlideError(
                f"directory {number} is one that was met before: the chain of directories leads back to itself"
            )
        if len(self._seen) >= MAX_DIRECTORIES:
            raise SlideError(f"more than {MAX_DIRECTORIES} directories")
        self._seen.add(offset)
        counter, step = (8, 20) if self._is_big else (2, 12)
        count = self.number(offset, counter)
        start, end = offset + counter, offset + counter + count * step
        link = 8 if self._is_big or self._is_ndpi else 4
        if not 0 < count <= MAX_ENTRIES or end + link > self._size:
            raise SlideError(
                f"directory {number} states {count} entries, expected 1 to {MAX_ENTRIES} that lie in the file: it was cut off or "
                "damaged"
            )
        table = self.read(start, count * step)
        entries: dict[int, _Entry] = {}
        for at in range(0, count * step, step):
            tag = self._whole(table[at : at + 2])
            entry = self._entry(table[at : at + step], tag, start + at, number)
            if entry is None:
                continue
            if tag in entries and tag not in _TEXT_TAGS:
                raise SlideError(f"directory {number} states tag {tag} twice")
            entries.setdefault(tag, entry)
        return entries, self.number(end, link)

    def _entry(self, record: bytes, tag: int, at: int, number: int) -> _Entry | None:
        """Read what the entry at byte ``at`` says of its values; None for a type that the standard lets a reader skip."""
        wide = 8 if self._is_big else 4
        kind, values = self._whole(record[2:4]), self._whole(record[4 : 4 + wide])
        if not tag:
            raise SlideError(
                f"directory {number} has an entry without a tag, as where zeros were written over it: damaged"
            )
        if kind not in _DTYPES:
            if tag in _READ_TAGS:
                raise SlideError(f"directory {number}: tag {tag} is of type {kind}, which TIFF does not have: damaged")
            return None
        length = values * np.dtype(_DTYPES[kind]).itemsize
        inline = 4 + wide
        place = at + inline if length <= wide else self._whole(record[inline : inline + wide])
        if place + length > self._size:
            raise SlideError(
                f"directory {number}, tag {tag}: {values} values at byte {place}, but the file ends at {self._size}: it was "
                "cut off, or the directory is damaged"
            )
        return _Entry(kind, values, place)

    def _children(self, entries: dict[int, _Entry], number: int) -> Iterator[TiffPage]:
        """Read the SubIFDs; theirs are not followed."""
        if 330 not in entries:
            return
        offsets = self.values(entries[330])
        if len(offsets) > MAX_CHILDREN or entries[330].kind not in _WHOLE_NUMBERS:
            raise SlideError(f"directory {number} states {len(offsets)} SubIFDs, expected {MAX_CHILDREN} at most")
        for offset in offsets.tolist():
            below, _ = self._entries(offset, number)
            yield _Directory(self, below, number, offset).page()

    def read(self, offset: int, length: int) -> bytes:
        """Read bytes that must be there."""
        content = os.pread(self._descriptor, length, offset) if offset + length <= self._size else b""
        if len(content) != length:
            raise SlideError(
                f"a directory of the TIFF lies at byte {offset}, but the file ends at {self._size}: it was cut off"
            )
        return content

    def number(self, offset: int, length: int) -> int:
        """Read one whole number."""
        return self._whole(self.read(offset, length))

    def _whole(self, content: bytes) -> int:
        return int.from_bytes(content, "little" if self._order == "<" else "big")

    def values(self, entry: _Entry) -> NDArray[np.generic]:
        """Read all values of a tag; those of a fraction are pairs."""
        dtype = np.dtype(_DTYPES[entry.kind]).newbyteorder(self._order)
        return np.frombuffer(self.read(entry.at, entry.count * dtype.itemsize), dtype=dtype)


class _Directory:
    """The entries of one directory, turned into a page."""

    def __init__(self, source: _Source, entries: dict[int, _Entry], number: int, offset: int) -> None:
        self._source = source
        self._entries = entries
        self._number = number
        self._offset = offset

    def page(self) -> TiffPage:
        """Read what matters of the directory."""
        width, height = (self._one(tag) for tag in (256, 257))
        if not (0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX):
            self._refuse(f"an image of {width} x {height} px, expected 1 to {MAX_SIDE_PX} px per side")
        tile_xy_px = self._tile()
        samples = self._one(277, 1)
        return TiffPage(
            number=self._number,
            offset=self._offset,
            width=width,
            height=height,
            tile_xy_px=tile_xy_px,
            compression=self._one(259, 1),
            photometric=self._one(262) if 262 in self._entries else None,
            samples=samples,
            bits=self._some(258, (1,)),
            sample_formats=self._some(339, (1,)),
            extra_samples=self._some(338, ()),
            planar=self._one(284, 1),
            predictor=self._one(317, 1),
            orientation=self._one(274, 1),
            subfile=self._one(254, 0),
            offsets=self._numbers(324) if tile_xy_px else np.empty(0, np.int64),
            counts=self._numbers(325) if tile_xy_px else np.empty(0, np.int64),
            description=self._text(270),
            software=self._text(305),
            xmp=self._text(700),
            jpeg_tables=self._bytes(347) if 347 in self._entries else None,
            resolution_xy=(self._resolution(282), self._resolution(283)),
            resolution_unit=self._unit(),
        )

    def _tile(self) -> tuple[int, int] | None:
        stated = [tag for tag in (322, 323, 324, 325) if tag in self._entries]
        if not stated:
            return None
        if len(stated) < 4:
            self._refuse(f"of the tags of tiles, 322 to 325, only {', '.join(map(str, stated))} are there")
        width, height = self._one(322), self._one(323)
        if not (width > 0 and height > 0 and width * height <= MAX_TILE_PX):
            self._refuse(f"tiles of {width} x {height} px, expected 1 to {MAX_TILE_PX} px in all")
        return width, height

    def _numbers(self, tag: int) -> NDArray[np.int64]:
        entry = self._entries[tag]
        if entry.kind not in _WHOLE_NUMBERS:
            self._refuse(f"tag {tag} is of type {entry.kind}, expected whole numbers")
        values = self._source.values(entry)
        return np.minimum(values.astype(np.uint64), np.uint64(_INT64_SAFE)).astype(np.int64)

    def _some(self, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        if tag not in self._entries:
            return default
        if self._entries[tag].count > MAX_ENTRIES:
            self._refuse(f"tag {tag} has {self._entries[tag].count} values, expected one per sample")
        return tuple(self._numbers(tag).tolist())

    def _one(self, tag: int, default: int | None = None) -> int:
        if tag not in self._entries:
            if default is None:
                self._refuse(f"tag {tag} is missing")
            return default
        if self._entries[tag].count != 1:
            self._refuse(f"tag {tag} has {self._entries[tag].count} values, expected one")
        return int(self._numbers(tag)[0])

    def _bytes(self, tag: int) -> bytes:
        entry = self._entries[tag]
        return self._source.values(replace(entry, count=min(entry.count, MAX_TEXT_BYTES))).tobytes()

    def _text(self, tag: int) -> str:
        entry = self._entries.get(tag)
        if entry is None:
            return ""
        if entry.kind not in _TEXTS:
            self._refuse(f"tag {tag} is of type {entry.kind}, expected text")
        return self._bytes(tag).partition(b"\0")[0].decode("utf-8", errors="replace")

    def _resolution(self, tag: int) -> float | None:
        entry = self._entries.get(tag)
        if entry is None or entry.kind not in (5, 10, 11, 12) or not entry.count:
            return None
        values = self._source.values(replace(entry, count=1))[0]
        above, below = values.tolist() if entry.kind in (5, 10) else (float(values), 1)
        if not below or not np.isfinite(above) or above / below <= 0:
            return None
        return float(above / below)

    def _unit(self) -> int:
        entry = self._entries.get(296)
        if entry is None:
            return 2  # TIFF 6.0: the inch is the default
        return self._one(296) if entry.kind in _WHOLE_NUMBERS and entry.count == 1 else 1

    def _refuse(self, what: str) -> NoReturn:
        raise SlideError(f"directory {self._number}: {what}")
