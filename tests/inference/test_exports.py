import json
import logging
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
from inference.heat_map_views import view_of
from PIL import Image
from skimage.draw import polygon2mask

from scripts.inference.exports import write_heat_map

STEP = 128
ORIGIN = (640, 256)
FILES = {"cam.nii.gz", "cam.ome.tif", "cam.png", "cam.geojson", "cam.xml", "observed.png"}


def example() -> dict[str, Any]:
    """A ring of heat round a cell that is not hot, and one hot cell apart; the left column is not observed."""
    cam = np.full((6, 9), 0.25, dtype=np.float32)
    cam[1:4, 2:5] = 0.6
    cam[2, 3] = 0.1
    cam[4, 5] = 1.0  # meets the ring at a corner only
    observed = np.ones((6, 9), dtype=bool)
    observed[:, 0] = False
    cam[:, 0] = 0
    thumbnail = np.full((12, 18, 9), 200, dtype=np.uint8)
    return {
        "cam": cam,
        "observed": observed,
        "thumbnail": thumbnail,
        "origin_xy_px": ORIGIN,
        "patch_px_level0": STEP,
        "mpp_xy": (0.5, 0.25),
        "class_name": "tumour <1>",
        "slide": Path("absent.svs"),
        "bounds_xy_px": (0, 0),
    }


def cells_inside(rings: list[list[tuple[float, float]]], shape_yx: tuple[int, int]) -> np.ndarray:
    """Rasterise rings in level-0 pixels by the even-odd rule, one sample in the middle of each cell."""
    inside = np.zeros(shape_yx, dtype=bool)
    for ring in rings:
        corners_xy = (np.array(ring) - ORIGIN) / STEP
        inside ^= polygon2mask(shape_yx, corners_xy[:, ::-1] - 0.5)
    return inside


def asap_rings(path: Path, group: str) -> list[list[tuple[float, float]]]:
    return [
        [(float(point.get("X", "nan")), float(point.get("Y", "nan"))) for point in annotation.iter("Coordinate")]
        for annotation in ElementTree.parse(path).getroot().iter("Annotation")
        if annotation.get("PartOfGroup") == group
    ]


def test_six_files_and_nothing_else(tmp_path: Path) -> None:
    write_heat_map(tmp_path / "slide", view_of(**example()))
    assert {path.name for path in (tmp_path / "slide").iterdir()} == FILES


def test_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        write_heat_map(tmp_path / name, view_of(**example()))
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert (tmp_path / "a" / "cam.nii.gz").read_bytes()[4:8] == bytes(4), "gzip's time stamp"


def test_nifti_holds_the_map_with_x_first(tmp_path: Path) -> None:
    arguments = example()
    write_heat_map(tmp_path, view_of(**arguments))
    image = nibabel.load(tmp_path / "cam.nii.gz")
    assert image.shape == (9, 6, 1)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.get_fdata()[:, :, 0].T, arguments["cam"])
    assert image.get_fdata()[5, 4, 0] == 1.0


def test_nifti_affine_is_mm_from_the_slides_corner(tmp_path: Path) -> None:
    write_heat_map(tmp_path, view_of(**example()))
    image = nibabel.load(tmp_path / "cam.nii.gz")
    # the middle of cell (row 4, column 5): x = 640 + 5.5 * 128 px of 0.5 um, y = 256 + 4.5 * 128 px of 0.25 um
    right, anterior, superior = (image.affine @ (5, 4, 0, 1))[:3]
    assert (-right, -anterior, superior) == pytest.approx((0.672, 0.208, 0.0))
    np.testing.assert_allclose(image.header.get_zooms(), (0.064, 0.032, 0.064), rtol=1e-6)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-6)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    assert image.header.get_xyzt_units()[0] == "mm"


