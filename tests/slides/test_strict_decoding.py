"""Tiles whose decoder notices that something is wrong, and colours that must not change for that."""

import imagecodecs
import numpy as np
import pytest
import tifffile

from scripts.slides.backends.strict_decoding import decode_tile, jpeg_stream

TILE_PX = 64
YCC = {"colorspace": "rgb", "outcolorspace": "ycbcr"}
RGB = {"colorspace": "rgb", "outcolorspace": "rgb"}


def bare(stream):
    """Leave out the segments of JFIF and Adobe, as scanners do."""
    kept, at = stream[:2], 2
    while stream[at + 1] != 0xDA:
        stop = at + 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
        kept += b"" if stream[at + 1] in (0xE0, 0xEE) else stream[at:stop]
        at = stop
    return kept + stream[at:]


def anonymous(stream):
    """Number the components of a bare stream 1, 2, 3 instead of R, G, B, so that the tag alone tells what they are."""
    content = bytearray(bare(stream))
    for marker, first, step in ((b"\xff\xc0", 10, 3), (b"\xff\xda", 5, 2)):
        at = content.index(marker) + first
        content[at : at + 3 * step : step] = (1, 2, 3)
    return bytes(content)


def tile_of(path, number):
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        file.filehandle.seek(page.dataoffsets[number])
        content = file.filehandle.read(page.databytecounts[number])
        assert callable(page.decode)  # tifffile looks into the file for it, as long as that is open
        return page, content


def write_jpeg(path, pixels, photometric, encode, subsampling=(1, 1)):
    tiles = [pixels[y : y + TILE_PX, x : x + TILE_PX] for y in (0, 64) for x in (0, 64, 128, 192)]
    with tifffile.TiffWriter(path) as file:
        file.write(
            (encode(np.ascontiguousarray(tile)) for tile in tiles),
            shape=(128, 256, 3),
            dtype=np.uint8,
            tile=(TILE_PX, TILE_PX),
            photometric="ycbcr",
            compression="jpeg",
            subsampling=subsampling,
            metadata=None,
        )
    if photometric == "rgb":  # the writer says YCbCr of every JPEG
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["PhotometricInterpretation"].overwrite(2)
    return path


@pytest.mark.parametrize("strip", [anonymous, bare, bytes])
@pytest.mark.parametrize(
    ("photometric", "colours", "sampling"),
    [("rgb", RGB, "444"), ("ycbcr", YCC, "444"), ("ycbcr", YCC, "420"), ("ycbcr", YCC, "422")],
)
def test_jpeg_colours_are_those_of_tifffile(photometric, colours, sampling, strip, tmp_path, pixels):
    def encode(tile):
        return strip(imagecodecs.jpeg_encode(tile, level=92, subsampling=sampling, **colours))

    step = {"444": (1, 1), "420": (2, 2), "422": (2, 1)}[sampling]
    path = write_jpeg(tmp_path / "slide.tif", pixels, photometric, encode, step)
    page, content = tile_of(path, 5)
    decoded = decode_tile(page, content, 5)
    np.testing.assert_array_equal(decoded, page.decode(content, 5)[0][0])
    mean_difference = np.abs(decoded.mean(axis=(0, 1)) - pixels[64:128, 64:128].mean(axis=(0, 1)))
    assert mean_difference.max() < 3


def test_rgb_tagged_jpeg_that_says_it_is_ycbcr(tmp_path, pixels):
    """JFIF has no RGB: libjpeg's word goes before the tag."""
    path = write_jpeg(
        tmp_path / "slide.tif", pixels, "rgb", lambda tile: imagecodecs.jpeg_encode(tile, level=92, **YCC)
    )
    page, content = tile_of(path, 0)
    assert np.abs(decode_tile(page, content, 0).astype(int) - pixels[:64, :64]).mean() < 8


