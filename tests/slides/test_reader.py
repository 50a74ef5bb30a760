import logging
import os
from pathlib import Path

import numpy as np
import pytest

from scripts.common.errors import RequestError, SlideError
from scripts.slides.opening import BACKENDS, Reading, open_slide
from scripts.slides.reader import SlideReader


class FakeReader(SlideReader):
    """Level 0 in memory; level 1 every second pixel. Fills black past the border, as native readers do."""

    backend = "fake"

    def __init__(self, pixels: np.ndarray) -> None:
        self.levels = [pixels, pixels[::2, ::2]]
        sizes = tuple((level.shape[1], level.shape[0]) for level in self.levels)
        super().__init__(Path("fake"), level_sizes_xy_px=sizes, mpp_xy=(0.5, 0.5))
        self.closed = False

    def _decode(self, corners_xy, *, size_xy_px, level):
        width, height = size_xy_px
        assert (corners_xy >= 0).all()
        padded = np.pad(self.levels[level], ((0, height), (0, width), (0, 0)))
        yield np.stack([padded[y : y + height, x : x + width] for x, y in corners_xy]), np.ones(len(corners_xy), bool)

    def close(self) -> None:
        self.closed = True


def expected_patch(pixels: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """Cut from the image on a wide white ground."""
    margin = 1000
    ground = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
    return ground[margin + y : margin + y + height, margin + x : margin + x + width]


BORDER_COORDS = np.array(
    [(-20, 50), (280, 50), (100, -10), (100, 180), (-20, -10), (290, 195), (-5, 0), (400, 0), (0, -90)]
)


def test_borders_are_white_whatever_the_backend_fills(pixels):
    patches = FakeReader(pixels).read_patches(BORDER_COORDS, size_xy_px=(48, 32), level=0)
    assert patches.dtype == np.uint8
    for patch, (x, y) in zip(patches, BORDER_COORDS, strict=True):
        np.testing.assert_array_equal(patch, expected_patch(pixels, x, y, 48, 32))


def test_patch_larger_than_the_slide(pixels):
    patch = FakeReader(pixels).read_patches(np.array([(-10, -20)]), size_xy_px=(400, 300), level=0)[0]
    np.testing.assert_array_equal(patch, expected_patch(pixels, -10, -20, 400, 300))


def test_coords_are_level0_pixels_on_every_level(pixels):
    patches = FakeReader(pixels).read_patches(np.array([(20, 40), (-20, 0)]), size_xy_px=(16, 12), level=1)
    np.testing.assert_array_equal(patches[0], pixels[::2, ::2][20:32, 10:26])
    assert (patches[1, :, :10] == 255).all()
    np.testing.assert_array_equal(patches[1, :, 10:], pixels[::2, ::2][:12, :6])


def test_coords_round_to_the_nearest_pixel_of_the_level():
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 3, axis=2)
    reader = FakeReader(np.repeat(ramp, 8, axis=0))
    reader.level_downsamples = (1.0, 4.0)
    patches = reader.read_patches(np.array([(4, 0), (5, 0), (7, 0)]), size_xy_px=(1, 1), level=1)
    assert patches[:, 0, 0, 0].tolist() == [2, 2, 4]


def test_no_coords_give_no_patches(pixels):
    patches = FakeReader(pixels).read_patches(np.empty((0, 2), np.int64), size_xy_px=(16, 12), level=0)
    assert patches.shape == (0, 12, 16, 3)


def test_missing_level_is_named(pixels):
    with pytest.raises(SlideError, match="no pyramid level 2, expected 0 to 1"):
        FakeReader(pixels).read_patches(BORDER_COORDS, size_xy_px=(8, 8), level=2)


