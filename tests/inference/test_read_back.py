"""From a slide to its heat map's files, read by others than their writers, and laid on the slide's pixels as OpenSlide reads them.

The map is the redness of each patch, so that a value tells from which pixels it comes: a shift of one patch shows.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.dom import minidom

import numpy as np
import ome_types
import openslide
import pytest
import shapely
import SimpleITK
import torch
from encoding.encoding_requests import job_of
from encoding.painted import MPP, PATCH_PX, MeanEncoder, on_glass, paint, quarter_colours, write_tiff
from inference.heat_map_views import view_of
from inference.told_predictions import write_all
from PIL import Image
from slides.dicom_file import write_dicom_slide
from slides.mirax_file import write_mirax

from scripts.dsnet.heat_map import HeatMap
from scripts.dsnet.network import DSNet
from scripts.evaluation.predictions import Prediction
from scripts.inference.annotations import LEVELS
from scripts.inference.exports import write_heat_map
from scripts.inference.slide_set import InferenceSet
from scripts.training.model_card import ModelCard
from scripts.training.predicting import PredictionCollector

ROWS, COLUMNS = 4, 6
COOL, HOT = 145, 175
GLASS_FROM = 200
ATOL = 0.03
CARD = ModelCard(
    class_names=("normal", "tumour"),
    threshold=0.5,
    temperature=1.0,
    encoder="unknown",
    network={"num_classes": 2, "embedding_channels": 6, "thumbnail_levels": 3, "thumbnail_stream": True},
    channel_range=None,
    threshold_from=None,
)


def tissue() -> np.ndarray:
    return paint(quarter_colours(ROWS, COLUMNS, seed=1))


def make_tiff(folder: Path) -> Path:
    pixels = on_glass(tissue(), size_xy_px=(320, 256), corner_xy_px=(96, 64))
    return write_tiff(folder / "case.tif", [pixels, pixels[::2, ::2]])


def make_mirax(folder: Path) -> Path:
    """The scan begins at (144, 48) of the glass, the tissue a patch further down and two to the right."""
    scanned = np.zeros((8, 12), dtype=bool)
    scanned[1:5, 3:9] = True
    pixels = on_glass(tissue(), size_xy_px=(576, 384), corner_xy_px=(144 + 64, 48 + 32))
    return write_mirax(folder / "case.mrxs", pixels, scanned, tile_px=48, mpp=MPP)


def make_dicom(folder: Path) -> Path:
    """Two levels, of which the coarse one is named, and pixels that are not quite square."""
    pixels = on_glass(tissue(), size_xy_px=(320, 256), corner_xy_px=(64, 96))
    return write_dicom_slide(folder, [pixels, pixels[::2, ::2]], mpp_xy=(MPP, 1.02 * MPP))[1]


@dataclass(frozen=True)
class Case:
    """A slide, as OpenSlide opens it, and the folder of its heat map."""

    slide: openslide.OpenSlide
    folder: Path

    @property
    def mpp_xy(self) -> np.ndarray:
        return np.array([float(self.slide.properties[f"openslide.mpp-{axis}"]) for axis in "xy"])

    @property
    def bounds_xy_px(self) -> np.ndarray:
        return np.array([int(self.slide.properties.get(f"openslide.bounds-{axis}", 0)) for axis in "xy"])

    def redness(self, centre_xy_px: np.ndarray) -> float:
        """What the map has to be where a patch has its middle here; 0 on glass."""
        corner = np.rint(np.asarray(centre_xy_px) - PATCH_PX / 2).astype(int)
        red = np.asarray(self.slide.read_region(tuple(corner), 0, (PATCH_PX, PATCH_PX)))[..., 0].mean()
        return 0.0 if red > GLASS_FROM else float(np.clip((red - COOL) / (HOT - COOL), 0, 1))

    def centres_xy_px(self) -> np.ndarray:
        """Middles of all patches of the scan."""
        width, height = (
            int(self.slide.properties.get(f"openslide.bounds-{name}", size))
            for name, size in zip(("width", "height"), self.slide.dimensions, strict=True)
        )
        return np.array(
            [
                self.bounds_xy_px + PATCH_PX * np.array([column + 0.5, row + 0.5])
                for row in range(height // PATCH_PX)
                for column in range(width // PATCH_PX)
            ]
        )

    def check_values(self, values: np.ndarray, centres_xy_px: np.ndarray) -> None:
        """Compare values with the pixels at the middles that a file gives for them."""
        assert len(values) == ROWS * COLUMNS
        expected = [self.redness(centre) for centre in centres_xy_px]
        np.testing.assert_allclose(values, expected, atol=ATOL)
        assert np.ptp(expected) > 0.5

    def check_regions(self, regions: shapely.Geometry, level: float, *, origin_xy_px: np.ndarray) -> None:
        """Compare which patches lie in ``regions``, whose points count from ``origin_xy_px``, with their pixels."""
        assert regions.is_valid
        centres = self.centres_xy_px()
        redness = np.array([self.redness(centre) for centre in centres])
        clear = abs(redness - level) > ATOL
        inside = shapely.contains_xy(regions, *(centres - origin_xy_px).T)
        np.testing.assert_array_equal(inside[clear], redness[clear] > level)
        assert 0 < inside.sum() < ROWS * COLUMNS
        corners = shapely.get_coordinates(regions) - (self.bounds_xy_px - origin_xy_px)
        assert not (corners % PATCH_PX).any()


class Redness(HeatMap):
    """V's first feature."""

    def __call__(self, network: DSNet, image: torch.Tensor, class_index: int) -> np.ndarray:
        mean = 255 * image[0, 0].numpy()
        return np.where(mean > 0, np.clip((mean - COOL) / (HOT - COOL), 0, 1), 0).astype(np.float32)


