"""Which tiles may be decoded: those that lie in the file, alone, and say the size that their directory says."""

import imagecodecs
import numpy as np
import pytest
from slides.raw_tiff import COMPRESSION, COUNTS, DEFLATE, JPEG, LONG, NONE, OFFSETS, SHORT, encode, page_of, write_tiff

from scripts.common.errors import SlideError
from scripts.slides.opening import Reading, open_slide
from scripts.slides.tiff_slide import examine_tiff
from scripts.slides.tile_heads import jpeg_head
from scripts.slides.tile_table import _LevelTable

SLIDE = np.random.default_rng(0).integers(60, 220, (32, 40, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
TILE_PX, ROWS, COLUMNS = 64, 4, 5
BAD = 7  # row 1, column 2
GRID = np.array([(x, y) for y in range(ROWS) for x in range(COLUMNS)]) * TILE_PX


def jpeg(width=64, height=64, colour="ycbcr", samples=3):
    pixels = np.full((height, width, samples) if samples > 1 else (height, width), 100, np.uint8)
    options = {"colorspace": "rgb", "outcolorspace": colour} if samples == 3 else {}
    return bytes(imagecodecs.jpeg_encode(pixels, level=90, **options))


def may_be_decoded(path, **where):
    return examine_tiff(path).tiles.whole(**{"corners_xy": GRID, "size_xy_px": (TILE_PX, TILE_PX), "level": 0} | where)


def test_the_remembered_head_is_that_of_the_tile_though_another_thread_replaces_it(tmp_path, monkeypatch):
    path = write_tiff(tmp_path / "slide.tif", [page_of(SLIDE)])
    remembered = []

    class Raced(_LevelTable):
        @property
        def _last(self):
            """Each look at it sees what another thread has put there meanwhile."""
            remembered.reverse()
            return remembered[0] if remembered else None

        @_last.setter
        def _last(self, value):
            pass

    table = Raced(examine_tiff(path).levels[0])
    contents = [jpeg(), jpeg(width=32)]
    heads = [jpeg_head(content) for content in contents]
    remembered += [(content[: head.length], head) for content, head in zip(contents, heads, strict=True)]
    (tmp_path / "tile").write_bytes(contents[1])
    with open(tmp_path / "tile", "rb") as file:
        assert [table._head(file.fileno(), 0, len(contents[1])).width for _ in range(4)] == [32] * 4


def only_bad(count=1):
    expected = np.ones(ROWS * COLUMNS, bool)
    expected[BAD : BAD + count] = False
    return expected


@pytest.mark.parametrize(
    "tile",
    [
        jpeg(width=66),
        jpeg(width=32),
        jpeg(height=128),
        jpeg(samples=1),
        jpeg(colour="rgb"),
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0\0\1" + bytes(100),
        bytes(3000),
        np.random.default_rng(0).bytes(3000),
    ],
)
@pytest.mark.parametrize("backend", ["cucim", "openslide", "tifffile"])
def test_a_jpeg_that_is_no_tile_of_this_slide(tmp_path, tile, backend):
    if backend == "cucim":
        pytest.importorskip("cucim")
    page = page_of(SLIDE)
    page.tiles[BAD] = tile
    path = write_tiff(tmp_path / "slide.tif", [page])
    assert may_be_decoded(path).tolist() == only_bad().tolist()
    with (
        open_slide(path, Reading(backend=backend)) as reader,
        pytest.raises(SlideError, match="cannot be decoded at x 128, y 64"),
    ):
        reader.read_patches(GRID, size_xy_px=(TILE_PX, TILE_PX), level=0)
    with open_slide(path, Reading(backend=backend, unreadable_tiles="mask")) as reader:
        patches = reader.read_patches(GRID, size_xy_px=(TILE_PX, TILE_PX), level=0)
    assert (patches[BAD] == 255).all()
    assert np.abs(patches[0].astype(int) - SLIDE[:TILE_PX, :TILE_PX]).mean() < 20


@pytest.mark.parametrize(
    ("tag", "values", "count"),
    [
        (OFFSETS, lambda v, size: size, 1),
        (OFFSETS, lambda v, size: size - 3, 1),
        (OFFSETS, lambda v, size: 0, 1),
        (OFFSETS, lambda v, size: 2, 1),
        (OFFSETS, lambda v, size: v + 8, 2),  # it runs into the next
        (COUNTS, lambda v, size: 2**31, 1),
        (COUNTS, lambda v, size: 0, 1),  # a place without bytes is damage, no tile that was left out
        (COUNTS, lambda v, size: v + 8, 2),
    ],
)
@pytest.mark.parametrize("compression", [NONE, JPEG, DEFLATE])
def test_places_outside_the_file_or_over_each_other(tmp_path, tag, values, count, compression):
    page = page_of(SLIDE, compression=compression)
    path = write_tiff(tmp_path / "slide.tif", [page])
    found = examine_tiff(path).levels[0].page
    stated = (found.offsets if tag == OFFSETS else found.counts).tolist()
    stated[BAD] = values(stated[BAD], path.stat().st_size)
    page.tags[tag] = (LONG, stated)
    write_tiff(path, [page])
    assert may_be_decoded(path).tolist() == only_bad(count).tolist()


def test_many_tiles_may_share_one_place(tmp_path):
    """Writers store a tile of glass once."""
    page = page_of(SLIDE)
    path = write_tiff(tmp_path / "slide.tif", [page])
    found = examine_tiff(path).levels[0].page
    for tag, stated in ((OFFSETS, found.offsets.tolist()), (COUNTS, found.counts.tolist())):
        stated[BAD] = stated[0]
        page.tags[tag] = (LONG, stated)
    write_tiff(path, [page])
    assert may_be_decoded(path).all()
    page.tags[OFFSETS], page.tags[COUNTS] = (LONG, [found.offsets[0]] * 20), (LONG, [found.counts[0]] * 20)
    write_tiff(path, [page])
    with pytest.raises(SlideError, match="all 20 tiles of level 0 lie at one place"):
        examine_tiff(path)


def test_regions_of_several_tiles(tmp_path):
    page = page_of(SLIDE)
    page.tiles[BAD] = jpeg(width=32)
    path = write_tiff(tmp_path / "slide.tif", [page])
    corners = np.array([(x, y) for y in range(0, 250, 30) for x in range(0, 310, 30)])
    hit = [x < 192 and x + 100 > 128 and y < 128 and y + 50 > 64 for x, y in corners]
    assert may_be_decoded(path, corners_xy=corners, size_xy_px=(100, 50)).tolist() == (~np.array(hit)).tolist()
    tiles = examine_tiff(path).tiles
    assert [
        tiles.is_whole(row, column, level=0) for row in range(ROWS) for column in range(COLUMNS)
    ] == only_bad().tolist()
    assert not len(may_be_decoded(path, corners_xy=np.empty((0, 2), int)))


def test_each_tile_is_looked_at_once(tmp_path, monkeypatch):
    tiles = examine_tiff(write_tiff(tmp_path / "slide.tif", [page_of(SLIDE)])).tiles
    seen = []
    table = tiles._tables[0]
    look = table._is_good
    monkeypatch.setattr(table, "_is_good", lambda *place: seen.append(place) or look(*place))
    for _ in range(2):
        tiles.whole(GRID[:7], size_xy_px=(TILE_PX, TILE_PX), level=0)
    assert len(seen) == 7


@pytest.mark.parametrize(
    ("tiles", "tags", "message"),
    [
        ([jpeg(32, 32)] * 20, {}, r"are 32 x 32 px of 3 samples of 8 bit, expected 64 x 64 px of 3 samples of 8 bit"),
        ([jpeg(samples=1)] * 20, {}, r"are 64 x 64 px of 1 samples"),
        ([b"no JPEG"] * 20, {}, "are not of the compression 7"),
        (None, {COMPRESSION: (SHORT, 34712)}, "are not of the compression 34712"),
        ([bytes(64 * 64)] * 20, {COMPRESSION: (SHORT, NONE), 262: (SHORT, 2)}, "have 4096 bytes, expected 12288 of 64 x 64 px"),
    ],
)  # fmt: skip
def test_a_level_none_of_whose_tiles_is_as_the_directory_says_is_refused(tmp_path, tiles, tags, message):
    page = page_of(SLIDE, tags)
    page.tiles = tiles or page.tiles
    if tags.get(COMPRESSION) == (SHORT, 34712):
        page.tags[262] = (SHORT, 2)
    with pytest.raises(SlideError, match=message):
        examine_tiff(write_tiff(tmp_path / "slide.tif", [page]))


def test_tiles_without_compression_have_all_their_bytes(tmp_path):
    page = page_of(SLIDE, compression=NONE)
    page.tiles[BAD] = encode(SLIDE[:63, :64], NONE)
    assert may_be_decoded(write_tiff(tmp_path / "slide.tif", [page])).tolist() == only_bad().tolist()