def test_context_manager_closes(pixels):
    with FakeReader(pixels) as reader:
        assert not reader.closed
    assert reader.closed


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_pad_white_at_all_borders(backend, make_tiff, pixels):
    if backend == "cucim":
        pytest.importorskip("cucim")
    with open_slide(make_tiff(pixels, compression=None), Reading(backend=backend)) as reader:
        assert reader.backend == backend
        assert reader.level_sizes_xy_px == ((300, 200),)
        assert reader.bounds_xywh_px == (0, 0, 300, 200)
        patches = reader.read_patches(BORDER_COORDS, size_xy_px=(48, 32), level=0)
    for patch, (x, y) in zip(patches, BORDER_COORDS, strict=True):
        np.testing.assert_array_equal(patch, expected_patch(pixels, x, y, 48, 32))


@pytest.mark.parametrize("num_workers", [0, 3])
def test_backends_agree_in_order_and_pixels(num_workers, make_tiff, pixels):
    pytest.importorskip("cucim")
    path = make_tiff(pixels, steps=(2, 4))
    rng = np.random.default_rng(0)
    coords = rng.integers(-40, 300, size=(150, 2))  # three batches, the last one not full
    with (
        open_slide(path, Reading(backend="cucim", num_workers=num_workers)) as first,
        open_slide(path, Reading(backend="openslide")) as second,
    ):
        assert first.level_sizes_xy_px == second.level_sizes_xy_px == ((300, 200), (150, 100), (75, 50))
        assert first.level_downsamples == second.level_downsamples == (1.0, 2.0, 4.0)
        assert first.mpp_xy == pytest.approx((0.5, 0.5))
        assert second.mpp_xy == pytest.approx((0.5, 0.5))
        for level in range(3):
            ours = first.read_patches(coords, size_xy_px=(40, 24), level=level)
            np.testing.assert_array_equal(ours, second.read_patches(coords, size_xy_px=(40, 24), level=level))
            singly = [first.read_patches(c[None], size_xy_px=(40, 24), level=level)[0] for c in coords]
            np.testing.assert_array_equal(ours, singly)


def test_auto_prefers_cucim_and_logs_names_at_debug_only(make_tiff, pixels, caplog):
    pytest.importorskip("cucim")
    path = make_tiff(pixels, name="patient-7.tif")
    with caplog.at_level(logging.DEBUG), open_slide(path) as reader:
        assert reader.backend == "cucim"
    assert any("patient-7" in record.getMessage() for record in caplog.records)
    assert all(record.levelno == logging.DEBUG for record in caplog.records if "patient-7" in record.getMessage())


@pytest.mark.parametrize("content", [b"", b"no slide at all" * 100])
@pytest.mark.parametrize("backend", ["auto", "openslide"])
def test_unreadable_file_names_file_backends_and_remedy(tmp_path, content, backend):
    path = tmp_path / "bad.svs"
    path.write_bytes(content)
    with pytest.raises(SlideError, match=r"bad\.svs: cannot be read \(openslide: .*expected a whole slide"):
        open_slide(path, Reading(backend=backend))


@pytest.mark.parametrize("backend", ["cucim", "tifffile"])
def test_who_reads_tiff_alone_never_sees_another_file(tmp_path, backend):
    path = tmp_path / "bad.svs"
    path.write_bytes(b"no slide at all" * 100)
    with pytest.raises(SlideError, match=rf"bad\.svs: cannot be read \({backend}: no TIFF\)"):
        open_slide(path, Reading(backend=backend))


