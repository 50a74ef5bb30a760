from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from tiny_flow import BUNDLE

from scripts.inference.annotations import outline, write_asap_xml, write_geojson
from scripts.slides.geometry import PatchGrid

CLASS = 'a & "b" < c'
BANDS = [f"{CLASS} >= 0.5", f"{CLASS} >= 0.75"]
HEAT = np.array([[1.0, 0.6, 0.0], [0.0, 0.0, 0.6]], dtype=np.float32)


@pytest.fixture
def outlines() -> ModuleType:
    """The app's module; it needs no MONAI Label."""
    spec = spec_from_file_location("outlines", BUNDLE.parent / "integrations" / "monailabel" / "lib" / "outlines.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def heat_map(tmp_path: Path) -> Path:
    """Folder with the bundle's files of a heat map, on a scan that begins at (1000, 2000) of the glass."""
    bands = outline(HEAT, PatchGrid(128, (1280, 2560), HEAT.shape), class_name=CLASS)
    write_asap_xml(tmp_path / "cam.xml", bands)
    write_geojson(tmp_path / "cam.geojson", bands, bounds_xy_px=(1000, 2000))
    return tmp_path


def test_read_outlines(outlines: ModuleType, heat_map: Path) -> None:
    annotation = outlines.read_outlines(heat_map / "cam.xml")["annotation"]
    assert annotation["labels"] == {BANDS[0]: [255, 165, 0], BANDS[1]: [220, 20, 60]}
    corners = {
        element["label"]: [sorted(map(tuple, ring)) for ring in element["contours"]]
        for element in annotation["elements"]
    }
    assert corners == {
        BANDS[0]: [
            [(1280, 2560), (1280, 2688), (1536, 2560), (1536, 2688)],
            [(1536, 2688), (1536, 2816), (1664, 2688), (1664, 2816)],
        ],
        BANDS[1]: [[(1280, 2560), (1280, 2688), (1408, 2560), (1408, 2688)]],
    }


def test_qupath_gets_classes_for_names_and_counts_from_the_scan(outlines: ModuleType, heat_map: Path) -> None:
    file = Path(outlines.write_qupath_xml(heat_map / "cam.xml", heat_map / "cam.geojson", f"{CLASS} 0.9"))
    root = ElementTree.parse(file).getroot()
    file.unlink()
    assert [element.attrib["Name"] for element in root.iter("Annotation")] == [BANDS[0], BANDS[0], BANDS[1]]
    first = {(point.attrib["X"], point.attrib["Y"]) for point in next(root.iter("Annotation")).iter("Coordinate")}
    assert first == {("280", "560"), ("280", "688"), ("536", "560"), ("536", "688")}
    annotations = root.find("Annotations")
    assert annotations is not None
    assert annotations.attrib["Description"] == f"{CLASS} 0.9"
