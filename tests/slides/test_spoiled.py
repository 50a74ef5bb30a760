"""Bad tiles of low levels, narrowed down and read again from finer ones."""

import numpy as np
import pytest
import tifffile
from slides.unreadable import unreadable_tiles

from scripts.common.errors import SlideError
from scripts.slides.damage import DamagedTiles
from scripts.slides.geometry import PatchGrid
from scripts.slides.opening import Reading, open_slide
from scripts.slides.spoiled import read_again, recorded, spoiled_cells

GRID = PatchGrid(patch_px_level0=32, origin_xy_px=(0, 0), shape_yx=(8, 8))


def spoil(path, level, number):
    """Overwrite a tile of a level with bytes that are no JPEG."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[level]
        offset, count = page.dataoffsets[number], page.databytecounts[number]
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(bytes(count))


@pytest.fixture
def slide(make_tiff):
    """256 x 256 px in tiles of 64 px; level 1 has four tiles, level 2 one."""
    smooth = np.add.outer(np.arange(256), np.arange(256)) // 3 + 40
    return make_tiff(np.stack([smooth, smooth + 20, smooth + 40], axis=-1).astype(np.uint8), steps=(2, 4))


def read(reader, level, *, size_px, corners=((0, 0),)):
    return reader.read_patches(np.array(corners), size_xy_px=(size_px, size_px), level=level)


@pytest.mark.parametrize("backend", ["cucim", "openslide", "tifffile"])
def test_a_region_keeps_what_its_other_tiles_hold(slide, backend):
    if backend == "cucim":
        pytest.importorskip("cucim")
    with open_slide(slide, Reading(backend=backend)) as reader:
        whole = read(reader, 1, size_px=128)[0]
    spoil(slide, 1, 3)
    with open_slide(slide, Reading(backend=backend, unreadable_tiles="mask")) as reader:
        masked = read(reader, 1, size_px=128)[0]
        assert unreadable_tiles(reader, level=1) == [[1, 1]]
        coords = np.array([(0, 0), (96, 96), (128, 128), (224, 224), (300, 300)])
        hit = reader.unreadable(coords, size_xy_px=(16, 16), level=1)
        assert hit.tolist() == [False, False, True, True, False]
        assert not reader.unreadable(coords, size_xy_px=(32, 32), level=0).any()
    assert (masked[64:, 64:] == 255).all()
    np.testing.assert_array_equal(masked[:64], whole[:64])
    np.testing.assert_array_equal(masked[64:, :64], whole[64:, :64])


def test_spoiled_patches_come_from_the_coarsest_level_that_has_them(slide):
    spoil(slide, 2, 0)
    spoil(slide, 1, 3)
    spoil(slide, 0, 15)
    with open_slide(slide, Reading(backend="tifffile", unreadable_tiles="mask")) as reader:
        read(reader, 2, size_px=64)
        assert len(spoiled_cells(reader, GRID, 2)) == 64
        found = {}
        for level, cells, patches in read_again(reader, GRID, 2):
            assert patches.shape[1:] == (32 >> level, 32 >> level, 3)
            found.update({tuple(cell): (level, patch) for cell, patch in zip(cells.tolist(), patches, strict=True)})
    assert len(found) == 64 - 4, "the four patches on the tile that no level has are not among them"
    assert {cell for cell, (level, _) in found.items() if level == 0} == {
        (row, column) for row in range(4, 8) for column in range(4, 8) if row < 6 or column < 6
    }
    assert all(20 < patch.mean() < 240 for _, patch in found.values())


def test_to_fail_is_to_fail_on_the_first_tile(slide):
    spoil(slide, 2, 0)
    with (
        open_slide(slide, Reading(backend="tifffile")) as reader,
        pytest.raises(SlideError, match="level 2 cannot be decoded"),
    ):
        read(reader, 2, size_px=64)


def test_regions_under_bad_tiles_are_counted_as_one_by_one():
    generator = np.random.default_rng(0)
    damage = DamagedTiles(((1000, 700),), ((64, 48),))
    bad = {(int(x), int(y)) for x, y in generator.integers(0, (15, 14), (12, 2))}
    for column, row in bad:
        damage.add(0, column, row)
    corners = generator.integers(-100, 1100, (300, 2))
    expected = [
        any(
            max(x, 0, 64 * column) < min(x + 80, 1000, 64 * column + 64)
            and max(y, 0, 48 * row) < min(y + 60, 700, 48 * row + 48)
            for column, row in bad
        )
        for x, y in corners
    ]
    assert damage.under(corners, (80, 60), 0).tolist() == expected
    assert 20 < sum(expected) < 280
    assert all(damage.has(0, column, row) for column, row in bad)


def test_a_patch_that_is_white_from_corner_to_corner_is_not_recorded(slide):
    patches = np.full((3, 40, 40, 3), 255, np.uint8)
    patches[0, 17, 5] = 254  # between the pixels of the first look
    patches[2] = 200
    coords = np.array([(0, 0), (32, 64), (64, 64)])
    with open_slide(slide, Reading(unreadable_tiles="mask")) as reader:
        assert recorded(reader, coords, patches, 1).tolist() == [True, False, True]
    with open_slide(slide) as reader:
        assert recorded(reader, coords[[0, 2]], patches[[0, 2]], 1).all()
        with pytest.raises(SlideError, match=r"level 1 holds nothing at x 32, y 64 of level 0, where a coarser level"):
            recorded(reader, coords, patches, 1)
