"""Damage to TIFF files, by kind: bytes, tags and structures, each drawn from a seeded generator."""

from collections.abc import Callable
from random import Random

from tiff_bytes import (
    BITS,
    COMPRESSION,
    COUNTS,
    DESCRIPTION,
    JPEG_TABLES,
    LENGTH,
    OFFSETS,
    ORIENTATION,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    SUBSAMPLING,
    TILE_LENGTH,
    TILE_WIDTH,
    WIDTH,
    X_RESOLUTION,
    Y_RESOLUTION,
    Entry,
    Tiff,
)

SIZES = (0, 1, 2, 7, 15, 16, 255, 1000, 65535, 65536, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
RESOLUTIONS = ((0, 1), (1, 0), (0, 0), (2**32 - 1, 1), (1, 2**32 - 1), (72, 1))
MPP_TEXTS = (
    "nan",
    "inf",
    "-0.5",
    "0",
    "0.0",
    "1e999",
    "0,499",
    "abc",
    "",
    "0.499 um",
    "0x1p-1",
    "-",
    "0.04",
    "99",
    "true",
    "$x",
)
CODES = {
    PHOTOMETRIC: (0, 1, 2, 3, 4, 5, 6, 8, 32803, 65535),
    SAMPLES: (0, 1, 2, 4, 5, 100, 65535),
    BITS: (0, 1, 4, 7, 12, 16, 32, 65535),
    COMPRESSION: (0, 1, 2, 5, 6, 7, 8, 32773, 33003, 33005, 34712, 34887, 50000, 50002, 65535),
    PLANAR: (0, 2, 3),
    SAMPLE_FORMAT: (0, 2, 3, 6),
    PREDICTOR: (2, 3, 9),
    ORIENTATION: (0, 3, 6, 9),
    SUBSAMPLING: (0, 1, 2, 4),
}

Mutation = Callable[[Tiff, Random], str]
"""Changes a file in place and says what it did."""


def cut(tiff: Tiff, rng: Random) -> str:
    """Cut the end off."""
    size = len(tiff.content)
    left = rng.choice([rng.randrange(size), int(2 ** rng.uniform(0, 12)), size - int(2 ** rng.uniform(0, 14))])
    del tiff.content[max(0, min(left, size - 1)) :]
    return f"cut to {len(tiff.content)} of {size} bytes"


def grown(tiff: Tiff, rng: Random) -> str:
    """Append random bytes."""
    tiff.content += rng.randbytes(rng.randrange(1, 5000))
    return "bytes appended"


def bits_anywhere(tiff: Tiff, rng: Random) -> str:
    """Flip some bits."""
    return _flip(tiff, rng, 0, len(tiff.content), rng.choice((1, 2, 8, 64)))


def bits_of_header(tiff: Tiff, rng: Random) -> str:
    """Flip some bits of the header."""
    return _flip(tiff, rng, 0, 16 if tiff.big else 8, rng.choice((1, 2, 4)))


def bits_of_directory(tiff: Tiff, rng: Random) -> str:
    """Flip some bits of a directory."""
    directory = rng.choice(tiff.directories)
    return _flip(tiff, rng, directory.at, directory.next_at + (8 if tiff.big else 4), rng.choice((1, 1, 2, 4)))


def bits_of_tile(tiff: Tiff, rng: Random) -> str:
    """Flip some bits of a tile."""
    index, offset, count = _tile(tiff, rng)
    return f"tile {index}: " + _flip(tiff, rng, offset, offset + count, rng.choice((1, 1, 2, 4, 32)))


def head_of_tile(tiff: Tiff, rng: Random) -> str:
    """Flip some bits where a tile states its own size and kind."""
    index, offset, count = _tile(tiff, rng)
    return f"head of tile {index}: " + _flip(tiff, rng, offset, offset + min(count, 200), rng.choice((1, 1, 2)))


def zeros(tiff: Tiff, rng: Random) -> str:
    """Fill a block of the disk with zeros."""
    size = rng.choice((512, 4096, 65536))
    at = rng.randrange(len(tiff.content)) // 512 * 512
    tiff.content[at : at + size] = bytes(len(tiff.content[at : at + size]))
    return f"{size} zeros at {at}"


def offset(tiff: Tiff, rng: Random) -> str:
    """Move a tile."""
    entry = tiff.first_or_any(rng, OFFSETS)
    if entry is None or not entry.count:
        return grown(tiff, rng)
    index, values = rng.randrange(entry.count), tiff.values(entry)
    old = values[index]
    new = rng.choice(
        (
            0,
            8,
            old - 16,
            old - 1,
            old + 1,
            old + 1000,
            len(tiff.content) - 3,
            len(tiff.content) + 999,
            2**32 - 1,
            values[0],
        )
    )
    tiff.set(entry, new, index)
    return f"tile {index}: offset {old} -> {new}"


def count(tiff: Tiff, rng: Random) -> str:
    """Change the size of a tile."""
    entry = tiff.first_or_any(rng, COUNTS)
    if entry is None or not entry.count:
        return grown(tiff, rng)
    index = rng.randrange(entry.count)
    old = tiff.values(entry)[index]
    new = rng.choice((0, 1, 10, old // 2, old - 1, old - 2, old + 1, old + 100, 2**31, 2**32 - 1))
    tiff.set(entry, new, index)
    return f"tile {index}: count {old} -> {new}"


def sides(tiff: Tiff, rng: Random) -> str:
    """Change a side of an image or of its tiles."""
    entry = tiff.first_or_any(rng, rng.choice((WIDTH, LENGTH, TILE_WIDTH, TILE_LENGTH)))
    if entry is None:
        return grown(tiff, rng)
    old = tiff.values(entry)[0]
    new = rng.choice((*SIZES, old * 2, old // 2, old + 1, old - 1, old + 300, old * 100))
    tiff.set(entry, new)
    return f"tag {entry.tag}: {old} -> {new}"


def code(tiff: Tiff, rng: Random) -> str:
    """Change what says how pixels are stored."""
    entry = tiff.first_or_any(rng, rng.choice(sorted(CODES))) or tiff.first_or_any(rng, PHOTOMETRIC)
    if entry is None:
        return grown(tiff, rng)
    old, new = tiff.values(entry)[0], rng.choice(CODES[entry.tag])
    tiff.set(entry, new)
    return f"tag {entry.tag}: {old} -> {new}"


def chain(tiff: Tiff, rng: Random) -> str:
    """Let a directory follow itself, an earlier one, or nothing that is one."""
    directory = rng.choice(tiff.directories)
    places = (directory.at, tiff.directories[0].at, rng.randrange(len(tiff.content)), len(tiff.content) + 10)
    how = rng.randrange(6)
    if how < 4:
        tiff.put(tiff.link, directory.next_at, places[how])
        return f"the directory at {directory.at} is followed by {places[how]}"
    tiff.put(tiff.link, 8 if tiff.big else 4, places[2] if how == 4 else tiff.directories[-1].at)
    return "another first directory"


def resolution(tiff: Tiff, rng: Random) -> str:
    """Change the resolution, as a tag or in the description."""
    texts = [(entry, found) for entry in tiff.entries(DESCRIPTION) if (found := _mpp_place(tiff, entry))]
    fractions = tiff.entries(X_RESOLUTION, Y_RESOLUTION)
    if texts and (not fractions or rng.random() < 0.5):
        text = rng.choice(MPP_TEXTS)
        for _, (first, last) in texts:
            tiff.content[first:last] = text.encode().ljust(last - first)[: last - first]
        return f"resolution text {text!r}"
    new = rng.choice(RESOLUTIONS)
    for entry in fractions:
        tiff.put("I", entry.values_at, new[0])
        tiff.put("I", entry.values_at + 4, new[1])
    return f"resolution {new}" if fractions else grown(tiff, rng)


def description(tiff: Tiff, rng: Random) -> str:
    """Replace a description by something else of its length."""
    entry = tiff.first_or_any(rng, DESCRIPTION)
    if entry is None:
        return grown(tiff, rng)
    bomb = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><OME>&b;</OME>'
    content = rng.choice(
        (b"\xff" * entry.count, bytes(entry.count), b"%s%n" * entry.count, rng.randbytes(entry.count), bomb)
    )
    tiff.content[entry.values_at : entry.values_at + entry.count] = content.ljust(entry.count, b"\0")[: entry.count]
    return f"description {content[:12]!r}"


def tag(tiff: Tiff, rng: Random) -> str:
    """Change a tag's number, type, count or place, or how many there are."""
    directory = rng.choice(tiff.directories)
    entry = rng.choice(directory.entries)
    how = rng.choice(("number", "type", "count", "huge count", "place", "entries"))
    if how == "number":
        tiff.put("H", entry.at, rng.randrange(65536))
    elif how == "type":
        tiff.put("H", entry.at + 2, rng.choice((0, 1, 2, 3, 4, 5, 7, 9, 11, 12, 13, 16, 99)))
    elif how == "entries":
        known = len(directory.entries)
        tiff.put("Q" if tiff.big else "H", directory.at, rng.choice((0, 1, known - 1, known + 1, 65535)))
    elif how == "place":
        tiff.put(tiff.link, entry.at + (12 if tiff.big else 8), rng.choice((0, 1, len(tiff.content), 2**32 - 1)))
    else:
        new = (2**31, 2**32 - 1, 10**8) if how == "huge count" else (0, 1, 2, entry.count + 1, max(0, entry.count - 1))
        tiff.put(tiff.link, entry.at + 4, rng.choice(new))
    return f"tag {entry.tag}: other {how}"


def jpeg_tables(tiff: Tiff, rng: Random) -> str:
    """Damage the tables that the tiles of a page share."""
    entry = tiff.first_or_any(rng, JPEG_TABLES)
    if entry is None:
        return bits_of_tile(tiff, rng)
    if rng.random() < 0.3:
        tiff.content[entry.values_at : entry.values_at + entry.count] = bytes(entry.count)
        return "JPEG tables of zeros"
    return "JPEG tables: " + _flip(tiff, rng, entry.values_at, entry.values_at + entry.count, 1)


MUTATIONS: tuple[Mutation, ...] = (
    cut, grown, bits_anywhere, bits_of_header, bits_of_directory, bits_of_tile, head_of_tile, zeros, offset, count, sides, code, chain,
    resolution, description, tag, jpeg_tables,
)  # fmt: skip


def _flip(tiff: Tiff, rng: Random, first: int, last: int, bits: int) -> str:
    places = [rng.randrange(first, max(first + 1, min(last, len(tiff.content)))) for _ in range(bits)]
    for place in places:
        tiff.content[place] ^= 1 << rng.randrange(8)
    return f"{bits} bits flipped, the first at {places[0]}"


def _tile(tiff: Tiff, rng: Random) -> tuple[int, int, int]:
    """A tile's number, offset and count."""
    pages = [
        {entry.tag: entry for entry in directory.entries}
        for directory in tiff.directories
        if {OFFSETS, COUNTS} <= {entry.tag for entry in directory.entries}
    ]
    page = rng.choice(pages[:1] * 3 + pages)
    index = rng.randrange(page[OFFSETS].count)
    return index, tiff.values(page[OFFSETS])[index], tiff.values(page[COUNTS])[index]


def _mpp_place(tiff: Tiff, entry: Entry) -> tuple[int, int] | None:
    """Where the number of "MPP = 0.5" or PhysicalSizeX="0.5" stands."""
    text = bytes(tiff.content[entry.values_at : entry.values_at + entry.count])
    for key, ends in ((b"MPP = ", b"|\0"), (b'PhysicalSizeX="', b'"\0')):
        if (found := text.find(key)) >= 0:
            first = last = found + len(key)
            while last < len(text) and text[last] not in ends:
                last += 1
            return entry.values_at + first, entry.values_at + last
    return None
