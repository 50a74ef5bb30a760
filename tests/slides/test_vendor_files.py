"""Philips TIFF, Leica SCN, Ventana BIF and Hamamatsu VMS, written by hand: what was written is read, at its place."""

import importlib.util
import shutil

import numpy as np
import pytest
import tifffile
from slides.bif_file import write_bif
from slides.philips_file import write_philips
from slides.scn_file import write_scn
from slides.tiff_tiles import blocks
from slides.vms_file import write_vms

from scripts.common.errors import SlideError
from scripts.slides.geometry import plan_reading
from scripts.slides.opening import Reading, open_slide
from scripts.slides.tiff_slide import examine_tiff

TOLERANCE = 20  # grey levels that JPEG may lose; a shift by a pixel costs 160
TILE_PX = 64
SIDE_PX = 40  # of a patch: no multiple of the tiles'
HAS_CUCIM = importlib.util.find_spec("cucim") is not None


@pytest.fixture(params=["cucim", "openslide", "auto"])
def backend(request):
    if request.param == "cucim" and not HAS_CUCIM:
        pytest.skip("cuCIM is not installed")
    return request.param


def assert_read(reader, level, expected):
    """Compare a whole level with ``expected`` (height, width, 3), read in one piece, patch by patch, and tile by tile."""
    height, width = expected.shape[:2]
    (whole,) = reader.read_patches(np.array([(0, 0)]), size_xy_px=(width, height), level=level)
    corners = np.array([(x, y) for y in range(0, height - SIDE_PX + 1, 24) for x in range(0, width - SIDE_PX + 1, 24)])
    coords = corners * round(reader.level_downsamples[level])
    patches = reader.read_patches(coords, size_xy_px=(SIDE_PX, SIDE_PX), level=level)
    swept = reader.iter_patches(coords, size_xy_px=(SIDE_PX, SIDE_PX), level=level, batch_size=7)
    cut = [expected[y : y + SIDE_PX, x : x + SIDE_PX] for x, y in corners]
    for read, wanted in ((whole, expected), (patches, cut), (np.concatenate(list(swept)), cut)):
        assert np.abs(read.astype(int) - wanted).max() <= TOLERANCE


class TestPhilips:
    PIXELS = blocks(5 * TILE_PX, 7 * TILE_PX)

    def test_levels_are_those_of_the_spacings_and_not_padded(self, tmp_path, backend):
        slide = write_philips(tmp_path / "a.tiff", self.PIXELS, np.ones((5, 7), bool), mpp_xy=(0.25, 0.26))
        with open_slide(slide, Reading(backend=backend)) as reader:
            first = "cucim" if HAS_CUCIM else "tifffile"
            assert reader.backend == (first if backend == "auto" else backend)
            assert reader.level_sizes_xy_px == (
                (448, 320),
                (224, 160),
                (112, 80),
            )  # padded: 448, 256, 128 x 320, 192, 128
            assert reader.level_downsamples == (1, 2, 4)
            assert reader.mpp_xy == pytest.approx((0.25, 0.26))
            assert reader.bounds_xywh_px == (0, 0, 448, 320)
            for level in range(3):
                assert_read(reader, level, self.PIXELS[:: 2**level, :: 2**level])

    def test_missing_tiles_are_white(self, tmp_path, backend):
        stored = np.ones((5, 7), dtype=bool)
        stored[0, 0] = stored[1, 2] = False
        stored[:2, 4:6] = False  # a whole tile of level 1
        pixels = self.PIXELS.copy()
        pixels[~stored.repeat(TILE_PX, axis=0).repeat(TILE_PX, axis=1)] = 255
        with open_slide(write_philips(tmp_path / "a.tiff", pixels, stored), Reading(backend=backend)) as reader:
            for level in range(3):
                assert_read(reader, level, pixels[:: 2**level, :: 2**level])

    def test_tifffile_reads_it_too(self, tmp_path):
        slide = write_philips(tmp_path / "a.tiff", self.PIXELS, np.ones((5, 7), bool))
        with open_slide(slide, Reading(backend="tifffile")) as reader:
            assert reader.level_sizes_xy_px == ((448, 320), (224, 160), (112, 80))
            assert reader.mpp_xy == (0.25, 0.25)
            for level in range(3):
                assert_read(reader, level, self.PIXELS[:: 2**level, :: 2**level])

    def test_without_a_spacing_for_each_level_nobody_knows_the_sizes(self, tmp_path):
        slide = write_philips(tmp_path / "a.tiff", self.PIXELS, np.ones((5, 7), bool), spacings=2)
        with pytest.raises(SlideError, match=r"a Philips TIFF of 3 levels whose XML tells the spacing of 2"):
            open_slide(slide)

    def test_tiles_past_the_end_of_the_file_are_found_at_padded_levels(self, tmp_path):
        slide = write_philips(tmp_path / "a.tiff", self.PIXELS, np.ones((5, 7), bool), levels=2)
        assert examine_tiff(slide).tiles.whole(np.array([(0, 0)]), size_xy_px=(224, 160), level=1).all()
        moved = slide.read_bytes().replace(*_last_tile_moved(slide))
        slide.write_bytes(moved)
        whole = examine_tiff(slide).tiles.whole(np.array([(0, 0), (190, 100)]), size_xy_px=(32, 32), level=1)
        assert whole.tolist() == [True, False]


