"""What a JPEG 2000 tile says of itself, and whether its markers hold together (ITU T.800, annex A)."""

import numpy as np

from .tile_heads import TileHead

_START_OF_TILE_PART, _START_OF_DATA, _END_OF_CODESTREAM = 0xFF90, 0xFF93, 0xFFD9
_MOST_AFTER_FF, _IN_PACKETS = 0x8F, (0x91, 0x92)
_TILE_PART_BYTES = 10  # length of the segment that begins a tile part
_SIZ = b"\xff\x4f\xff\x51"
_SIZE, _CODING_STYLE, _QUANTISATION = 0xFF51, 0xFF52, 0xFF5C
_MAIN_HEADER = frozenset({0xFF51, 0xFF52, 0xFF53, 0xFF55, 0xFF57, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F, 0xFF63, 0xFF64})
_QUANTISATION_BYTES = {0: (4, 3), 1: (5, 0), 2: (5, 6)}
"""Length of the segment by its style: at no decomposition, and for each level of it."""


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
    if at is None or _word(content, end) != _END_OF_CODESTREAM or not _is_main_header(content, at):
        return False
    while at != end:
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
    return True


def _is_main_header(content: bytes, end: int) -> bool:
    """Whether the main header has known segments alone, and those of coding and quantisation are plausible and agree."""
    segments, at = {}, 2
    while at != end:
        segments[_word(content, at)] = content[at + 4 : at + 2 + _word(content, at + 2)]
        at += 2 + _word(content, at + 2)
    coding, quantisation = segments.get(_CODING_STYLE, b""), segments.get(_QUANTISATION, b"")
    size = segments.get(_SIZE, b"")
    if not segments.keys() <= _MAIN_HEADER or len(coding) < 10 or not quantisation or len(size) < 39:
        return False
    if len(size) != 36 + 3 * _word(size, 34) or not {*size[37::3], *size[38::3]} <= {1, 2}:  # halved colours at most
        return False
    style, progression, transform, levels, width, height, blocks, wavelet = (
        coding[i] for i in (0, 1, 4, 5, 6, 7, 8, 9)
    )
    coded = style <= 7 and progression <= 4 and transform <= 1 and levels <= 32 and blocks < 64 and wavelet <= 1
    base, per_level = _QUANTISATION_BYTES.get(quantisation[0] & 31, (0, 0))
    return coded and width + height <= 8 and len(quantisation) + 2 == base + per_level * levels


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