def test_missing_resolution_gives_pixels_and_a_note(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_heat_map(tmp_path, view_of(**{**example(), "mpp_xy": None, "thumbnail": None}))
    assert "resolution is unknown" in caplog.text
    image = nibabel.load(tmp_path / "cam.nii.gz")
    np.testing.assert_allclose(image.affine @ (0, 0, 0, 1), (-704, -320, 0, 1))
    assert image.header.get_xyzt_units()[0] == "unknown"
    assert {path.name for path in tmp_path.iterdir()} == FILES


def test_geojson_outlines_the_hot_cells_exactly(tmp_path: Path) -> None:
    arguments = example()
    write_heat_map(tmp_path, view_of(**arguments))
    content = json.loads((tmp_path / "cam.geojson").read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection"
    names = [feature["properties"]["classification"]["name"] for feature in content["features"]]
    assert names == ["tumour <1> >= 0.5", "tumour <1> >= 0.5", "tumour <1> >= 0.75"]
    ring, apart, _ = content["features"]
    outer, hole = ring["geometry"]["coordinates"]
    assert outer == [[896, 384], [1280, 384], [1280, 768], [896, 768], [896, 384]]
    assert sorted(hole[:-1]) == [[1024, 512], [1024, 640], [1152, 512], [1152, 640]]
    assert hole[0] == hole[-1]
    assert apart["geometry"]["coordinates"] == [[[1280, 768], [1408, 768], [1408, 896], [1280, 896], [1280, 768]]]
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        assert feature["geometry"]["type"] == "Polygon"
        assert feature["properties"]["objectType"] == "annotation"
        color = feature["properties"]["classification"]["color"]
        assert len(color) == 3
        assert all(isinstance(part, int) and 0 <= part <= 255 for part in color)


def test_geojson_tells_how_hot_a_region_is(tmp_path: Path) -> None:
    """QuPath reads ``measurements`` into its table."""
    arguments = example()
    arguments["cam"][1, 2] = 0.9
    write_heat_map(tmp_path, view_of(**arguments))
    features = json.loads((tmp_path / "cam.geojson").read_text(encoding="utf-8"))["features"]
    measured = [tuple(feature["properties"]["measurements"].values()) for feature in features]
    assert measured == [(0.6375, 0.9), (1.0, 1.0), (0.9, 0.9), (1.0, 1.0)]
    assert list(features[0]["properties"]["measurements"]) == ["Grad-CAM mean", "Grad-CAM max"]


def test_geojson_begins_at_the_scan_and_asap_at_the_glass(tmp_path: Path) -> None:
    """QuPath crops a slide to OpenSlide's bounds, ASAP does not."""
    write_heat_map(tmp_path, view_of(**{**example(), "bounds_xy_px": (600, 200)}))
    content = json.loads((tmp_path / "cam.geojson").read_text(encoding="utf-8"))
    assert content["bounds_xy_px"] == [600, 200]
    assert content["features"][0]["geometry"]["coordinates"][0][0] == [896 - 600, 384 - 200]
    assert asap_rings(tmp_path / "cam.xml", "tumour <1> >= 0.5")[0][0] == (896, 384)


@pytest.mark.parametrize("level", [0.5, 0.75])
def test_both_outlines_cover_the_cells_of_the_level(tmp_path: Path, level: float) -> None:
    cam = np.random.default_rng(3).random((17, 23)).astype(np.float32)
    observed = np.ones_like(cam, dtype=bool)
    arguments = {**example(), "cam": cam, "observed": observed, "thumbnail": None, "class_name": "tumour"}
    write_heat_map(tmp_path, view_of(**arguments))
    name = f"tumour >= {level:g}"
    features = json.loads((tmp_path / "cam.geojson").read_text(encoding="utf-8"))["features"]
    chosen = [feature for feature in features if feature["properties"]["name"] == name]
    rings = [ring for feature in chosen for ring in feature["geometry"]["coordinates"]]
    np.testing.assert_array_equal(cells_inside(rings, cam.shape), cam >= level)
    rings = asap_rings(tmp_path / "cam.xml", name)
    np.testing.assert_array_equal(cells_inside(rings, cam.shape), cam >= level)


def test_asap_groups_and_colours(tmp_path: Path) -> None:
    write_heat_map(tmp_path, view_of(**example()))
    root = ElementTree.parse(tmp_path / "cam.xml").getroot()
    assert root.tag == "ASAP_Annotations"
    groups = {group.get("Name"): group.get("Color") for group in root.iter("Group")}
    assert groups == {
        "tumour <1> >= 0.5": "#ffa500",
        "tumour <1> >= 0.75": "#dc143c",
    }
    assert {annotation.get("PartOfGroup") for annotation in root.iter("Annotation")} <= set(groups)
    assert {annotation.get("Type") for annotation in root.iter("Annotation")} == {"Polygon"}
    assert len(asap_rings(tmp_path / "cam.xml", "tumour <1> >= 0.5")) == 3, "two halves of the ring, and the cell apart"
    first = next(root.iter("Annotation"))
    assert [point.get("Order") for point in first.iter("Coordinate")] == ["0", "1", "2", "3"]


def test_observed_png_has_one_pixel_a_patch(tmp_path: Path) -> None:
    arguments = example()
    write_heat_map(tmp_path, view_of(**arguments))
    with Image.open(tmp_path / "observed.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), np.where(arguments["observed"], 255, 0))


def test_map_without_heat_has_no_outline(tmp_path: Path) -> None:
    write_heat_map(tmp_path, view_of(**{**example(), "cam": np.zeros((6, 9), dtype=np.float32)}))
    assert json.loads((tmp_path / "cam.geojson").read_text())["features"] == []
    assert not list(ElementTree.parse(tmp_path / "cam.xml").getroot().iter("Annotation"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"observed": np.ones((9, 6), dtype=bool)}, "observed has shape"),
        ({"thumbnail": np.zeros((6, 9, 3), dtype=np.uint8)}, "expected \\(12, 18, 3 L\\)"),
        ({"cam": np.full((6, 9), 1.5, dtype=np.float32)}, "expected 0 to 1"),
        ({"cam": np.full((6, 9), np.nan, dtype=np.float32)}, "expected 0 to 1"),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_written(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_heat_map(tmp_path / "slide", view_of(**{**example(), **changed}))
    assert not (tmp_path / "slide").exists()
