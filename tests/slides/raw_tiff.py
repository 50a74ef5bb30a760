"""A writer of TIFFs tag by tag, for tests: any tag can be changed or left out, classic and BigTIFF, both byte orders.

Nothing is checked: what a tag says need not be what the file holds.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
FORMATS = {BYTE: "B", ASCII: "s", SHORT: "H", LONG: "I", RATIONAL: "II", 13: "I", LONG8: "Q", 99: "B"}
NONE, JPEG, DEFLATE = 1, 7, 8
SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 254, 256, 257, 258, 259, 262, 270
ORIENTATION, SAMPLES, X_RESOLUTION, Y_RESOLUTION, PLANAR, RESOLUTION_UNIT = 274, 277, 282, 283, 284, 296
SOFTWARE, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, OFFSETS, COUNTS = 305, 317, 322, 323, 324, 325
SUBIFDS, EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, XMP = 330, 338, 339, 347, 700

Tags = dict[int, tuple[int, Any] | None]


@dataclass
class RawPage:
    """A directory: its tags as (type, value or values), the bytes of its tiles, and the pages of its SubIFDs."""

    tags: Tags
    tiles: list[bytes]
    children: list["RawPage"] = field(default_factory=list)


def page_of(
    pixels: np.ndarray,
    tags: Tags | None = None,
    *,
    tile_px: int = 64,
    compression: int = JPEG,
    colour: str = "ycbcr",
    empty: Sequence[int] = (),
    mpp: float = 0.5,
    children: Sequence[RawPage] = (),
) -> RawPage:
    """Describe a page of RGB pixels (height, width, 3).

    Args:
        pixels: What it shows.
        tags: Changes of what is written of it; ``None`` leaves a tag out.
        tile_px: Side of a tile.
        compression: ``NONE``, ``JPEG`` or ``DEFLATE``.
        colour: Colour space of the JPEG tiles; the directory says YCbCr.
        empty: Tiles that have no bytes.
        mpp: Micrometres per pixel.
        children: SubIFDs.
    """
    height, width = pixels.shape[:2]
    tiles = [
        b"" if number in empty else encode(tile, compression, colour)
        for number, tile in enumerate(tiles_of(pixels, tile_px))
    ]
    said: Tags = {
        WIDTH: (LONG, width),
        HEIGHT: (LONG, height),
        BITS: (SHORT, (8, 8, 8)),
        COMPRESSION: (SHORT, compression),
        PHOTOMETRIC: (SHORT, 6 if compression == JPEG else 2),
        SAMPLES: (SHORT, 3),
        X_RESOLUTION: (RATIONAL, (round(1e7 / mpp), 1000)),
        Y_RESOLUTION: (RATIONAL, (round(1e7 / mpp), 1000)),
        RESOLUTION_UNIT: (SHORT, 3),
        TILE_WIDTH: (SHORT, tile_px),
        TILE_HEIGHT: (SHORT, tile_px),
    }
    return RawPage({**said, **(tags or {})}, tiles, list(children))


def pyramid_of(pixels: np.ndarray, steps: Sequence[int] = (1, 2), **options: Any) -> list[RawPage]:
    """Describe a page per step: every step-th pixel, the coarser ones marked as reduced."""
    return [
        page_of(pixels[::step, ::step], {SUBFILE: (LONG, int(step > 1))}, mpp=0.5 * step, **options) for step in steps
    ]


def tiles_of(pixels: np.ndarray, tile_px: int) -> Iterator[np.ndarray]:
    """Cut an image into tiles, padded with white."""
    for top in range(0, pixels.shape[0], tile_px):
        for left in range(0, pixels.shape[1], tile_px):
            part = pixels[top : top + tile_px, left : left + tile_px]
            tile = np.full((tile_px, tile_px, *pixels.shape[2:]), 255, pixels.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def encode(tile: np.ndarray, compression: int, colour: str = "ycbcr") -> bytes:
    """Compress one tile."""
    if compression == JPEG:
        return bytes(imagecodecs.jpeg_encode(tile, level=95, colorspace="rgb", outcolorspace=colour, subsampling="444"))
    return bytes(imagecodecs.zlib_encode(tile.tobytes()) if compression == DEFLATE else tile.tobytes())


def write_tiff(
    path: Path, pages: Sequence[RawPage], *, order: str = "<", big: bool = False, links: dict[int, int] | None = None
) -> Path:
    """Write ``path``.

    Args:
        path: The file.
        pages: Its directories.
        order: ``"<"`` or ``">"``.
        big: BigTIFF.
        links: For the number of a page, that of the page which follows it instead of the next.
    """
    head = struct.pack(order + "2sHHHQ", b"II" if order == "<" else b"MM", 43, 8, 0, 0) if big else None
    raw = bytearray(head or struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    word = "Q" if big else "I"
    places = [_write_page(raw, page, order, big) for page in pages]
    following = {number: number + 1 for number in range(len(pages) - 1)} | (links or {})
    struct.pack_into(order + word, raw, 8 if big else 4, places[0][0])
    for number, (_, link) in enumerate(places):
        if number in following:
            struct.pack_into(order + word, raw, link, places[following[number]][0])
    path.write_bytes(raw)
    return path


def _write_page(raw: bytearray, page: RawPage, order: str, big: bool) -> tuple[int, int]:
    """Append a page; return where its directory lies, and where the link to the next one is."""
    word, inline = ("Q", 8) if big else ("I", 4)
    offsets = [_append(raw, tile) if tile else 0 for tile in page.tiles]
    kind = LONG8 if big else LONG
    tags: Tags = {OFFSETS: (kind, offsets), COUNTS: (kind, [len(tile) for tile in page.tiles])}
    if page.children:
        tags[SUBIFDS] = (kind, [_write_page(raw, child, order, big)[0] for child in page.children])
    entries = b""
    said = {**tags, **page.tags}
    for code, tag in sorted(said.items()):
        if tag is None:
            continue
        content, count = _packed(*tag, order)
        where = (
            content.ljust(inline, b"\0") if len(content) <= inline else struct.pack(order + word, _append(raw, content))
        )
        entries += struct.pack(order + "HH" + word, code, tag[0], count) + where
    count = sum(tag is not None for tag in said.values())
    start = _append(raw, struct.pack(order + ("Q" if big else "H"), count) + entries)
    return start, _append(raw, bytes(inline), even=False)


def _packed(kind: int, value: Any, order: str) -> tuple[bytes, int]:
    if isinstance(value, (bytes, str)):
        content = value if isinstance(value, bytes) else value.encode() + b"\0"
        return content, len(content)
    values = list(value) if isinstance(value, (tuple, list)) else [value]
    count = len(values) // len(FORMATS[kind])
    return struct.pack(order + FORMATS[kind] * count, *values), count


def _append(raw: bytearray, content: bytes, *, even: bool = True) -> int:
    if even and len(raw) % 2:
        raw += b"\0"
    raw += content
    return len(raw) - len(content)