def test_missing_file_and_wrong_backend(tmp_path, make_tiff, pixels):
    with pytest.raises(SlideError, match=r"gone\.svs: no such file"):
        open_slide(tmp_path / "gone.svs")
    with pytest.raises(RequestError, match="backend 'pil': expected one of auto, cucim, openslide"):
        open_slide(make_tiff(pixels), Reading(backend="pil"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_truncated_file_fails_on_opening_or_reading(backend, make_tiff, pixels):
    if backend == "cucim":
        pytest.importorskip("cucim")
    path = make_tiff(pixels)
    path.write_bytes(path.read_bytes()[:-3000])

    def read() -> None:
        with open_slide(path, Reading(backend=backend)) as reader:
            reader.read_patches(np.array([(0, 0), (250, 160)]), size_xy_px=(40, 40), level=0)

    with pytest.raises(SlideError, match=r"slide\.tif.*(expected a whole slide|expected a whole file)"):
        read()


REAL = {
    "cmu-1-small-region.svs": ("cucim", (0.499, 0.499), 1),
    "tcga-cr-7395-01a-01-ts1.svs": ("cucim", None, 2),
    "14082.tif": ("cucim", (4.0, 4.0), 4),
    "test3-DAPI-387.ndpi": ("openslide", (0.22818, 0.22818), 7),
    "multiframe_camelyon_challenge_image.dcm": ("openslide", (28.969, 28.968), 1),
}


@pytest.mark.parametrize("name", REAL)
def test_real_slides_open(name, data_dir):
    pytest.importorskip("cucim")
    backend, mpp_xy, levels = REAL[name]
    with open_slide(data_dir / "slides" / name) as reader:
        assert reader.backend == backend
        assert len(reader.level_sizes_xy_px) == levels
        assert reader.mpp_xy == (mpp_xy and pytest.approx(mpp_xy, rel=1e-4))


@pytest.mark.parametrize("name", ["cmu-1-small-region.svs", "tcga-cr-7395-01a-01-ts1.svs", "14082.tif"])
def test_real_slides_agree_across_backends(name, data_dir):
    pytest.importorskip("cucim")
    path = data_dir / "slides" / name
    coords = np.random.default_rng(1).integers(-100, 3000, size=(70, 2))
    with open_slide(path, Reading(num_workers=2)) as first, open_slide(path, Reading(backend="openslide")) as second:
        ours = first.read_patches(coords, size_xy_px=(64, 64), level=0)
        theirs = second.read_patches(coords, size_xy_px=(64, 64), level=0)
    tolerance = 1 if name.startswith("tcga") else 0  # two JPEG 2000 decoders round a pixel in a million apart
    assert np.abs(ours.astype(int) - theirs).max() <= tolerance


def test_real_dicom_without_image_type_is_refused(data_dir):
    with pytest.raises(SlideError, match="pathml_small_dicom"):
        open_slide(data_dir / "slides" / "pathml_small_dicom.dcm")


def test_real_dicom_begins_at_its_corner(data_dir):
    """OpenSlide tells no bounds of DICOM: the whole matrix is the scan, and nothing is shifted."""
    openslide = pytest.importorskip("openslide")
    path = data_dir / "slides" / "multiframe_camelyon_challenge_image.dcm"
    with open_slide(path) as reader, openslide.OpenSlide(path) as slide:
        assert reader.bounds_xywh_px == (0, 0, *reader.level_sizes_xy_px[0])
        (patch,) = reader.iter_patches(np.array([(300, 200)]), size_xy_px=(64, 48), level=0, batch_size=1)
        np.testing.assert_array_equal(patch[0], np.asarray(slide.read_region((300, 200), 0, (64, 48)))[..., :3])


def test_what_is_no_file_is_told_by_its_kind(tmp_path):
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    os.mkfifo(tmp_path / "pipe.tif")
    for name, what in (
        ("gone", "no such file"),
        ("loop", "a link that leads to no file"),
        ("pipe", "a pipe or a device"),
    ):
        with pytest.raises(SlideError, match=rf"{name}\.tif: {what}.*correct the path"):
            open_slide(tmp_path / f"{name}.tif")
    with pytest.raises(SlideError, match=r"a folder, expected a file: name the slide's file: of DICOM one \.dcm file"):
        open_slide(tmp_path)


def test_a_name_in_another_unicode_form_is_told(tmp_path):
    (tmp_path / "Mu\u0308ller.tif").touch()
    with pytest.raises(SlideError, match=r"whose name reads alike .*: rename the file"):
        open_slide(tmp_path / "M\u00fcller.tif")
