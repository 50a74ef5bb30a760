"""Damage inside the JPEGs of slides that OpenSlide alone places is an error, also where codes end before the bytes do."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
import pytest
import simplejpeg
import tifffile
from slides.bif_file import write_bif
from slides.mirax_file import write_mirax
from slides.scn_file import write_scn
from slides.tiff_tiles import blocks
from slides.vms_file import write_vms

from scripts.common.errors import SlideError
from scripts.slides.backends.mirax_index import images_of
from scripts.slides.opening import Reading, open_slide
from scripts.slides.tiff_slide import examine_tiff

PIXELS = blocks(5 * 56 + 8, 6 * 56 + 8)
SLIDES = {".scn": "a.scn", ".bif": "a.bif", ".jpg": "a.vms", ".dat": "../a.mrxs"}
CORNER = np.array([(0, 0)])


def scn(folder: Path) -> Path:
    return write_scn(folder / "a.scn", blocks(384, 576), [(144, 48, 256, 192)])


def bif(folder: Path) -> Path:
    return write_bif(folder / "a.bif", PIXELS)


def spoil(path: Path, start: int, length: int) -> None:
    """Flip a bit of a JPEG so that its codes end before its bytes: the one damage that OpenSlide passes over."""
    content = path.read_bytes()
    for place in range(start + length * 2 // 3, start + length):
        changed = bytearray(content)
        changed[place] ^= 16
        with suppress(ValueError):
            simplejpeg.decode_jpeg(changed[start : start + length], strict=True)
            continue
        path.write_bytes(changed)
        with suppress(openslide.OpenSlideError), openslide.OpenSlide(path.parent / SLIDES[path.suffix]) as slide:
            slide.read_region((0, 0), 0, slide.dimensions)
            slide.read_region((0, 0), 4 % slide.level_count, (64, 64))
            return
    raise AssertionError("OpenSlide tells of all")


@pytest.mark.parametrize(("write", "directory"), [(scn, 1), (bif, 1)])
def test_a_damaged_tile_fails_the_level_that_holds_it(
    write: Callable[[Path], Path], directory: int, tmp_path: Path
) -> None:
    path = write(tmp_path)
    with tifffile.TiffFile(path) as file:
        page = file.pages[directory]
        spoil(path, page.dataoffsets[2], page.databytecounts[2])
    for policy in ("fail", "mask"):
        with open_slide(path, Reading(unreadable_tiles=policy)) as reader:
            reader.read_patches(CORNER, size_xy_px=(16, 16), level=1)
            for _ in range(2):
                with pytest.raises(
                    SlideError, match=rf"tile 2 of directory {directory} is damaged .*compare it with its source"
                ):
                    reader.read_patches(CORNER, size_xy_px=(16, 16), level=0)


def test_a_damaged_image_of_a_mirax_slide_fails_its_level(tmp_path: Path) -> None:
    path = write_mirax(tmp_path / "a.mrxs", blocks(192, 192), np.ones((3, 3), bool), image_format="JPEG")
    spoil(*images_of(path, 0)[4])
    with open_slide(path, Reading()) as reader:
        reader.read_patches(CORNER, size_xy_px=(16, 16), level=1)
        with pytest.raises(
            SlideError, match=r"the image at \d+ of Data0000.dat is damaged .*compare it with its source"
        ):
            reader.read_patches(CORNER, size_xy_px=(16, 16), level=0)


def test_readers_say_where_a_patch_costs_its_level(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", blocks(192, 192), tile=(64, 64), photometric="rgb", compression="jpeg")
    paths = [
        scn(tmp_path),
        bif(tmp_path),
        write_mirax(tmp_path / "m" / "a.mrxs", blocks(192, 192), np.ones((3, 3), bool)),
        write_vms(tmp_path / "a.vms", blocks(512, 1024)),
    ]
    for path in (*paths, tmp_path / "a.tif"):
        with open_slide(path) as reader:
            assert reader.checks_levels == (path in paths), path
    with open_slide(tmp_path / "a.tif", Reading(backend="openslide")) as reader:
        assert not reader.checks_levels


def test_the_macro_image_of_an_scn_is_no_part_of_its_levels(tmp_path: Path) -> None:
    tiff = examine_tiff(scn(tmp_path))
    assert tiff is not None
    assert [[page.number for page in pages] for pages in tiff.placed] == [[1], [2]]


def test_pages_of_a_bif_by_level(tmp_path: Path) -> None:
    tiff = examine_tiff(bif(tmp_path))
    assert tiff is not None
    assert [[page.number for page in pages] for pages in tiff.placed] == [[1], [2]]


@pytest.mark.parametrize(("part", "bad", "good"), [("a_0_1.jpg", 0, 4), ("a_0_1.jpg", 2, 4), ("a_map.jpg", 4, 0)])
def test_a_damaged_image_of_a_vms_fails_what_is_made_of_it(part: str, bad: int, good: int, tmp_path: Path) -> None:
    path = write_vms(tmp_path / "a.vms", blocks(512, 1024))
    spoil(tmp_path / part, 0, (tmp_path / part).stat().st_size)
    with open_slide(path) as reader:
        reader.read_patches(CORNER, size_xy_px=(8, 8), level=good)
        with pytest.raises(SlideError, match=f"{part} is damaged"):
            reader.read_patches(CORNER, size_xy_px=(8, 8), level=bad)
