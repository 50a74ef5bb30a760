"""What a compressed tile says of itself in its first bytes."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

HEAD_BYTES = 2048
"""Enough for the tables and the frame header of nearly every JPEG tile."""

_START_OF_TILE_PART, _START_OF_DATA, _END_OF_CODESTREAM = 0xFF90, 0xFF93, 0xFFD9
_MOST_AFTER_FF, _IN_PACKETS = 0x8F, (0x91, 0x92)
_TILE_PART_BYTES = 10  # length of the segment that begins a tile part
_SIZ = b"\xff\x4f\xff\x51"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment


@dataclass(frozen=True)
class TileHead:
    """Size and kind of a tile: ``colour`` is ``None`` where its markers do not tell, and the directory does."""

    width: int
    height: int
    components: int
    bits: int
    colour: Literal["rgb", "ycbcr"] | None = None


def jpeg_head(content: bytes) -> TileHead | None:
    """Read the markers of a JPEG up to its frame header (ITU T.81, B.2.2); ``None`` where there is none in ``content``."""
    colour: Literal["rgb", "ycbcr"] | None = None
    if content[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 4 <= len(content):
        if content[at] != 0xFF:
            return None
        marker = content[at + 1]
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if marker in (_START_OF_SCAN, _END_OF_IMAGE) or length < 2:
            return None
        if marker == 0xE0 and segment[:5] == b"JFIF\0":
            colour = colour or "ycbcr"
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            colour = "rgb" if segment[11] == 0 else "ycbcr"
        elif marker in _FRAMES:
            return _frame(segment, colour)
        at += 2 + length
    return None


def _frame(segment: bytes, colour: Literal["rgb", "ycbcr"] | None) -> TileHead | None:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return None
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    names, samplings = (bytes(segment[6 + first : 6 + 3 * segment[5] : 3]) for first in (0, 1))
    if names == b"RGB":
        colour = "rgb"
    elif colour is None and len(set(samplings)) > 1:
        colour = "ycbcr"  # nobody halves a colour of RGB
    return TileHead(width, height, segment[5], segment[0], colour)


def is_jpeg_tables(content: bytes) -> bool:
    """Whether segments lead from the start of a stream of tables to its end."""
    if content[:2] != b"\xff\xd8":
        return False
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _END_OF_IMAGE:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            return False
        at += 2 + length
    return content[at : at + 2] == b"\xff\xd9"


def jpeg2000_head(content: bytes) -> TileHead | None:
    """Read the segment SIZ of a JPEG 2000 code stream (ITU T.800, A.5.1), which may lie in the boxes of a JP2 file."""
    at = content[:512].find(_SIZ)
    segment = content[at + 4 : at + 4 + 39]
    if at < 0 or len(segment) < 39:
        return None
    right, bottom, left, top = (int.from_bytes(segment[i : i + 4], "big") for i in (4, 8, 12, 16))
    return TileHead(right - left, bottom - top, int.from_bytes(segment[36:38], "big"), (segment[38] & 0x7F) + 1)


def is_whole_codestream(content: bytes) -> bool:
    """Whether marker segments lead through a code stream from tile part to tile part to its end (ITU T.800, A.4).

    Coded data hold no two bytes from FF90 on but the markers of packets, so that some damage inside them is seen too.
    """
    at = _segments_end(content, 2, _START_OF_TILE_PART) if content[:2] == b"\xff\x4f" else None
    end = len(content) - 2
    if _word(content, end) != _END_OF_CODESTREAM:
        return False
    while at is not None and at != end:
        length = int.from_bytes(content[at + 6 : at + 10], "big") or end - at
        data = _segments_end(content, at, _START_OF_DATA)
        following = at + length
        if _word(content, at + 2) != _TILE_PART_BYTES or data is None or not data + 2 <= following <= end:
            return False
        coded = np.frombuffer(content[data + 2 : following], dtype=np.uint8)
        after = coded[1:][coded[:-1] == 0xFF]
        if ((after > _MOST_AFTER_FF) & ~np.isin(after, _IN_PACKETS)).any():
            return False
        if following != end and _word(content, following) != _START_OF_TILE_PART:
            return False
        at = following
    return at is not None


def _segments_end(content: bytes, at: int, until: int) -> int | None:
    """Follow marker segments from ``at`` to the marker ``until``; ``None`` where they do not lead there."""
    while _word(content, at) != until:
        length = _word(content, at + 2)
        if content[at : at + 1] != b"\xff" or length < 2:
            return None
        at += 2 + length
    return at


def _word(content: bytes, at: int) -> int:
    return int.from_bytes(content[max(0, at) : at + 2], "big")
