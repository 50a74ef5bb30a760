"""A scan that does not begin at the corner of the glass: its offset is applied once, from the reader to the embedding file."""

import numpy as np
import pytest
import torch
from encoding.painted import MPP, PATCH_PX, MeanEncoder, paint, quarter_colours, write_tiff
from slides.mirax_file import write_mirax

from scripts.encoding.embed import embed_slide
from scripts.encoding.embedding_file import header_of, read_embedding
from scripts.encoding.named_encoder import NamedEncoder
from scripts.encoding.settings import EncodingSettings
from scripts.slides.geometry import plan_reading
from scripts.slides.opening import Reading, open_slide
from scripts.slides.table import SlideRow

TILE_PX = 48
ROWS, COLUMNS = 8, 12
SCANNED = np.s_[1:5, 3:9]  # of the glass, in tiles
BOUNDS_XYWH_PX = (144, 48, 288, 192)  # 4.5 and 1.5 patches from the corner


@pytest.fixture(scope="module")
def glass() -> np.ndarray:
    """What lies on the whole glass: tissue everywhere, no two patches of one colour."""
    size = (ROWS * TILE_PX // PATCH_PX, COLUMNS * TILE_PX // PATCH_PX)
    return paint(quarter_colours(*size))


def scanned_tiles() -> np.ndarray:
    scanned = np.zeros((ROWS, COLUMNS), dtype=bool)
    scanned[SCANNED] = True
    return scanned


@pytest.fixture
def slide(tmp_path, glass):
    return write_mirax(tmp_path / "case.mrxs", glass, scanned_tiles(), tile_px=TILE_PX, mpp=MPP)


def test_grid_begins_at_the_scan(slide):
    with open_slide(slide) as reader:
        assert reader.backend == "openslide"
        assert reader.level_sizes_xy_px == ((576, 384), (288, 192))
        assert reader.tile_sizes_xy_px == ((TILE_PX, TILE_PX),) * 2
        assert reader.bounds_xywh_px == BOUNDS_XYWH_PX
        plan = plan_reading(reader)
    assert (plan.grid.origin_xy_px, plan.grid.shape_yx) == ((144, 48), (6, 9))
    assert plan.grid.coords_xy_px(np.array([(0, 0), (2, 1)])).tolist() == [[144, 48], [176, 112]]


@pytest.mark.parametrize("level", [0, 1])
def test_patches_of_the_grid_are_what_lies_there(slide, glass, level):
    step = 2**level
    side = PATCH_PX // step
    with open_slide(slide, Reading(num_workers=2)) as reader:
        grid = plan_reading(reader).grid
        coords = grid.coords_xy_px(np.argwhere(np.ones(grid.shape_yx)))
        patches = reader.read_patches(coords, size_xy_px=(side, side), level=level)
        swept = list(reader.iter_patches(coords, size_xy_px=(side, side), level=level, batch_size=7))
    expected = [glass[y : y + PATCH_PX : step, x : x + PATCH_PX : step] for x, y in coords]
    np.testing.assert_array_equal(patches, expected)
    np.testing.assert_array_equal(np.concatenate(swept), expected)


def test_what_was_not_scanned_is_white(tmp_path, glass):
    scanned = scanned_tiles()
    scanned[2, 5] = False  # a hole in the scan
    slide = write_mirax(tmp_path / "case.mrxs", glass, scanned, tile_px=TILE_PX, mpp=MPP)
    with open_slide(slide) as reader:
        left, hole = reader.read_patches(np.array([(128, 96), (224, 96)]), size_xy_px=(32, 32), level=0)
    assert (left[:, :16] == 255).all()
    np.testing.assert_array_equal(left[:, 16:], glass[96:128, 144:160])
    np.testing.assert_array_equal(hole[:, :16], glass[96:128, 224:240])
    assert (hole[:, 16:] == 255).all()


def test_embedding_is_that_of_the_scan_alone(slide, glass, tmp_path):
    """The same tissue in a file without bounds gives the same vectors, at coordinates that differ by the offset."""
    left, top, width, height = BOUNDS_XYWH_PX
    scan = glass[top : top + height, left : left + width]
    alone = write_tiff(tmp_path / "alone.tif", [scan, scan[::2, ::2]])
    encoder = NamedEncoder(MeanEncoder(), device=torch.device("cpu"), batch_size=8)
    for path in (slide, alone):
        row = SlideRow(path.stem, path)
        embed_slide(row, path.with_suffix(".h5"), encoder=encoder, settings=EncodingSettings())
    ours, theirs = read_embedding(slide.with_suffix(".h5")), read_embedding(alone.with_suffix(".h5"))
    assert len(ours.features) == 6 * 9
    np.testing.assert_array_equal(ours.features, theirs.features)
    np.testing.assert_array_equal(ours.grid_yx, theirs.grid_yx)
    np.testing.assert_array_equal(ours.thumbnail, theirs.thumbnail)
    np.testing.assert_array_equal(ours.coords_xy_px, theirs.coords_xy_px + np.array([left, top]))
    origins = [header_of(path.with_suffix(".h5")).attributes["origin_xy_px"].tolist() for path in (slide, alone)]
    assert origins == [[left, top], [0, 0]]
