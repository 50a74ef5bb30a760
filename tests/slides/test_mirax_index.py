"""The index of a MIRAX slide: where its images lie, and what it cannot say."""

import struct
from pathlib import Path

import numpy as np
import pytest
from slides.mirax_file import SLIDE_ID, VERSION, write_mirax
from slides.tiff_tiles import blocks

from scripts.common.errors import SlideError
from scripts.slides.backends.mirax_index import images_of
from scripts.slides.opening import Reading, open_slide

CORNER = np.array([(0, 0)])
FIRST_PAGE = len(VERSION + SLIDE_ID) + 8 + 2 * 4 + 8
"""Where the page of level 0 begins: behind the roots, a pointer per level, and an empty page."""

ENTRY = struct.Struct("<4i")


@pytest.fixture
def slide(tmp_path: Path) -> Path:
    scanned = np.ones((2, 3), bool)
    scanned[0, 1] = False
    return write_mirax(tmp_path / "a.mrxs", blocks(128, 192), scanned)


def change(slide: Path, entry: int, *values: int | None) -> None:
    """Write other values into an entry of level 0; None stays."""
    index = slide.with_suffix("") / "Index.dat"
    content, at = bytearray(index.read_bytes()), FIRST_PAGE + 8 + ENTRY.size * entry
    new = (one if value is None else value for one, value in zip(ENTRY.unpack_from(content, at), values, strict=True))
    content[at : at + ENTRY.size] = ENTRY.pack(*new)
    index.write_bytes(content)


def test_images_lie_where_the_data_file_has_them(slide: Path) -> None:
    images = images_of(slide, 0)
    assert len(images) == 5
    for path, start, length in images:
        content = path.read_bytes()[start : start + length]
        assert content.startswith(b"\x89PNG")
        assert content.endswith(b"IEND\xaeB`\x82")
    assert len(images_of(slide, 1)) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 0, 0, 0), "no bytes"),
        ((None, None, 10**8, None), "past the end"),
        ((None, None, None, 7), "no file"),
        ((0, None, None, None), "two images for one place"),
    ],
)
def test_an_entry_that_cannot_be_fails_the_level(slide: Path, values: tuple[int | None, ...], said: str) -> None:
    with open_slide(slide, Reading()) as reader:
        reader.read_patches(CORNER, size_xy_px=(16, 16), level=0)
    change(slide, 3, *values)
    with pytest.raises(ValueError, match=said):
        images_of(slide, 0)
    with pytest.raises(SlideError), open_slide(slide, Reading()) as reader:
        reader.read_patches(CORNER, size_xy_px=(16, 16), level=0)


@pytest.mark.parametrize("key", ["OVERLAP_X", "OVERLAP_Y"])
@pytest.mark.parametrize("overlap", ["-1", "nan", "inf"])
def test_an_overlap_that_cannot_be_is_refused_before_openslide_opens_the_slide(
    slide: Path, key: str, overlap: str
) -> None:
    """By less than nothing it moves the images, and over NaN it does not return."""
    settings = slide.with_suffix("") / "Slidedat.ini"
    settings.write_text(
        settings.read_text(encoding="utf-8").replace(f"{key}=0", f"{key}={overlap}", 1), encoding="utf-8"
    )
    with pytest.raises(SlideError, match=f"{key}={overlap} in LEVEL_0, expected pixels from 0 on"):
        open_slide(slide, Reading())


def test_photos_that_are_no_whole_part_of_the_images_are_refused(slide: Path) -> None:
    """OpenSlide would look for their places out of its memory."""
    settings = slide.with_suffix("") / "Slidedat.ini"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(text.replace("DivisionsPerSide=1", "DivisionsPerSide=2"), encoding="utf-8")
    with pytest.raises(SlideError, match="3 x 2 images, expected multiples of CameraImageDivisionsPerSide=2"):
        open_slide(slide, Reading())


def test_pages_that_return_to_themselves_end(slide: Path) -> None:
    index = slide.with_suffix("") / "Index.dat"
    content = bytearray(index.read_bytes())
    content[FIRST_PAGE + 4 : FIRST_PAGE + 8] = struct.pack("<i", FIRST_PAGE)
    index.write_bytes(content)
    with pytest.raises(ValueError, match="comes back to itself"):
        images_of(slide, 0)
