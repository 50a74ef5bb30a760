"""What a JPEG tile says of itself in its first bytes."""

from dataclasses import dataclass, field
from typing import Literal

HEAD_BYTES = 2048
"""Enough for the tables and the frame header of nearly every JPEG tile."""

_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ALONE = frozenset({0x01, *range(0xD0, 0xD8)})  # markers without a segment


@dataclass(frozen=True)
class TileHead:
    """Size and kind of a tile: ``colour`` is ``None`` where its markers do not tell, and the directory does.

    ``length`` are the bytes that say so; tiles of one writer begin with the same.
    """

    width: int
    height: int
    components: int
    bits: int
    colour: Literal["rgb", "ycbcr"] | None = None
    length: int = field(default=0, compare=False)


def jpeg_head(content: bytes) -> TileHead | None:
    """Read the markers of a JPEG up to its frame header (ITU T.81, B.2.2); ``None`` where there is none in ``content``.

    Of the colours JFIF goes before Adobe's marker, and that before the names of the components, as in libjpeg.
    """
    colour: Literal["rgb", "ycbcr"] | None = None
    if content[:2] != b"\xff\xd8":
        return None
    at, jfif = 2, False
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
            jfif = True
        elif marker == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            colour = "rgb" if segment[11] == 0 else "ycbcr"
        elif marker in _FRAMES:
            return _frame(segment, "ycbcr" if jfif else colour, at + 2 + length)
        at += 2 + length
    return None


def _frame(segment: bytes, colour: Literal["rgb", "ycbcr"] | None, length: int) -> TileHead | None:
    if len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
        return None
    height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    names, samplings = (bytes(segment[6 + first : 6 + 3 * segment[5] : 3]) for first in (0, 1))
    if colour is None and names == b"RGB":
        colour = "rgb"
    elif colour is None and len(set(samplings)) > 1:
        colour = "ycbcr"  # nobody halves a colour of RGB
    return TileHead(width, height, segment[5], segment[0], colour, length)


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
