import imagecodecs
import numpy as np
import pytest

from scripts.slides.tile_heads import TileHead, is_jpeg_tables, jpeg_head

JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
ADOBE_YCBCR = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
PIXELS = np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def jpeg(colour="ycbcr", subsampling="444"):
    return bytes(imagecodecs.jpeg_encode(PIXELS, colorspace="rgb", outcolorspace=colour, subsampling=subsampling))


def without(content, *markers):
    """Remove segments before the scan, as scanners write tiles."""
    kept, at = content[:2], 2
    while content[at + 1] != 0xDA:
        length = 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        kept += b"" if content[at + 1] in markers else content[at : at + length]
        at += length
    return kept + content[at:]


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        (jpeg(), "ycbcr"),
        (jpeg("rgb"), "rgb"),
        (without(jpeg(), 0xE0, 0xEE), None),
        (without(jpeg(subsampling="420"), 0xE0, 0xEE), "ycbcr"),  # nobody halves a colour of RGB
        (without(jpeg("rgb"), 0xE0, 0xEE), "rgb"),  # its components are called R, G and B
        (jpeg("rgb")[:2] + JFIF + jpeg("rgb")[2:], "ycbcr"),  # libjpeg takes its word before Adobe's
        (jpeg("rgb")[:2] + ADOBE_YCBCR + without(jpeg("rgb"), 0xE0, 0xEE)[2:], "ycbcr"),
    ],
)
def test_jpeg(content, colour):
    assert jpeg_head(content) == TileHead(64, 48, 3, 8, colour)
    assert jpeg_head(b"\xff\xd8\xff" + content[2:]) == TileHead(64, 48, 3, 8, colour), "fill bytes before a marker"


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xd8", b"\xff\xd9" * 9, jpeg()[:20], jpeg()[:2] + b"\0" + jpeg()[2:], bytes(99)]
)
def test_what_has_no_frame_header_is_none(content):
    assert jpeg_head(content) is None


def test_tables():
    tables = b"\xff\xd8\xff\xdb\0\5abc\xff\xd9"
    assert is_jpeg_tables(tables)
    assert not any(
        is_jpeg_tables(damaged) for damaged in (b"", tables[:-1], tables[1:], tables[:5] + b"\1" + tables[6:])
    )
