"""A large JPEG, taken apart at its restart markers into JPEGs that are decoded one by one."""

import math
import re
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple

PART_BYTES = 2**20
"""The least size of a part but the last."""

_RESTART = re.compile(rb"\xff[\xd0-\xd7]")
_BASELINE = (0xC0, 0xC1)
_RESTART_INTERVAL, _START_OF_SCAN = 0xDD, 0xDA
_END = b"\xff\xd9"


class _Frame(NamedTuple):
    """Where the header says what: its end, the place of the height, and sizes in pixels; ``interval`` in blocks, 0 for none."""

    end: int
    height_at: int
    height: int
    width: int
    block_height: int
    block_width: int
    interval: int


def parts_of(content: bytes | mmap) -> Iterator[bytes]:
    """Split a baseline JPEG (ITU T.81, B.2) into JPEGs of some rows of blocks; one without restart markers stays whole.

    Raises:
        ValueError: Its header is damaged, or there are fewer or more restart markers than its size tells.
    """
    frame = _frame_of(content)
    across = -(-frame.width // frame.block_width)
    if not frame.interval or across % frame.interval:
        yield bytes(content)
        return
    rows = -(-frame.height // frame.block_height)
    per_row = across // frame.interval
    step = math.lcm(per_row, 8)  # a decoder counts the markers from 0 to 7
    count, first, start = 0, 0, frame.end
    for count, marker in enumerate(_RESTART.finditer(content, frame.end), start=1):
        if count % step == 0 and marker.start() - start >= PART_BYTES:
            yield _part(content, frame, (count - first) // per_row, content[start : marker.start()] + _END)
            first, start = count, marker.end()
    if count + 1 != rows * per_row:
        raise ValueError(f"{count} restart markers, expected {rows * per_row - 1}")
    yield _part(content, frame, rows - first // per_row, content[start:])


def _part(content: bytes | mmap, frame: _Frame, rows: int, scan: bytes) -> bytes:
    height = (rows * frame.block_height).to_bytes(2, "big")
    return content[: frame.height_at] + height + content[frame.height_at + 2 : frame.end] + scan


def _frame_of(content: bytes | mmap) -> _Frame:
    at, height_at, interval = 2, 0, 0
    sizes = (0, 0, 1, 1)
    while content[at : at + 1] == b"\xff":
        marker, length = content[at + 1], int.from_bytes(content[at + 2 : at + 4], "big")
        segment = content[at + 4 : at + 2 + length]
        if marker in _BASELINE and len(segment) >= 9:
            samplings = segment[7 : 6 + 3 * segment[5] : 3]
            height, width = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
            height_at = at + 5
            sizes = height, width, 8 * max(s & 15 for s in samplings), 8 * max(s >> 4 for s in samplings)
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(segment, "big")
        at += 2 + length
        if marker == _START_OF_SCAN:
            break
    else:
        raise ValueError("its header is damaged")
    if not height_at or not all(sizes):
        raise ValueError("no baseline JPEG")
    return _Frame(at, height_at, *sizes, interval)