def test_tables_of_the_page_are_joined(tmp_path, pixels):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric="rgb", compression="jpeg", subsampling=None, metadata=None
    )
    _, content = tile_of(path, 0)
    tables_end = content.index(b"\xff\xc0")
    quantisation = content[content.index(b"\xff\xdb") : tables_end]
    assert jpeg_stream(b"\xff\xd8" + quantisation + b"\xff\xd9", b"\xff\xd8" + content[tables_end:]) == (
        b"\xff\xd8" + quantisation + content[tables_end:]
    )
    with pytest.raises(ValueError, match="does not begin as a JPEG"):
        jpeg_stream(None, content[1:])


def noise(content, generator):
    at = len(content) // 2
    return content[:at] + generator.bytes(48) + content[at + 48 :]


DAMAGE = {
    "cut in half": lambda content, _: content[: len(content) // 2],
    "without its end": lambda content, _: content[:-2],
    "the second half zeros": lambda content, _: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "noise": noise,
}
UNNOTICED = {("jpeg2000", "noise"), ("zstd", "noise"), ("lzma", "without its end")}
"""Streams without a checksum that keep their structure: docs/formats.md says so."""


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "lzw", "zstd", "deflate", "lzma"])
def test_what_a_decoder_notices_is_an_error(compression, damage, tmp_path, pixels):
    if (compression, damage) in UNNOTICED:
        pytest.skip("nothing in the file says so")
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path,
        pixels,
        tile=(64, 64),
        photometric="rgb",
        compression=compression,
        metadata=None,
        predictor=compression == "deflate",
    )
    page, content = tile_of(path, 0)
    assert decode_tile(page, content, 0).shape == (64, 64, 3)
    with pytest.raises((ValueError, RuntimeError)):
        decode_tile(page, DAMAGE[damage](content, np.random.default_rng(0)), 0)


def test_a_jpeg_of_another_size_than_the_tile_is_an_error(tmp_path, pixels):
    path = write_jpeg(
        tmp_path / "slide.tif", pixels, "ycbcr", lambda tile: imagecodecs.jpeg_encode(tile[:, :-8], **YCC)
    )
    page, content = tile_of(path, 0)
    with pytest.raises(ValueError, match="a JPEG of 56 x 64 px in a tile of 64 x 64 px"):
        decode_tile(page, content, 0)


def test_one_flipped_bit_that_libjpeg_only_warns_of(tmp_path, pixels):
    path = write_jpeg(
        tmp_path / "slide.tif", pixels, "ycbcr", lambda tile: imagecodecs.jpeg_encode(tile, level=92, **YCC)
    )
    page, content = tile_of(path, 0)
    stream = content[:-2] + b"\x55" * 40 + content[-2:]  # extraneous bytes before the marker of the end
    np.testing.assert_array_equal(page.decode(stream, 0)[0][0], page.decode(content, 0)[0][0])
    with pytest.raises(ValueError, match="extraneous"):
        decode_tile(page, stream, 0)


@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("compression", ["lzw", "packbits", "deflate", "lzma", "zstd"])
def test_a_tile_of_other_bytes_than_its_size_asks_for(compression, predictor, tmp_path, pixels):
    if compression == "packbits" and predictor:
        pytest.skip("TIFF has no predictor for it")
    path = tmp_path / "slide.tif"
    kind = {"tile": (TILE_PX, TILE_PX), "photometric": "rgb", "metadata": None}
    tifffile.imwrite(path, pixels, compression=compression, predictor=predictor, **kind)
    page, content = tile_of(path, 0)
    np.testing.assert_array_equal(decode_tile(page, content, 0), pixels[:TILE_PX, :TILE_PX])
    codec = getattr(imagecodecs, f"{'zlib' if compression == 'deflate' else compression}_encode")
    for size in (TILE_PX * TILE_PX * 3 // 2, TILE_PX * TILE_PX * 3 - 1, TILE_PX * TILE_PX * 3 + 1):
        with pytest.raises((ValueError, RuntimeError)):
            decode_tile(page, codec(bytes(range(256)) * 48 + b"\x07" if size > 12288 else bytes(size)), 0)
