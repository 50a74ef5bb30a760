"""Where a DICOM parametric map lies, by plain pydicom and by highdicom's reader, and what it takes from the slide."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
from inference.heat_map_views import view_of
from slides.dicom_file import CORNER_XY_MM, FRAME_OF_REFERENCE, ORIENTATIONS, SERIES, STUDY, write_dicom_slide

from scripts.common.errors import SlideError
from scripts.inference.exports import write_heat_map
from scripts.inference.parametric_map import can_write_dicom, write_parametric_map

STEP = 32
MPP_XY = (2.0, 2.05)
SIZE_XY_PX = (320, 240)


@pytest.fixture(autouse=True)
def ask_again() -> Iterator[None]:
    can_write_dicom.cache_clear()
    yield
    can_write_dicom.cache_clear()


def write_slide(folder: Path, **options: Any) -> list[Path]:
    """Write two levels, the coarse one last."""
    width, height = SIZE_XY_PX
    levels = [np.full((height // step, width // step, 3), 200, np.uint8) for step in (1, 2)]
    return write_dicom_slide(folder, levels, mpp_xy=MPP_XY, **options)


def write_map(
    folder: Path, slide: Path, *, rows: int = 4, columns: int = 6, step: int = STEP, origin: tuple[int, int] = (96, 64)
) -> tuple[pydicom.Dataset, np.ndarray]:
    cam = np.random.default_rng(0).uniform(0.1, 1, (rows, columns)).astype(np.float32)
    view = view_of(cam, origin_xy_px=origin, patch_px_level0=step, class_name="tumör <1>", slide=slide)
    write_parametric_map(folder / "cam.dcm", view)
    return pydicom.dcmread(folder / "cam.dcm"), cam


def values_and_places(found: pydicom.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Values over 0 of all tiles, and where on the glass the middle of each pixel lies (x, y in mm), by PS3.3 C.7.6.2.1.1."""
    shared = found.SharedFunctionalGroupsSequence[0]
    between_rows, between_columns = (float(side) for side in shared.PixelMeasuresSequence[0].PixelSpacing)
    along_row, along_column = np.array(found.ImageOrientationSlide, dtype=float).reshape(2, 3)[:, :2]
    frames = np.frombuffer(found.FloatPixelData, "<f4").reshape(-1, found.Rows, found.Columns)
    row, column = np.indices(frames.shape[1:])[..., None]
    values, places = [], []
    for frame, groups in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSlideSequence[0]
        corner = np.array(
            [float(position.XOffsetInSlideCoordinateSystem), float(position.YOffsetInSlideCoordinateSystem)]
        )
        mm = corner + column * between_columns * along_row + row * between_rows * along_column
        values.append(frame[frame > 0])
        places.append(mm[frame > 0])
    return np.concatenate(values), np.concatenate(places)


def expected_places(cam: np.ndarray, *, orientation: str, step: int, origin: tuple[int, int]) -> np.ndarray:
    """Where the middles of patches lie, from the slide's own corner, orientation and spacing."""
    along_row, along_column = np.array(ORIENTATIONS[orientation], dtype=float).reshape(2, 3)[:, :2]
    rows, columns = np.indices(cam.shape)
    x_px, y_px = (start + step * (index + 0.5) - 0.5 for start, index in zip(origin, (columns, rows), strict=True))
    x_mm, y_mm = (pixels[..., None] * mpp / 1000 for pixels, mpp in zip((x_px, y_px), MPP_XY, strict=True))
    return CORNER_XY_MM + x_mm * along_row + y_mm * along_column


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("origin", [(0, 0), (96, 64), (100, 71)])
def test_each_pixel_lies_on_its_patch(tmp_path: Path, orientation: str, origin: tuple[int, int]) -> None:
    slide = write_slide(tmp_path, orientation=orientation)[1]
    found, cam = write_map(tmp_path, slide, origin=origin)
    values, places = values_and_places(found)
    expected = expected_places(cam, orientation=orientation, step=STEP, origin=origin)
    assert len(values) == cam.size
    for value, place in zip(values, places, strict=True):
        np.testing.assert_allclose(place, expected[cam == value][0], atol=1e-6)


