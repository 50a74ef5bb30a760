import os
import threading

import numpy as np
import pytest

from scripts.common.errors import SlideError
from scripts.slides.backends.cucim_reader import NOISE, read_options
from scripts.slides.opening import Reading, open_slide

pytest.importorskip("cucim")


def test_device_is_named_only_for_cuda():
    assert read_options(num_workers=0, device="cpu") == {"num_workers": 1}
    assert read_options(num_workers=4, device="cuda") == {"num_workers": 4, "device": "cuda"}


def test_fractional_downsample_hits_the_pixels_of_the_level(make_tiff, pixels):
    step = 3  # 200 rows and 300 columns make 67 and 100: cuCIM's own downsample is no whole number
    with open_slide(make_tiff(pixels, steps=(step,), compression=None), Reading(backend="cucim")) as reader:
        assert reader.level_downsamples[1] == step
        xy = np.stack(np.meshgrid(np.arange(60), np.arange(40)), axis=-1).reshape(-1, 2)
        patches = reader.read_patches(xy * step, size_xy_px=(8, 8), level=1)
    level = pixels[::step, ::step]
    for patch, (x, y) in zip(patches, xy, strict=True):
        np.testing.assert_array_equal(patch, level[y : y + 8, x : x + 8])


@pytest.mark.parametrize(("mpp", "expected"), [((0.25, 0.26), (0.25, 0.26)), (None, None)])
def test_resolution_by_axis_or_missing(mpp, expected, make_tiff, pixels):
    with open_slide(make_tiff(pixels, mpp=mpp), Reading(backend="cucim")) as reader:
        assert reader.mpp_xy == (expected and pytest.approx(expected, rel=1e-4))


@pytest.mark.parametrize(("said", "expected"), [("|MPP = 0.2520", (0.252, 0.252)), ("|MPP = n/a", None), ("", None)])
def test_aperio_resolution_is_in_its_description(said, expected, make_tiff, pixels):
    path = make_tiff(
        pixels, mpp=None, name="aperio.svs", description=f"Aperio Image Library v1\n300x200 |AppMag = 40{said}"
    )
    with open_slide(path, Reading(backend="cucim")) as reader:
        assert reader.mpp_xy == expected


def test_image_that_is_not_rgb_is_refused(make_tiff, pixels):
    path = make_tiff(pixels.astype(np.uint16), compression=None)
    with pytest.raises(SlideError, match="RGB, 16 bit, samples per pixel 3, expected 8-bit RGB"):
        open_slide(path, Reading(backend="cucim"))


def test_deflate_is_refused(make_tiff, pixels):
    """cuCIM ends the process on a damaged tile of it, and OpenSlide does not verify its checksum."""
    path = make_tiff(pixels, compression="deflate")
    with pytest.raises(SlideError, match=r"compressed by TIFF's codes \[32946\]"):
        open_slide(path, Reading(backend="cucim"))
    with open_slide(path) as reader:
        assert reader.backend == "tifffile"


LINES = (
    "[Error] Failed to read region with libjpeg!",
    "ERROR in line 183 while reading JPEG header:",
    "Corrupt JPEG data: premature end of data segment",
    "JPEGLib: Bogus Huffman table definition.",
    "TIFFReadDirectory: Warning, Unknown field with tag 34712 (0x8798) encountered.",
    "slide.tif: Can not read TIFF directory count.",
    "[Error] Tile part length size inconsistent with stream length\n",
    "Failed to load nvJPEG library or retrieve version. Decoders and encoders will not be registered.",
)


@pytest.mark.parametrize("line", LINES)
def test_lines_of_native_code_are_known(line):
    assert NOISE.sub(b"", f"{line}\n".encode()) == b""


@pytest.mark.parametrize("line", ["TIFF 7", "slide 3 of 9: a TIFF", "a JPEG failed to open", "[INFO] TIFF: read", ""])
def test_lines_of_other_threads_are_no_noise(line):
    assert NOISE.sub(b"", f"{line}\n".encode()) == f"{line}\n".encode()


def test_a_thread_that_prints_while_slides_are_read_loses_no_line(make_tiff, pixels, capfd):
    stop, counted = threading.Event(), 0

    def chat():
        nonlocal counted
        while not stop.is_set():
            os.write(1, b"line %d of a TIFF\n" % counted)
            counted += 1

    path = make_tiff(pixels)
    thread = threading.Thread(target=chat)
    thread.start()
    for _ in range(10):
        with open_slide(path, Reading(backend="cucim")) as reader:
            reader.read_patches(np.zeros((40, 2), dtype=int), size_xy_px=(64, 64), level=0)
    stop.set()
    thread.join()
    assert capfd.readouterr().out.splitlines() == [f"line {number} of a TIFF" for number in range(counted)]


def test_many_regions_are_decoded_in_several_calls(make_tiff, pixels, monkeypatch):
    monkeypatch.setattr("scripts.slides.backends.cucim_reader.CHUNK_BYTES", 1)
    corners = np.stack(np.meshgrid(np.arange(0, 280, 7), np.arange(0, 180, 9)), axis=-1).reshape(-1, 2)
    with open_slide(make_tiff(pixels, compression=None), Reading(backend="cucim")) as reader:
        patches = reader.read_patches(corners, size_xy_px=(8, 8), level=0)
    for patch, (x, y) in zip(patches, corners, strict=True):
        np.testing.assert_array_equal(patch, pixels[y : y + 8, x : x + 8])