@pytest.fixture(scope="module", params=[make_tiff, make_mirax, make_dicom], ids=["tiff", "mrxs", "dicom"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    """Encoding, prediction and export, with the redness of V's first feature in place of Grad-CAM."""
    make: Callable[[Path], Path] = request.param
    folder = tmp_path_factory.mktemp("case")
    path = make(folder)

    slides = InferenceSet(str(path), job_of(folder / "data", MeanEncoder), CARD, model="model.pt")
    slides.prepare()
    with slides.opened():
        list(slides)
    collector = PredictionCollector()
    collector.predictions = [Prediction(path.stem, None, (0.2, 0.8), 0.5)]
    write_all(slides, collector, DSNet(embedding_channels=6), folder / "out", made_by=Redness())
    with openslide.OpenSlide(path) as slide:
        yield Case(slide, folder / "out" / path.stem)


def test_nifti_by_itk(case: Case) -> None:
    """ITK's world is the slide: x to the right and y down, in mm from its corner."""
    image = SimpleITK.ReadImage(str(case.folder / "cam.nii.gz"))
    values = SimpleITK.GetArrayFromImage(image)[0]
    points_mm = [image.TransformIndexToPhysicalPoint((column, row, 0)) for row, column in np.ndindex(values.shape)]
    case.check_values(values.ravel(), 1000 * np.array(points_mm)[:, :2] / case.mpp_xy)
    np.testing.assert_allclose(np.array(image.GetSpacing())[:2], PATCH_PX * case.mpp_xy / 1000, rtol=1e-6)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (3, 3))[:2, :2], np.eye(2), atol=1e-6)


def test_ome_tiff_by_ome_types_and_pillow(case: Case) -> None:
    pixels = ome_types.from_tiff(case.folder / "cam.ome.tif").images[0].pixels
    with Image.open(case.folder / "cam.ome.tif") as image:
        values = np.asarray(image)
    size_um = np.array([pixels.physical_size_x, pixels.physical_size_y])
    corner_um = np.array([pixels.planes[0].position_x, pixels.planes[0].position_y])
    columns_rows = np.array([(column + 0.5, row + 0.5) for row, column in np.ndindex(values.shape)])
    case.check_values(values.ravel(), (corner_um + columns_rows * size_um) / case.mpp_xy)


