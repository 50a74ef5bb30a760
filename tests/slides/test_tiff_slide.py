"""Who may read a TIFF, and what is refused by name, before any native reader has seen it."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from slides.raw_tiff import (
    ASCII,
    BITS,
    COMPRESSION,
    DEFLATE,
    DESCRIPTION,
    EXTRA_SAMPLES,
    HEIGHT,
    JPEG,
    JPEG_TABLES,
    LONG,
    NONE,
    PHOTOMETRIC,
    PLANAR,
    PREDICTOR,
    SAMPLE_FORMAT,
    SAMPLES,
    SHORT,
    SUBFILE,
    TILE_WIDTH,
    WIDTH,
    RawPage,
    page_of,
    pyramid_of,
    tiles_of,
    write_tiff,
)

from scripts.common.errors import SlideError
from scripts.slides.opening import Reading, open_slide
from scripts.slides.tiff_slide import examine_tiff

SLIDE = np.random.default_rng(0).integers(60, 220, (32, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
ALL = ("cucim", "tifffile", "openslide")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slide.tif"


def label(compression, predictor=1):
    """A small image in one strip."""
    tags = dict.fromkeys((322, 323, 324, 325)) | {
        COMPRESSION: (SHORT, compression),
        PREDICTOR: (SHORT, predictor),
        PHOTOMETRIC: (SHORT, 2),
        SUBFILE: (LONG, 1),
        273: (LONG, 8),
        278: (LONG, 20),
        279: (LONG, 100),
    }
    return page_of(SLIDE[:20, :30], tags)


def whole(path, **options):
    with open_slide(path, Reading(**options)) as reader:
        size = reader.level_sizes_xy_px[0]
        return reader.backend, reader.read_patches(np.array([(0, 0)]), size_xy_px=size, level=0)[0].astype(int)


@pytest.mark.parametrize(
    ("pages", "readers"),
    [
        (pyramid_of(SLIDE), ALL),
        (pyramid_of(SLIDE, compression=NONE), ALL),
        (pyramid_of(SLIDE, compression=DEFLATE), ("tifffile",)),  # its checksum is verified there alone
        ([*pyramid_of(SLIDE), label(5, predictor=2)], ALL),
        ([*pyramid_of(SLIDE), label(DEFLATE, predictor=2)], ("tifffile", "openslide")),
        ([*pyramid_of(SLIDE), label(50000)], ("tifffile", "openslide")),
        ([*pyramid_of(SLIDE), label(5, predictor=9)], ("tifffile", "openslide")),
        ([page_of(SLIDE, empty=(3,))], ("tifffile", "openslide")),
        ([page_of(SLIDE, {PHOTOMETRIC: (SHORT, 2)})], ("tifffile",)),  # the tiles say YCbCr
        ([page_of(SLIDE, colour="rgb")], ("tifffile",)),  # the tiles say RGB
    ],
)
def test_readers(path, pages, readers):
    assert examine_tiff(write_tiff(path, pages)).readers == readers
    backend, pixels = whole(path)
    assert backend in readers
    empty = np.zeros(SLIDE.shape[:2], bool)
    empty[:64, 192:256] = any(b"" in page.tiles for page in pages)
    assert np.abs(pixels - SLIDE)[~empty].mean() < 20
    assert (pixels[empty] == 255).all()
    for other in set(ALL) - set(readers):
        with pytest.raises(SlideError, match=f"{other}: "):
            open_slide(path, Reading(backend=other))


def test_jpeg_tiles_that_say_their_colours_in_adobes_marker_go_before_the_directory(path):
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\1"
    page = page_of(SLIDE, {PHOTOMETRIC: (SHORT, 2)})
    page.tiles = [tile[:2] + adobe + tile[tile.index(b"\xff\xdb") :] for tile in page.tiles]
    backend, pixels = whole(write_tiff(path, [page]))
    assert backend == "tifffile"
    assert np.abs(pixels - SLIDE).mean() < 20


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (
            {WIDTH: (LONG, 1000)},
            r"directory 0 \(1000 x 256 px\): 20 offsets and 20 sizes of tiles, expected 64 of 64 x 64 px",
        ),
        ({HEIGHT: (LONG, 100000)}, "expected 7815 of 64 x 64 px"),
        ({TILE_WIDTH: (SHORT, 128)}, "expected 12 of 128 x 64 px"),
        ({PLANAR: (SHORT, 2)}, "20 offsets and 20 sizes of tiles, expected 60"),
        ({PLANAR: (SHORT, 3)}, "planar configuration 3"),
        ({SAMPLES: (SHORT, 4)}, "4 samples per pixel, but the bits of 3"),
        ({PHOTOMETRIC: (SHORT, 1)}, "3 samples per pixel, but grey"),
        ({PHOTOMETRIC: (SHORT, 3)}, "3 samples per pixel, but palette colours"),
        ({PHOTOMETRIC: (SHORT, 8)}, "CIE Lab, 8 bit, samples per pixel 3, expected 8-bit RGB"),
        ({PHOTOMETRIC: None}, "no colour space, 8 bit"),
        ({BITS: (SHORT, (16, 8, 8))}, "samples of different kinds"),
        ({BITS: (SHORT, (16, 16, 16))}, "YCbCr, 16 bit, samples per pixel 3"),
        ({SAMPLE_FORMAT: (SHORT, (3, 3, 3))}, "8 bit, sample format 3"),
        ({COMPRESSION: (SHORT, DEFLATE)}, "YCbCr, 8 bit"),
        ({PHOTOMETRIC: (SHORT, 99)}, "colour space 99, which TIFF does not know"),
        (
            {PHOTOMETRIC: (SHORT, 2), COMPRESSION: (SHORT, DEFLATE), PREDICTOR: (SHORT, 3)},
            "predictor 3 with the compression 8",
        ),
        (
            {PHOTOMETRIC: (SHORT, 2), COMPRESSION: (SHORT, NONE), PREDICTOR: (SHORT, 2)},
            "predictor 2 with the compression 1",
        ),
        ({JPEG_TABLES: (7, b"\xff\xd8\xff\xdb\0\x43" + bytes(20))}, "its JPEG tables are damaged"),
    ],
)
def test_a_directory_that_contradicts_itself_or_is_no_slide(path, tags, message):
    with pytest.raises(SlideError, match=message):
        examine_tiff(write_tiff(path, [page_of(SLIDE, tags)]))
    with pytest.raises(SlideError, match=r"slide\.tif: cannot be read \(directory 0"):
        open_slide(path)


def image(samples, photometric, *, bits=8, extra=None, kind=1):
    """A page of one tile of any kind, uncompressed."""
    tags = {
        SAMPLES: (SHORT, samples),
        BITS: (SHORT, (bits,) * samples),
        PHOTOMETRIC: (SHORT, photometric),
        SAMPLE_FORMAT: (SHORT, (kind,) * samples),
        EXTRA_SAMPLES: extra and (SHORT, extra),
    }
    page = page_of(SLIDE[:64, :64], tags, compression=NONE)
    return RawPage(page.tags, [bytes(64 * 64 * samples * bits // 8)])


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (image(1, 1), "grey, 8 bit, samples per pixel 1"),
        (image(1, 0), "grey, 8 bit"),
        (image(1, 3), "palette colours, 8 bit"),
        (image(2, 1, extra=(2,)), "grey, 8 bit, samples per pixel 2"),
        (image(4, 5), "CMYK, 8 bit, samples per pixel 4"),
        (image(3, 2, bits=16), "RGB, 16 bit"),
        (image(3, 2, bits=32, kind=3), "RGB, 32 bit, sample format 3"),
        (image(4, 2, extra=(0,)), "RGB, 8 bit, samples per pixel 4"),
        (image(4, 2, extra=(1,)), "RGB, 8 bit, samples per pixel 4"),
    ],
)
@pytest.mark.parametrize("backend", ["auto", *ALL])
def test_what_is_no_rgb_is_refused_by_all(path, page, message, backend):
    write_tiff(path, [page])
    with pytest.raises(SlideError, match=rf"{message}.*expected 8-bit RGB: convert it, or leave it out"):
        open_slide(path, Reading(backend=backend))


@pytest.mark.parametrize("compression", [NONE, DEFLATE])
def test_transparency_is_laid_over_white(path, compression):
    alpha = np.full((*SLIDE.shape[:2], 1), 255, np.uint8)
    alpha[:100] = 0
    rgba = np.concatenate([SLIDE, alpha], axis=-1)
    tags = {SAMPLES: (SHORT, 4), BITS: (SHORT, (8,) * 4), EXTRA_SAMPLES: (SHORT, 2)}
    page = page_of(SLIDE, tags, compression=compression)
    page.tiles = [
        imagecodecs.zlib_encode(tile.tobytes()) if compression == DEFLATE else tile.tobytes()
        for tile in tiles_of(rgba, 64)
    ]
    backend, pixels = whole(write_tiff(path, [page]))
    assert backend == "tifffile"
    np.testing.assert_array_equal(pixels, np.where(alpha, SLIDE, 255))


def test_readers_that_do_not_list_the_levels_are_passed_over(path):
    """Of two levels at SubIFDs neither cuCIM nor OpenSlide knows the second."""
    write_tiff(path, [page_of(SLIDE, children=[page_of(SLIDE[::2, ::2])])])
    with open_slide(path) as reader:
        assert reader.backend == "tifffile"
        assert reader.level_sizes_xy_px == ((320, 256), (160, 128))
    with pytest.raises(SlideError, match="openslide: it finds the levels 320 x 256, expected 320 x 256, 160 x 128"):
        open_slide(path, Reading(backend="openslide"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("compression", [JPEG, DEFLATE, NONE])
def test_byte_orders_and_bigtiff(path, order, big, compression):
    _, pixels = whole(write_tiff(path, pyramid_of(SLIDE, compression=compression), order=order, big=big))
    assert np.abs(pixels - SLIDE).mean() <= (20 if compression == JPEG else 0)


@pytest.mark.parametrize(
    "tile_px", [16, 60, 80, 336], ids=["smallest", "odd", "no power of 2", "larger than the slide"]
)
@pytest.mark.parametrize("compression", [JPEG, DEFLATE])
def test_tiles_of_any_size(path, tile_px, compression):
    _, pixels = whole(write_tiff(path, [page_of(SLIDE, tile_px=tile_px, compression=compression)]))
    assert np.abs(pixels - SLIDE).mean() <= (20 if compression == JPEG else 0)


def test_tiles_that_are_not_square(path):
    tifffile.imwrite(
        path, SLIDE, tile=(64, 128), photometric="rgb", compression="lzw", resolution=(2e4, 2e4), resolutionunit=3
    )
    np.testing.assert_array_equal(whole(path)[1], SLIDE)


def test_tiles_beyond_4_gib(path):
    """A sparse file: nothing lies between."""
    page = page_of(SLIDE, compression=NONE)
    write_tiff(path, [page], big=True)
    found = examine_tiff(path).levels[0].page
    gap = 5 << 30
    page.tags[324] = (16, (found.offsets + gap).tolist())
    write_tiff(path, [page], big=True)
    with open(path, "r+b") as file:
        for offset, tile in zip(found.offsets.tolist(), page.tiles, strict=True):
            file.seek(offset + gap)
            file.write(tile)
    for backend in ("auto", "tifffile"):
        np.testing.assert_array_equal(whole(path, backend=backend)[1], SLIDE)


def test_a_decimal_comma(path):
    for backend in ALL if examine_tiff(write_tiff(path, [page_of(SLIDE)])) else ():
        if backend == "cucim":
            pytest.importorskip("cucim")
        comma = write_tiff(
            path.with_suffix(".svs"), [page_of(SLIDE, {DESCRIPTION: (ASCII, "Aperio Image|MPP = 0,2520")})]
        )
        with open_slide(comma, Reading(backend=backend)) as reader:
            assert reader.mpp_xy == (0.252, 0.252)


def ome(sizes, rest=""):
    return (
        '<?xml version="1.0"?><OME><Image><Pixels Type="uint8" SizeX="{}" SizeY="{}" SizeC="3" SizeZ="1" SizeT="1" '
        'DimensionOrder="XYCZT" PhysicalSizeX="0.25" PhysicalSizeY="0.25"/></Image></OME>'
    ).format(*sizes) + rest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ome((320, 256)), None),
        (ome((99999999, 256)), "states 99999999 x 256 px, but its directory 0 320 x 256"),
        (ome((320, 256))[:-7], "whose XML cannot be read"),
        (ome((320, 256)).replace('SizeC="3"', f'SizeC="{2**31}"'), "expected 8-bit RGB in one plane"),
        (ome((320, 256)).replace('SizeX="320"', 'SizeX="many"'), "states a size that is no number"),
        ("<OME></OME>", "names no image"),
        (
            ome((320, 256)).replace("/></Image>", '><TiffData IFD="9"/></Pixels></Image>'),
            "of 1 directories whose XML names 9",
        ),
    ],
)
def test_an_ome_tiff_is_what_its_xml_says_or_refused(path, text, message):
    write_tiff(path, [page_of(SLIDE, {DESCRIPTION: (ASCII, text)})])
    if message is None:
        with open_slide(path) as reader:
            assert (reader.backend, reader.mpp_xy) == ("tifffile", (0.25, 0.25))
        return
    with pytest.raises(SlideError, match=message):
        open_slide(path)


def test_a_cut_ome_tiff_is_not_read_as_another_thing(tmp_path):
    path = tmp_path / "slide.ome.tif"
    tifffile.imwrite(path, SLIDE, tile=(64, 64), photometric="rgb", metadata={"axes": "YXS"})
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(SlideError, match=r"slide\.ome\.tif: cannot be read .*cut off"):
        open_slide(path)