def test_a_map_of_several_tiles(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)[0]
    found, cam = write_map(tmp_path, slide, rows=200, columns=300, step=1, origin=(10, 20))
    assert (found.NumberOfFrames, found.Rows, found.Columns) == (2, 240, 256)
    values, places = values_and_places(found)
    order = np.lexsort((places[:, 0].round(6), places[:, 1].round(6)))
    expected = expected_places(cam, orientation="rows along +x", step=1, origin=(10, 20)).reshape(-1, 2)
    np.testing.assert_array_equal(values[order], cam.ravel())
    np.testing.assert_allclose(places[order], expected, atol=1e-6)


def test_viewers_may_lay_it_on_the_slides_corner(tmp_path: Path) -> None:
    """Slim takes no notice of a map's origin: it scales by the ratio of the spacings, from the corner, to the whole slide."""
    slides = write_slide(tmp_path)
    found, cam = write_map(tmp_path, slides[1])
    source = pydicom.dcmread(slides[0])
    mine, theirs = (
        np.array(image.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing, dtype=float)
        for image in (found, source)
    )
    np.testing.assert_allclose(mine / theirs, STEP)
    assert (found.TotalPixelMatrixColumns, found.TotalPixelMatrixRows) == (10, 8)  # 320 x 240 px in patches of 32
    matrix = np.frombuffer(found.FloatPixelData, "<f4").reshape(8, 10)
    np.testing.assert_array_equal(matrix[2:6, 3:9], cam)
    assert np.count_nonzero(matrix) == cam.size
    window = found.SharedFunctionalGroupsSequence[0].FrameVOILUTSequence[0]
    assert (window.WindowCenter, window.WindowWidth) == (0.5, 1.0)


def test_highdicom_reads_the_same(tmp_path: Path) -> None:
    slides = write_slide(tmp_path)
    _, cam = write_map(tmp_path, slides[1])
    read = highdicom.imread(tmp_path / "cam.dcm")
    np.testing.assert_array_equal(read.get_total_pixel_matrix()[2:6, 3:9], cam)
    to_slide = highdicom.spatial.PixelToPixelTransformer.for_images(
        pydicom.dcmread(tmp_path / "cam.dcm"),
        pydicom.dcmread(slides[0]),
        for_total_pixel_matrix_from=True,
        for_total_pixel_matrix_to=True,
        round_output=False,
    )
    np.testing.assert_allclose(to_slide(np.array([[3, 2]])), [[96 + 15.5, 64 + 15.5]], atol=1e-5)


