from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from slides.dicom_file import write_dicom_slide
from slides.dicom_head import OTHER, SERIES, write_dicom
from slides.mirax_file import write_mirax
from slides.tiff_tiles import blocks
from slides.vms_file import write_vms

from scripts.common.errors import SlideError
from scripts.slides import companions
from scripts.slides.companions import companions_of, passed_over
from scripts.slides.opening import open_slide


def names(path: Path) -> list[str]:
    return [file.relative_to(path.parent).as_posix() for file in companions_of(path)]


def test_a_file_of_its_own_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.svs").write_bytes(b"II*\0 and so on")
    (tmp_path / "b.dcm").write_bytes(bytes(128) + b"DICM")
    assert companions_of(tmp_path / "a.svs") == []


def test_mirax_has_its_folder(tmp_path: Path) -> None:
    slide = write_mirax(tmp_path / "a.mrxs", blocks(64, 64), np.ones((1, 1), bool))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Data0000.dat").touch()
    assert names(slide) == ["a/Data0000.dat", "a/Index.dat", "a/Slidedat.ini"]


def test_vms_has_the_images_that_it_names(tmp_path: Path) -> None:
    slide = write_vms(tmp_path / "a.vms", blocks(64, 256))
    write_vms(tmp_path / "b.vms", blocks(64, 256))
    images = ["a_0_0.jpg", "a_0_1.jpg", "a_1_0.jpg", "a_1_1.jpg", "a_macro.jpg", "a_map.jpg"]
    assert names(slide) == images
    (tmp_path / "a_1_0.jpg").unlink()
    assert names(slide) == [name for name in images if name != "a_1_0.jpg"]


@pytest.mark.parametrize("implicit", [False, True])
def test_dicom_has_the_files_of_its_series(tmp_path: Path, implicit: bool) -> None:
    slide = write_dicom(tmp_path / "a.dcm", SERIES, implicit=implicit)
    write_dicom(tmp_path / "b.dcm", SERIES, implicit=implicit)
    write_dicom(tmp_path / "c", SERIES, implicit=not implicit)  # whatever its suffix
    write_dicom(tmp_path / "d.dcm", OTHER, implicit=implicit)  # that begins with the other's name
    write_dicom(tmp_path / "e.dcm", "1.9", SERIES)  # one of them is its own, the other it refers to
    write_dicom(tmp_path / "f.dcm")  # beyond what is looked at
    (tmp_path / "g.dcm").write_bytes(SERIES.encode())
    (tmp_path / "h.dcm").mkdir()
    assert names(slide) == ["b.dcm", "c", "e.dcm", "f.dcm"]


def test_each_dicom_head_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slides = [write_dicom(tmp_path / f"{number}.dcm", SERIES) for number in range(20)]
    opened = []

    def count(path: Path, mode: str) -> BinaryIO:
        opened.append(path)
        return open(path, mode)

    monkeypatch.setattr(companions, "open", count, raising=False)
    for slide in slides:
        assert len(companions_of(slide)) == 19
    assert len(opened) == 20
    write_dicom(slides[3], OTHER)
    assert len(companions_of(slides[0])) == 18
    assert len(opened) == 21


LEVELS = [(256, 192), (128, 96)]


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_dicom_slide(tmp_path, [blocks(192, 256), blocks(96, 128)])


def test_a_whole_series_has_nothing_that_is_passed_over(series: list[Path], tmp_path: Path) -> None:
    write_dicom(tmp_path / "other.dcm", OTHER)
    (tmp_path / "note.txt").touch()
    with open_slide(series[0]) as reader:
        assert list(reader.level_sizes_xy_px) == LEVELS
    assert passed_over(tmp_path / "note.txt", LEVELS) is None


@pytest.mark.parametrize(
    ("start", "content"), [(0, b""), (0, b"no DICOM at all"), (128, b"dicm"), (150, b"\xff\xff\xff\xff")]
)
@pytest.mark.parametrize("number", [0, 1])
def test_a_level_of_a_dicom_slide_that_is_damaged_fails_the_slide(
    series: list[Path], number: int, start: int, content: bytes
) -> None:
    """OpenSlide takes the other one for the whole slide."""
    damaged, other = series[number], series[1 - number]
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:start] + content + whole[start + len(content) :] if start else content)
    with pytest.raises(SlideError, match=rf"{damaged.name} beside it should be a level of it.*move it away"):
        open_slide(other)


def test_a_file_that_is_no_dicom_may_belong_to_any_of_several_series(series: list[Path], tmp_path: Path) -> None:
    write_dicom(tmp_path / "other.dcm", OTHER)
    (tmp_path / "broken.dcm").touch()
    with open_slide(series[0]) as reader:
        assert list(reader.level_sizes_xy_px) == LEVELS
