"""Tiles of a TIFF, decoded so that damage which a decoder notices is an error.

libjpeg goes on behind a broken code with a warning, which imagecodecs does not hand on; OpenJPEG fills what is missing. So JPEG is
decoded by simplejpeg, which raises on such warnings, and of JPEG 2000 the whole code stream must be there. LZW, PackBits, deflate,
lzma and zstd have to give as many bytes as the tile has: tifffile takes fewer for a tile without its last rows. Raw pixels that are
fewer, and sums of deflate, lzma, zstd, PNG, LERC that do not match, are errors of imagecodecs and tifffile.
"""

from typing import Any

import numpy as np
import simplejpeg
import tifffile
from numpy.typing import NDArray

from ..jpeg2000 import is_whole_codestream
from ..tiff_codes import JPEG, JPEG2000, PACKBITS, PREDICTABLE, RGB

JPEG_FAMILY = frozenset({6, JPEG, 33007, 34892})
"""Compressions that tifffile decodes as JPEG."""

SIZELESS = PREDICTABLE | {PACKBITS}
"""Compressions whose stream does not state how many bytes come out."""

CONTIGUOUS = 1  # of the tag PlanarConfiguration
START_OF_IMAGE, END_OF_IMAGE = b"\xff\xd8", b"\xff\xd9"
COLOUR_MARKERS = (0xE0, 0xEE)  # of JFIF and Adobe: libjpeg takes the colours from them
ADOBE_RGB = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00"
"""A marker of Adobe that says that the three components are R, G, B."""

Pixels = NDArray[np.uint8]


def decode_tile(page: Any, content: bytes, index: int) -> Pixels:
    """Decode tile number ``index`` of a page of tifffile from its bytes.

    Returns:
        uint8 (height, width, samples); at the right and lower border of a page maybe without what lies past it.

    Raises:
        ValueError: The bytes are damaged, as far as they tell. Other errors of imagecodecs are RuntimeErrors.
    """
    samples = page.samplesperpixel if page.planarconfig == CONTIGUOUS else 1
    if int(page.compression) in JPEG_FAMILY and samples in (1, 3):
        return _decode_jpeg(page, content, index, samples)
    if int(page.compression) in JPEG2000 and not is_whole_codestream(content):
        raise ValueError("the JPEG 2000 code stream is not whole")
    if int(page.compression) in SIZELESS and page.fillorder == 1:
        return _decode_to_the_byte(page, content, samples)
    decoded, _, _ = page.decode(content, index, jpegtables=page.jpegtables)
    return decoded[0]


def _decode_to_the_byte(page: Any, content: bytes, samples: int) -> Pixels:
    """Decode a tile whose size its stream does not state: neither less nor more than the tile's bytes may come out."""
    shape = (page.tilelength, page.tilewidth, samples)
    wanted = page.tilelength * page.tilewidth * samples
    found = tifffile.TIFF.DECOMPRESSORS[page.compression](content, out=wanted + 1)
    if len(found) != wanted:
        raise ValueError(f"{len(found)} bytes or more in a tile of {wanted}")
    pixels: Pixels = np.frombuffer(found, dtype=np.uint8).reshape(shape)
    return pixels if page.predictor == 1 else tifffile.TIFF.UNPREDICTORS[page.predictor](pixels, axis=-2)


def _decode_jpeg(page: Any, content: bytes, index: int, samples: int) -> Pixels:
    has_jfif = content[6:10] == b"JFIF"  # libjpeg takes the colours from it
    as_rgb = samples == 3 and page.photometric == RGB and not has_jfif
    stream = jpeg_stream(page.jpegtables, content, as_rgb=as_rgb)
    pixels: Pixels = simplejpeg.decode_jpeg(stream, colorspace="GRAY" if samples == 1 else "RGB", strict=True)
    columns = -(-page.imagewidth // page.tilewidth)
    rows = -(-page.imagelength // page.tilelength)
    row, column = divmod(index % (rows * columns), columns)
    whole = (page.tilelength, page.tilewidth)
    inside = (
        min(page.tilelength, page.imagelength - row * page.tilelength),
        min(page.tilewidth, page.imagewidth - column * page.tilewidth),
    )
    if pixels.shape[:2] not in (whole, inside):
        raise ValueError(f"a JPEG of {pixels.shape[1]} x {pixels.shape[0]} px in a tile of {whole[1]} x {whole[0]} px")
    return pixels


def jpeg_stream(tables: bytes | None, content: bytes, *, as_rgb: bool = False) -> bytes:
    """Join the tables of a page with a tile's stream to one that stands for itself.

    Args:
        tables: of the tag JPEGTables.
        content: the tile.
        as_rgb: the components are R, G, B, whatever markers in the stream say; otherwise libjpeg goes by these.

    Raises:
        ValueError: ``content`` does not begin as a JPEG.
    """
    if not content.startswith(START_OF_IMAGE):
        raise ValueError("the tile does not begin as a JPEG")
    parts = [content[2:]]
    if tables:
        end = tables.rfind(END_OF_IMAGE)
        parts.insert(0, tables[2 : end if end >= 0 else None])
    if as_rgb:
        parts = [ADOBE_RGB, *(_without_colour_markers(part) for part in parts)]
    return START_OF_IMAGE + b"".join(parts)


def _without_colour_markers(segments: bytes) -> bytes:
    """Leave out JFIF's and Adobe's segments among those before the first scan."""
    kept, at = [], 0
    while segments[at : at + 1] == b"\xff" and at + 4 <= len(segments) and segments[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(segments[at + 2 : at + 4], "big")
        if segments[at + 1] not in COLOUR_MARKERS:
            kept.append(segments[at:stop])
        at = stop
    return b"".join(kept) + segments[at:]