def test_it_belongs_to_the_finest_level(tmp_path: Path) -> None:
    """Whichever file of the series is named, and whatever else lies in its folder."""
    fine, coarse = write_slide(tmp_path)
    for number, (key, value) in enumerate(
        (("SeriesInstanceUID", "1.2.3"), ("ImageType", ["ORIGINAL", "PRIMARY", "OVERVIEW", "NONE"]))
    ):
        other = pydicom.dcmread(fine)
        setattr(other, key, value)
        other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = f"1.2.4.{number}"
        other.TotalPixelMatrixColumns = 5000
        other.save_as(tmp_path / f"other{number}.dcm")
    found, _ = write_map(tmp_path, coarse)
    assert found.SOPClassUID == pydicom.uid.ParametricMapStorage
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == (STUDY, FRAME_OF_REFERENCE)
    assert found.SeriesInstanceUID != SERIES
    (source,) = found.SourceImageSequence
    assert source.ReferencedSOPInstanceUID == pydicom.dcmread(fine).SOPInstanceUID
    assert (found.PatientID, found.ContainerIdentifier, found.ContentQualification) == ("T1", "C1", "RESEARCH")
    mapping = found.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert (mapping.LUTLabel, mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == ("tumör <1>", 1, 0)
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeMeaning == "Class activation"


def test_a_name_in_another_alphabet_survives(tmp_path: Path) -> None:
    fine, _ = write_slide(tmp_path)
    slide = pydicom.dcmread(fine)
    slide.SpecificCharacterSet, slide.PatientName = "ISO_IR 100", "Müller^Jörg"
    slide.save_as(fine)
    found, _ = write_map(tmp_path, fine)
    assert (str(found.PatientName), found.ContentDescription) == ("Müller^Jörg", "Grad-CAM, tumör <1>")


def test_the_same_map_is_the_same_instance(tmp_path: Path) -> None:
    slide = write_slide(tmp_path)[0]
    first, again = (write_map(tmp_path, slide)[0] for _ in range(2))
    other, _ = write_map(tmp_path, slide, origin=(64, 64))
    assert (first.SOPInstanceUID, first.SeriesInstanceUID) == (again.SOPInstanceUID, again.SeriesInstanceUID)
    assert len({first.SOPInstanceUID, first.SeriesInstanceUID, other.SOPInstanceUID, other.SeriesInstanceUID}) == 4


@pytest.mark.parametrize("missing", ["AccessionNumber", "TotalPixelMatrixColumns", "FrameOfReferenceUID", "VOLUME"])
def test_a_slide_that_lacks_what_is_needed(tmp_path: Path, missing: str) -> None:
    slides = write_slide(tmp_path)
    for path in slides:
        slide = pydicom.dcmread(path)
        if missing == "VOLUME":
            slide.ImageType = ["ORIGINAL", "PRIMARY", "LABEL", "NONE"]
        else:
            del slide[missing]
        slide.save_as(path)
    with pytest.raises(
        SlideError, match=r"level1.dcm: no parametric map can refer to this slide \(.+\); expected a whole"
    ):
        write_map(tmp_path, slides[1])
    assert not (tmp_path / "cam.dcm").exists()


def export(folder: Path, slide: Path) -> list[str]:
    cam = np.ones((4, 6), dtype=np.float32)
    view = view_of(cam, origin_xy_px=(96, 64), patch_px_level0=STEP, mpp_xy=MPP_XY, slide=slide)
    write_heat_map(folder, view)
    return sorted(path.name for path in folder.iterdir())


def test_a_slide_that_does_not_serve_keeps_its_other_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slide = write_slide(tmp_path)[0]
    damaged = pydicom.dcmread(slide)
    del damaged.AccessionNumber
    damaged.save_as(slide)
    with caplog.at_level(logging.INFO):
        names = export(tmp_path / "out", slide)
    assert "cam.nii.gz" in names
    assert "cam.dcm" not in names
    assert "a DICOM slide has no cam.dcm" in caplog.text
    assert "AccessionNumber" in caplog.text
    assert "level0" not in caplog.text


def test_without_highdicom_the_log_says_once_how_to_get_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_slide(tmp_path)[0]
    monkeypatch.setattr("scripts.inference.parametric_map.find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        for name in "ab":
            assert "cam.dcm" not in export(tmp_path / name, slide)
    assert caplog.text.count('pip install "highdicom') == 1


LOGGED = """
import logging.config, sys
from pathlib import Path
from inference import test_parametric_map as these
logging.config.fileConfig(sys.argv[1], disable_existing_loggers=False)
these.export(Path(sys.argv[2]) / "out", Path(sys.argv[2]) / "level0.dcm")
logging.info("done")
"""


def test_the_log_does_not_tell_which_slide(tmp_path: Path) -> None:
    """Under the bundle's logging.conf, in a process of its own."""
    write_slide(tmp_path)
    conf = Path(__file__).parents[2] / "bundle" / "configs" / "logging.conf"
    command = [sys.executable, "-c", LOGGED, str(conf), str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    logged = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert (tmp_path / "out" / "cam.dcm").is_file()
    assert [line[9:] for line in logged.stdout.splitlines()] == ["INFO root: done"]


def test_other_slides_have_none_and_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "slide.svs").write_bytes(b"II*\0" * 100)
    with caplog.at_level(logging.INFO):
        for slide in (tmp_path / "slide.svs", tmp_path / "absent.dcm"):
            assert "cam.dcm" not in export(tmp_path / "out", slide)
    assert caplog.text == ""
