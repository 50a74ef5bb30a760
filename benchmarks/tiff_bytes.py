"""The bytes of a TIFF, read and changed by tag, independently of every TIFF library and of the bundle's own walk.

What is damaged must not be found by the code that is tried.
"""

import struct
from dataclasses import dataclass
from random import Random

TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
TYPE_CODES = {
    1: "B",
    2: "B",
    3: "H",
    4: "I",
    5: "I",
    6: "B",
    7: "B",
    8: "H",
    9: "I",
    13: "I",
    16: "Q",
    17: "Q",
    18: "Q",
}
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, ORIENTATION, SAMPLES = (
    256,
    257,
    258,
    259,
    262,
    270,
    274,
    277,
)
X_RESOLUTION, Y_RESOLUTION, PLANAR, UNIT, PREDICTOR, TILE_WIDTH, TILE_LENGTH = 282, 283, 284, 296, 317, 322, 323
OFFSETS, COUNTS, SUB_DIRECTORIES, SAMPLE_FORMAT, JPEG_TABLES, SUBSAMPLING = 324, 325, 330, 339, 347, 530


@dataclass(frozen=True)
class Entry:
    """A tag of a directory: where it stands, and where its values stand."""

    at: int
    tag: int
    type: int
    count: int
    values_at: int


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF: its place, its tags and the place of the link to the next one."""

    at: int
    entries: tuple[Entry, ...]
    next_at: int


class Tiff:
    """The bytes of a TIFF, to be read and changed by tag.

    Args:
        content: a whole file.
    """

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        self.order = "<" if content[:2] == b"II" else ">"
        self.big = self.number("H", 2) == 43
        self.link = "Q" if self.big else "I"
        self.directories: list[Directory] = []
        left = [self.number(self.link, 8 if self.big else 4)]
        while left:
            at = left.pop(0)
            if at and at not in {known.at for known in self.directories}:
                directory = self._directory(at)
                self.directories.append(directory)
                left += [self.number(self.link, directory.next_at)]
                left += [
                    place for entry in directory.entries if entry.tag == SUB_DIRECTORIES for place in self.values(entry)
                ]

    def _directory(self, at: int) -> Directory:
        first, size = (at + 8, 20) if self.big else (at + 2, 12)
        entries = []
        for place in range(first, first + size * self.number("Q" if self.big else "H", at), size):
            tag, kind = self.number("H", place), self.number("H", place + 2)
            count, values_at = self.number(self.link, place + 4), place + (12 if self.big else 8)
            if count * TYPE_BYTES.get(kind, 1) > (8 if self.big else 4):
                values_at = self.number(self.link, values_at)
            entries.append(Entry(place, tag, kind, count, values_at))
        return Directory(at, tuple(entries), first + size * len(entries))

    def number(self, code: str, at: int) -> int:
        """Read one number."""
        return int(struct.unpack_from(self.order + code, self.content, at)[0])

    def put(self, code: str, at: int, value: int) -> None:
        """Write one number, cut to its size; past the end nothing happens."""
        if at + struct.calcsize(code) <= len(self.content):
            struct.pack_into(self.order + code, self.content, at, value % (1 << 8 * struct.calcsize(code)))

    def values(self, entry: Entry) -> list[int]:
        """The values of a tag; of a fraction the numerators."""
        return [
            self.number(TYPE_CODES[entry.type], entry.values_at + k * TYPE_BYTES[entry.type])
            for k in range(entry.count)
        ]

    def set(self, entry: Entry, value: int, index: int = 0) -> None:
        """Change one value of a tag."""
        self.put(TYPE_CODES[entry.type], entry.values_at + index * TYPE_BYTES[entry.type], value)

    def entries(self, *tags: int) -> list[Entry]:
        """All tags of these kinds, directory by directory."""
        return [entry for directory in self.directories for entry in directory.entries if entry.tag in tags]

    def first_or_any(self, rng: Random, *tags: int) -> Entry | None:
        """One of the tags, three times out of four that of the first directory."""
        found = self.entries(*tags)
        return rng.choice(found[:1] * 3 + found) if found else None
