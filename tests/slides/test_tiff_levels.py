"""Which pages are levels: those that show the slide, smaller; not macro images, labels, crops and copies."""

import numpy as np
import pytest
from slides.raw_tiff import (
    ASCII,
    DEFLATE,
    DESCRIPTION,
    LONG,
    ORIENTATION,
    SHORT,
    SUBFILE,
    page_of,
    pyramid_of,
    write_tiff,
)

from scripts.common.errors import SlideError
from scripts.slides.opening import open_slide
from scripts.slides.tiff_directories import read_directories
from scripts.slides.tiff_levels import is_reduced, plain_pyramid
from scripts.slides.tiff_page import TiffPage

SLIDE = np.random.default_rng(0).integers(60, 220, (32, 48, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
HEIGHT, WIDTH = SLIDE.shape[:2]
BLUE = np.full((300, 400, 3), (30, 60, 160), np.uint8)
SIZES = [(WIDTH, HEIGHT), (WIDTH // 2, HEIGHT // 2), (WIDTH // 4, HEIGHT // 4)]
LABEL = {DESCRIPTION: (ASCII, "Aperio Image Library v12\r\nlabel 48x32")}
MACRO = page_of(BLUE[:60, :180], {SUBFILE: (LONG, 1)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "slide.tif"


def levels_of(path, pages, **options):
    pyramid = plain_pyramid(read_directories(write_tiff(path, pages, **options)))
    return [(level.width, level.height) for level in pyramid.levels]


def whole(reader, level):
    size = reader.level_sizes_xy_px[level]
    return reader.read_patches(np.array([(0, 0)]), size_xy_px=size, level=level)[0].astype(int)


FULL = pyramid_of(SLIDE, (1, 2, 4))


@pytest.mark.parametrize(
    "pages",
    [
        FULL,
        [*FULL, MACRO],
        [MACRO, *FULL],
        [FULL[0], page_of(BLUE[:130, :150], {SUBFILE: (LONG, 1)}), *FULL[1:]],  # a crop between
        [*FULL[:2], page_of(BLUE[:110, : WIDTH // 2], {SUBFILE: (LONG, 1)}), FULL[2]],  # nearly of a level's size
        [*FULL[:2], page_of(BLUE[: HEIGHT // 2, : WIDTH // 2]), FULL[2]],  # exactly of its size: the first one counts
        [*FULL, page_of(SLIDE[::2, ::2], {SUBFILE: (LONG, 9)})],  # Aperio's mark of a macro image
        [page_of(SLIDE[::step, ::step]) for step in (1, 2, 4)],  # no page is marked
        [
            *FULL,
            page_of(BLUE[: HEIGHT // 8, : WIDTH // 8]),
        ],  # a label of the slide's proportions, without the mark of the levels
        [*FULL, page_of(BLUE[: HEIGHT // 8, : WIDTH // 8], LABEL | {SUBFILE: (LONG, 1)})],
        [*(page_of(SLIDE[::step, ::step]) for step in (1, 2, 4)), page_of(BLUE[: HEIGHT // 8, : WIDTH // 8], LABEL)],
        FULL[::-1],  # the smallest first
        [page_of(SLIDE, children=[page_of(SLIDE[::2, ::2]), page_of(SLIDE[::4, ::4])])],
    ],
)
def test_levels_are_the_slide_and_nothing_else(path, pages):
    assert levels_of(path, pages) == SIZES
    with open_slide(path) as reader:
        assert list(reader.level_sizes_xy_px) == SIZES
        assert reader.mpp_xy == pytest.approx((0.5, 0.5))
        for level, step in enumerate((1, 2, 4)):
            assert np.abs(whole(reader, level) - SLIDE[::step, ::step]).mean() < 20


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2333, 1666), True),  # by 3, rounded down
        ((3501, 2500), True),  # rounded up
        ((959, 684), True),  # by 7.3
        ((7, 5), True),
        ((1, 1), True),
        ((1536, 1024), False),  # the last tiles were cut
        ((3500, 2400), False),
        ((1800, 600), False),
        ((7001, 2500), False),
        ((7001, 5000), False),
        ((8000, 5714), False),
    ],
)
def test_one_factor_leads_to_a_level(size, expected):
    def page(width, height):
        return TiffPage(**dict.fromkeys(TiffPage.__dataclass_fields__, None) | {"width": width, "height": height})

    assert is_reduced(page(*size), page(7001, 5000)) == expected


@pytest.mark.parametrize(
    ("pages", "message"),
    [
        ([page_of(SLIDE, dict.fromkeys((322, 323, 324, 325)))], r"in strips.*vips tiffsave in\.tif out\.tif --tile --pyramid"),
        (FULL[1:], "is marked as a reduced version of another, which is not in the file"),
        ([FULL[0], page_of(SLIDE[::2, ::2], {SUBFILE: (LONG, 1), 339: (SHORT, (2, 2, 2))})], "differs in its colours, samples or bits"),
        ([page_of(SLIDE), page_of(SLIDE[::2, ::2], {258: None})], r"directory 1 \(192 x 128 px\) .* samples of 1 bit: damaged"),
        ([page_of(SLIDE), page_of(SLIDE[::2, ::2], {258: (SHORT, (4, 4, 4))})], "states samples of 4 bit"),
        ([page_of(SLIDE), page_of(SLIDE[::2, ::2], {277: None})], "states the bits of 3 samples, of 1 per pixel"),
        ([page_of(SLIDE), page_of(SLIDE[::2, ::2], {262: None})], r"states no colours \(PhotometricInterpretation\)"),
        ([page_of(SLIDE), page_of(SLIDE[::2, ::2], {262: (SHORT, 1)})], "states 3 samples per pixel of colours 1"),
    ],
)  # fmt: skip
def test_a_pyramid_that_contradicts_itself_is_refused(path, pages, message):
    with pytest.raises(SlideError, match=message):
        levels_of(path, pages)


@pytest.mark.parametrize("name", ["slide.tif", "slide.svs"])
def test_a_level_with_holes_over_tissue_is_not_read(tmp_path, name):
    """An encoder of Aperio's left such tiles: they would be white glass."""
    pages = [FULL[0], page_of(SLIDE[::2, ::2], {SUBFILE: (LONG, 1)}, empty=(1, 2)), FULL[2]]
    path = write_tiff(tmp_path / name, pages)
    with open_slide(path) as reader:
        assert list(reader.level_sizes_xy_px) == [SIZES[0], SIZES[2]]
        assert np.abs(whole(reader, 1) - SLIDE[::4, ::4]).mean() < 20


@pytest.mark.parametrize(("compression", "name"), [(7, "a.tif"), (DEFLATE, "a.tif"), (7, "a.svs")])
def test_a_level_with_holes_where_nothing_was_recorded_is_read(tmp_path, compression, name):
    """Scanners leave out tiles of glass at every level; cuCIM would fill them with black."""
    path = tmp_path / name
    glass = SLIDE.copy()
    glass[:128, 128:256] = 255
    pages = [
        page_of(glass, {270: (2, "Aperio Image|MPP = 0.5")}, empty=(2, 3, 8, 9), compression=compression),
        page_of(glass[::2, ::2], {SUBFILE: (LONG, 1)}, empty=(1,), compression=compression),
    ]
    assert levels_of(path, pages) == SIZES[:2]
    with open_slide(path) as reader:
        for level, step in enumerate((1, 2)):
            read = whole(reader, level)
            assert (read[: 128 // step, 128 // step : 256 // step] == 255).all()
            assert np.abs(read - glass[::step, ::step]).mean() < 20
    pages[1] = page_of(glass[::2, ::2], {SUBFILE: (LONG, 1)}, empty=(1, 2), compression=compression)
    assert levels_of(path, pages) == SIZES[:1]


def test_a_tile_that_level_0_lacks_hides_nothing_of_a_coarser_level(tmp_path):
    """OpenSlide would leave its place transparent on all levels, so that its tissue would pass for glass."""
    pages = [page_of(SLIDE, {270: (2, "Aperio Image|MPP = 0.5")}, empty=(8,)), *FULL[1:]]
    with open_slide(write_tiff(tmp_path / "a.svs", pages)) as reader:
        assert list(reader.level_sizes_xy_px) == list(SIZES)
        for level, step in ((1, 2), (2, 4)):
            place = np.s_[64 // step : 128 // step, 128 // step : 192 // step]
            assert np.abs(whole(reader, level)[place] - SLIDE[::step, ::step][place]).mean() < 20


def test_a_rotated_level_is_refused(path):
    write_tiff(path, [page_of(SLIDE, {ORIENTATION: (SHORT, 6)})])
    with pytest.raises(SlideError, match=r"rotated or mirrored by its tag Orientation \(6\), expected 1.*vips autorot"):
        open_slide(path)
