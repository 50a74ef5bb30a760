import logging
import os

import numpy as np
import pytest

from scripts.common.errors import SlideError
from scripts.slides.backends.cucim_reader import DECODING_FAILED, _native_messages, read_options
from scripts.slides.opening import open_slide

pytest.importorskip("cucim")


def test_device_is_named_only_for_cuda():
    assert read_options(num_workers=0, device="cpu") == {"num_workers": 1}
    assert read_options(num_workers=4, device="cuda") == {"num_workers": 4, "device": "cuda"}


def test_fractional_downsample_hits_the_pixels_of_the_level(make_tiff, pixels):
    step = 3  # 200 rows and 300 columns make 67 and 100: the downsample is no whole number
    with open_slide(make_tiff(pixels, steps=(step,), compression=None), backend="cucim") as reader:
        assert reader.level_downsamples[1] != step
        xy = np.stack(np.meshgrid(np.arange(60), np.arange(40)), axis=-1).reshape(-1, 2)
        patches = reader.read_patches(np.rint(xy * reader.level_downsamples[1]).astype(int), size_xy_px=(8, 8), level=1)
    level = pixels[::step, ::step]
    for patch, (x, y) in zip(patches, xy, strict=True):
        np.testing.assert_array_equal(patch, level[y : y + 8, x : x + 8])


@pytest.mark.parametrize(("mpp", "expected"), [((0.25, 0.26), (0.25, 0.26)), (None, None)])
def test_resolution_by_axis_or_missing(mpp, expected, make_tiff, pixels):
    with open_slide(make_tiff(pixels, mpp=mpp), backend="cucim") as reader:
        assert reader.mpp_xy == (expected and pytest.approx(expected, rel=1e-4))


@pytest.mark.parametrize(("said", "expected"), [("|MPP = 0.2520", (0.252, 0.252)), ("|MPP = n/a", None), ("", None)])
def test_aperio_resolution_is_in_its_description(said, expected, make_tiff, pixels):
    path = make_tiff(
        pixels, mpp=None, name="aperio.svs", description=f"Aperio Image Library v1\n300x200 |AppMag = 40{said}"
    )
    with open_slide(path, backend="cucim") as reader:
        assert reader.mpp_xy == expected


def test_image_that_is_not_rgb_is_refused(make_tiff, pixels):
    path = make_tiff(pixels.astype(np.uint16), compression=None)
    with pytest.raises(SlideError, match="RGB, 16 bit, samples per pixel 3, expected 8-bit RGB"):
        open_slide(path, backend="cucim")


def test_deflate_is_refused(make_tiff, pixels):
    """cuCIM ends the process on a damaged tile of it, and OpenSlide does not verify its checksum."""
    path = make_tiff(pixels, compression="deflate")
    with pytest.raises(SlideError, match=r"compressed by TIFF's codes \[32946\]"):
        open_slide(path, backend="cucim")
    with open_slide(path) as reader:
        assert reader.backend == "tifffile"


def test_native_messages_go_to_the_debug_log_and_others_where_they_were_meant_to_go(capfd, caplog):
    with caplog.at_level(logging.DEBUG), _native_messages() as messages:
        os.write(2, b"nvJPEG is not here\n")
        os.write(2, b"a progress bar\n")
        assert not messages.match(DECODING_FAILED)
        os.write(2, b"ERROR in line 183 while reading JPEG header:\n")
        assert messages.match(DECODING_FAILED)
        assert not messages.match(DECODING_FAILED), "it is new only once"
    os.write(2, b"after\n")
    assert "nvJPEG is not here" in caplog.text
    assert capfd.readouterr().err == "a progress bar\nafter\n"
