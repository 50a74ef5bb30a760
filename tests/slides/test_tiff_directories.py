"""What a directory says, whatever it says, is read within bounds."""

import numpy as np
import pytest
from slides.raw_tiff import (
    ASCII,
    BITS,
    COUNTS,
    DESCRIPTION,
    HEIGHT,
    LONG,
    OFFSETS,
    RATIONAL,
    SHORT,
    SUBIFDS,
    TILE_WIDTH,
    WIDTH,
    X_RESOLUTION,
    page_of,
    pyramid_of,
    write_tiff,
)

from scripts.common.errors import SlideError
from scripts.slides.tiff_directories import MAX_DIRECTORIES, MAX_SIDE_PX, read_directories

GREY = np.full((100, 150, 3), 128, np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slide.tif"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_what_was_written_is_read(path, order, big):
    child = page_of(GREY[::4, ::4])
    first = page_of(GREY, {DESCRIPTION: (ASCII, "one\nßtwo")}, children=[child])
    found = read_directories(write_tiff(path, [first, page_of(GREY[::2, ::2])], order=order, big=big))
    assert [(page.width, page.height, page.grid_yx) for page in found.all_pages()] == [
        (150, 100, (2, 3)),
        (38, 25, (1, 1)),
        (75, 50, (1, 2)),
    ]
    page = found.pages[0]
    assert (page.tile_xy_px, page.compression, page.photometric, page.bits) == ((64, 64), 7, 6, (8, 8, 8))
    assert (page.samples, page.planar, page.predictor, page.orientation, page.subfile) == (3, 1, 1, 1, 0)
    assert page.description == "one\nßtwo"
    assert (page.resolution_xy, page.resolution_unit) == ((20000, 20000), 3)
    content = path.read_bytes()
    for offset, count, tile in zip(page.offsets, page.counts, first.tiles, strict=True):
        assert content[offset : offset + count] == tile


@pytest.mark.parametrize("content", [b"", b"II", b"DICM" * 100, b"II*\0" + bytes(124) + b"DICM" + bytes(100)])
def test_what_does_not_begin_as_a_tiff_is_none(path, content):
    path.write_bytes(content)
    assert read_directories(path) is None


@pytest.mark.parametrize("links", [{1: 0}, {0: 0}, {1: 1}])
def test_a_chain_that_returns_to_itself_is_refused(path, links):
    with pytest.raises(SlideError, match="leads back to itself"):
        read_directories(write_tiff(path, pyramid_of(GREY), links=links))


def test_a_subifd_that_is_its_own_parent_is_refused(path):
    write_tiff(path, [page_of(GREY, children=[page_of(GREY[::2, ::2])])])
    found = read_directories(path).pages[0]
    content = path.read_bytes()
    child = int(found.children[0].offset).to_bytes(4, "little")
    assert content.count(child) == 1
    path.write_bytes(content.replace(child, int(found.offset).to_bytes(4, "little")))
    with pytest.raises(SlideError, match="leads back to itself"):
        read_directories(path)


def test_more_directories_than_any_slide_has_are_refused(path):
    small = page_of(GREY[:1, :1], tile_px=1, compression=1)
    with pytest.raises(SlideError, match=f"more than {MAX_DIRECTORIES} directories"):
        read_directories(write_tiff(path, [small] * (MAX_DIRECTORIES + 1)))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({WIDTH: None}, "tag 256 is missing"),
        ({WIDTH: (LONG, 0)}, "0 x 100 px, expected 1 to"),
        ({HEIGHT: (LONG, 2**31)}, f"150 x 2147483648 px, expected 1 to {MAX_SIDE_PX}"),
        ({WIDTH: (LONG, 2**31)}, f"2147483648 x 100 px, expected 1 to {MAX_SIDE_PX}"),
        ({WIDTH: (ASCII, b"7")}, "tag 256 is of type 2, expected whole numbers"),
        ({WIDTH: (LONG, ())}, "tag 256 has 0 values, expected one"),
        ({TILE_WIDTH: (LONG, 2**31)}, "tiles of 2147483648 x 64 px"),
        ({TILE_WIDTH: (SHORT, 0)}, "tiles of 0 x 64 px"),
        ({TILE_WIDTH: None}, "of the tags of tiles, 322 to 325, only 323, 324, 325 are there"),
        ({OFFSETS: (RATIONAL, (1, 2))}, "tag 324 is of type 5, expected whole numbers"),
        ({DESCRIPTION: (LONG, (1, 2))}, "tag 270 is of type 4, expected text"),
        ({0: (SHORT, 0)}, "has an entry without a tag"),
        ({BITS: (SHORT, (8,) * 2000)}, "tag 258 has 2000 values, expected one per sample"),
        ({SUBIFDS: (LONG, (8,) * 65)}, "states 65 SubIFDs, expected 64 at most"),
    ],
)
def test_what_cannot_be_is_refused_by_name(path, tags, message):
    with pytest.raises(SlideError, match=f"directory 0.*{message}"):
        read_directories(write_tiff(path, [page_of(GREY, tags)]))


@pytest.mark.parametrize("tag", [262, 317, 339, 270, 282, 296])
def test_a_type_that_nobody_knows_of_a_tag_that_is_read_is_refused(path, tag):
    """Passed over, the predictor would be none, and the pixels others; without a unit the resolution is one in inches."""
    with pytest.raises(SlideError, match=rf"directory 0: tag {tag} is of type 99, which TIFF does not have"):
        read_directories(write_tiff(path, [page_of(GREY, {tag: (99, 1)})]))


@pytest.mark.parametrize("tag", [WIDTH, COUNTS, DESCRIPTION])
@pytest.mark.parametrize("big", [False, True])
def test_values_that_the_file_has_no_room_for_are_never_read(path, tag, big):
    write_tiff(path, [page_of(GREY, {DESCRIPTION: (ASCII, "some words")})], big=big)
    content = bytearray(path.read_bytes())
    place = content.index(
        int(tag).to_bytes(2, "little") + b"\x04\0" if tag == WIDTH else int(tag).to_bytes(2, "little")
    )
    content[place + 4 : place + 8] = (2**31).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(SlideError, match=rf"tag {tag}: 2147483648 values at byte .* the file ends at {len(content)}"):
        read_directories(path)


def test_a_directory_past_the_end_was_cut_off(path):
    write_tiff(path, pyramid_of(GREY))
    content = path.read_bytes()
    path.write_bytes(content[: read_directories(path).pages[1].offset + 5])
    with pytest.raises(SlideError, match=r"directory 1.*cut off"):
        read_directories(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(SlideError, match="cut off"):
        read_directories(path)


@pytest.mark.parametrize("value", [(0, 1), (1, 0), (0, 0)])
def test_a_resolution_that_is_no_positive_number_is_none(path, value):
    page = read_directories(write_tiff(path, [page_of(GREY, {X_RESOLUTION: (RATIONAL, value)})])).pages[0]
    assert page.resolution_xy == (None, 20000)


def test_a_type_that_nobody_knows_is_passed_over(path):
    page = read_directories(write_tiff(path, [page_of(GREY, {60000: (99, 1)})])).pages[0]
    assert page.width == 150


def test_any_byte_of_a_directory_may_be_wrong(path):
    content = write_tiff(path, pyramid_of(GREY), big=True).read_bytes()
    begin = read_directories(path).pages[0].offset
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        broken = bytearray(content)
        for place in rng.integers(begin, begin + 300, 3):
            broken[place] = rng.integers(256)
        path.write_bytes(broken)
        try:
            read_directories(path)
        except SlideError:
            refused += 1
    assert refused > 100