@pytest.mark.parametrize("level", [level for level, _ in LEVELS])
def test_geojson_by_shapely(case: Case, level: float) -> None:
    """QuPath's image begins at OpenSlide's bounds."""
    features = json.loads((case.folder / "cam.geojson").read_text(encoding="utf-8"))["features"]
    chosen = [feature for feature in features if feature["properties"]["name"] == f"tumour >= {level:g}"]
    regions = [shapely.from_geojson(json.dumps(feature["geometry"])) for feature in chosen]
    case.check_regions(shapely.union_all(regions), level, origin_xy_px=case.bounds_xy_px)
    for region, feature in zip(regions, chosen, strict=True):
        inside = [
            case.redness(centre)
            for centre in case.centres_xy_px()
            if region.contains(shapely.Point(centre - case.bounds_xy_px))
        ]
        measured = feature["properties"]["measurements"]
        assert measured["Grad-CAM max"] == pytest.approx(max(inside), abs=ATOL)
        assert measured["Grad-CAM mean"] == pytest.approx(np.mean(inside), abs=ATOL)


@pytest.mark.parametrize("level", [level for level, _ in LEVELS])
def test_asap_xml_by_shapely(case: Case, level: float) -> None:
    """ASAP's image is the whole glass."""
    case.check_regions(read_asap(case.folder / "cam.xml", f"tumour >= {level:g}"), level, origin_xy_px=np.zeros(2))


def read_asap(path: Path, group: str) -> shapely.Geometry:
    """Join the outlines of a group, none of which lies on another."""
    polygons = []
    for annotation in minidom.parse(str(path)).getElementsByTagName("Annotation"):
        points = sorted(
            (int(point.getAttribute("Order")), float(point.getAttribute("X")), float(point.getAttribute("Y")))
            for point in annotation.getElementsByTagName("Coordinate")
        )
        if annotation.getAttribute("PartOfGroup") == group:
            polygons.append(shapely.Polygon([point[1:] for point in points]))
    assert all(polygon.is_valid for polygon in polygons)
    joined = shapely.union_all(polygons)
    assert joined.area == sum(polygon.area for polygon in polygons)
    return joined


def test_the_code_in_the_docs(case: Case) -> None:
    """It finds the reddest patch, and the regions on the glass."""
    text = (Path(__file__).parents[2] / "docs" / "exports.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    (opening,) = re.findall(r"^folder, slide = .+$", code, re.MULTILINE)
    found = {"folder": case.folder, "slide": case.slide}
    exec(code.replace(opening, ""), found)
    reddest = max(case.centres_xy_px(), key=case.redness)
    np.testing.assert_array_equal(found["corner_px"], reddest - PATCH_PX / 2)
    assert found["hottest_patch"].size == (PATCH_PX, PATCH_PX)
    hot = [region for name, region in found["regions"] if name == "tumour >= 0.75"]
    case.check_regions(shapely.union_all(hot), 0.75, origin_xy_px=np.zeros(2))


def test_dicom_slides_have_a_map_in_dicom(case: Case) -> None:
    """Where it lies is tested in ``test_parametric_map.py``."""
    is_dicom = case.slide.properties["openslide.vendor"] == "dicom"
    assert (case.folder / "cam.dcm").is_file() == is_dicom


@pytest.mark.parametrize("seed", range(3))
def test_holes_are_holes_to_others(tmp_path: Path, seed: int) -> None:
    cam = np.random.default_rng(seed).random((17, 23)).astype(np.float32) ** 0.5
    view = view_of(cam, observed=cam > 0, slide=Path("absent.mrxs"), bounds_xy_px=(100, 200))
    write_heat_map(tmp_path, view)
    rows, columns = np.indices(cam.shape)
    x, y = 640 + 128 * (columns + 0.5), 256 + 128 * (rows + 0.5)
    features = json.loads((tmp_path / "cam.geojson").read_text(encoding="utf-8"))["features"]
    for level, _ in LEVELS:
        name = f"tumour >= {level:g}"
        polygons = [
            shapely.from_geojson(json.dumps(feature["geometry"]))
            for feature in features
            if feature["properties"]["name"] == name
        ]
        assert all(polygon.is_valid for polygon in polygons)
        assert any(polygon.interiors for polygon in polygons)
        assert sum(polygon.area for polygon in polygons) == 128**2 * (cam >= level).sum()
        qupath, asap = shapely.union_all(polygons), read_asap(tmp_path / "cam.xml", name)
        np.testing.assert_array_equal(shapely.contains_xy(qupath, x - 100, y - 200), cam >= level)
        np.testing.assert_array_equal(shapely.contains_xy(asap, x, y), cam >= level)