def _last_tile_moved(slide):
    """The offset of the last tile of level 1 as the file holds it, and one past the end of the file."""
    with tifffile.TiffFile(slide) as file:
        offset = file.pages[1].dataoffsets[7]  # row 1, column 3: where level 1 is not padding alone
    return offset.to_bytes(8, "little"), (2**40).to_bytes(8, "little")


class TestScn:
    GLASS = blocks(384, 576)

    def on_glass(self, scans):
        expected = np.full_like(self.GLASS, 255)
        for left, top, width, height in scans:
            place = np.s_[top : top + height, left : left + width]
            expected[place] = self.GLASS[place]
        return expected

    @pytest.mark.parametrize(
        ("scans", "bounds"),
        [
            ([(144, 48, 256, 192)], (144, 48, 256, 192)),
            ([(144, 48, 128, 96), (320, 200, 128, 128)], (144, 48, 304, 280)),
        ],
    )
    def test_scans_lie_at_their_place_on_the_glass(self, tmp_path, scans, bounds):
        with open_slide(write_scn(tmp_path / "a.scn", self.GLASS, scans, mpp=0.5)) as reader:
            assert reader.backend == "openslide"
            assert reader.level_sizes_xy_px == ((576, 384), (288, 192))
            assert reader.level_downsamples == (1, 2)
            assert reader.mpp_xy == pytest.approx((0.5, 0.5))
            assert reader.bounds_xywh_px == bounds
            assert plan_reading(reader).grid.origin_xy_px == bounds[:2]
            for level in range(2):
                assert_read(reader, level, self.on_glass(scans)[:: 2**level, :: 2**level])


class TestBif:
    PIXELS = blocks(5 * 56 + 8, 6 * 56 + 8)

    def test_tiles_are_stitched(self, tmp_path):
        with open_slide(write_bif(tmp_path / "a.bif", self.PIXELS, mpp=0.5)) as reader:
            assert reader.backend == "openslide"
            assert reader.level_sizes_xy_px == ((344, 288), (172, 144))
            assert reader.mpp_xy == (0.5, 0.5)
            for level in range(2):
                assert_read(reader, level, self.PIXELS[:: 2**level, :: 2**level])

    def test_tiles_before_the_area_are_missing_and_the_area_lies_at_its_place(self, tmp_path):
        slide = write_bif(tmp_path / "a.bif", self.PIXELS, left_px=100, empty_columns=2)
        expected = np.full((288, 444, 3), 255, np.uint8)
        expected[:, 100:] = self.PIXELS
        with open_slide(slide) as reader:
            for level in range(2):
                assert_read(reader, level, expected[:: 2**level, :: 2**level])

    def test_downsamples_are_those_of_the_magnifications(self, tmp_path):
        with open_slide(write_bif(tmp_path / "a.bif", self.PIXELS, left_px=101, levels=3)) as reader:
            assert reader.level_sizes_xy_px == ((445, 288), (223, 144), (112, 72))
            assert reader.level_downsamples == (1, 2, 4)


@pytest.mark.parametrize("suffix", [".tif", None])
@pytest.mark.parametrize("backend", ["cucim", "tifffile"])
@pytest.mark.parametrize("write", [write_bif, write_scn])
def test_who_goes_by_the_directories_alone_is_kept_from_what_xml_places(tmp_path, caplog, suffix, backend, write):
    if write is write_bif:
        slide = write_bif(tmp_path / "a.bif", TestBif.PIXELS)
    else:
        slide = write_scn(tmp_path / "a.scn", TestScn.GLASS, [(144, 48, 256, 192)])
    if suffix:
        slide = shutil.copy(slide, slide.with_suffix(suffix))
    with pytest.raises(SlideError, match="placed by what OpenSlide alone follows"):
        open_slide(slide, Reading(backend=backend))
    assert not caplog.records
    with open_slide(slide) as reader:
        assert reader.backend == "openslide"


class TestVms:
    PIXELS = blocks(256, 512)

    def test_jpegs_are_joined(self, tmp_path):
        with open_slide(write_vms(tmp_path / "a.vms", self.PIXELS, mpp=0.5)) as reader:
            assert reader.backend == "openslide"
            assert reader.level_sizes_xy_px[:4] == ((512, 256), (256, 128), (128, 64), (64, 32))
            assert reader.level_sizes_xy_px[4] == (16, 8)  # the map
            assert reader.level_downsamples[:5] == (1, 2, 4, 8, 32)
            assert reader.mpp_xy == pytest.approx((0.5, 0.5))
            assert reader.tile_sizes_xy_px[:2] == ((64, 256), (32, 256))  # of 8 and 4 rows, that is: many at once
            for level in range(2):
                step = 2**level
                shrunk = self.PIXELS.reshape(256 // step, step, 512 // step, step, 3).mean(axis=(1, 3))
                assert_read(reader, level, shrunk)

    def test_a_jpeg_that_is_gone_is_named(self, tmp_path):
        slide = write_vms(tmp_path / "a.vms", self.PIXELS)
        (tmp_path / "a_1_0.jpg").unlink()
        with pytest.raises(SlideError, match=r"a_1_0\.jpg"):
            open_slide(slide)
