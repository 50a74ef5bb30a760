from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import REPO

from scripts.inference.annotations import outline, write_asap_xml, write_geojson
from scripts.slides.geometry import PatchGrid

HEAT = np.zeros((5, 5), dtype=np.float32)
HEAT[1:4, 1:4] = 0.6
HEAT[2, 2] = 0.0
HEAT[1, 1] = 1.0


@pytest.fixture
def outlines() -> ModuleType:
    """The app's module; it needs no MONAI Label."""
    spec = spec_from_file_location("outlines", REPO / "integrations" / "monailabel" / "lib" / "outlines.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_ring_with_a_hole(outlines: ModuleType, tmp_path: Path) -> None:
    write_geojson(tmp_path / "cam.geojson", outline(HEAT, PatchGrid(128, (0, 0), HEAT.shape), class_name="tumor"))
    annotation = outlines.read_outlines(tmp_path / "cam.geojson")["annotation"]
    sizes = {element["label"]: [len(ring) for ring in element["contours"]] for element in annotation["elements"]}
    assert sizes == {"tumor >= 0.5": [4], "tumor >= 0.5 hole": [4], "tumor >= 0.75": [4]}
    corners = {tuple(point) for point in annotation["elements"][1]["contours"][0]}
    assert corners == {(256, 256), (384, 256), (384, 384), (256, 384)}
    assert list(annotation["labels"]) == list(sizes)


def test_names_become_groups_and_stay_well_formed(outlines: ModuleType, tmp_path: Path) -> None:
    write_asap_xml(tmp_path / "cam.xml", outline(HEAT, PatchGrid(128, (0, 0), HEAT.shape), class_name='a & "b" < c'))
    file = Path(outlines.write_asap(tmp_path / "cam.xml", 'a & "b" < c 0.9'))
    root = ElementTree.parse(file).getroot()
    file.unlink()
    names = [element.attrib["Name"] for element in root.iter("Annotation")]
    assert names == ['a & "b" < c >= 0.5', 'a & "b" < c >= 0.5 hole', 'a & "b" < c >= 0.75']
