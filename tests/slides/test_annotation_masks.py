"""The script of docs/localisation.md that paints masks from the outlines of QuPath and ASAP."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from docs_blocks import REPO, blocks_of
from PIL import Image

from scripts.slides.geometry import PatchGrid
from scripts.slides.lesion_mask import lesion_cells

CELL_PX, CORNER_XY = 128, (300, 200)
GRID = PatchGrid(CELL_PX, CORNER_XY, (6, 8))
ATTRIBUTES = {"slide_size_xy_px": np.array([2000, 1500]), "bounds_xywh_px": np.array([*CORNER_XY, 1100, 900])}


def box(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    """A closed ring around cells, in level-0 pixels from the corner of the scan."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [[CELL_PX * x, CELL_PX * y] for x, y in corners]


def feature(kind: str, coordinates: list[object], name: str | None = "Tumor") -> dict[str, object]:
    about = {} if name is None else {"classification": {"name": name, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": {"objectType": "annotation", **about},
    }


def write_qupath(path: Path) -> None:
    """An island in the hole of a region that comes after it, two regions in one, and what is no lesion."""
    features = [
        feature("Polygon", [box(2, 2, 3, 3)]),
        feature("Polygon", [box(0, 0, 5, 5), box(1, 1, 4, 4)]),
        feature("MultiPolygon", [[box(6, 0, 7, 1)], [box(7, 4, 8, 6)]]),
        feature("Polygon", [box(5, 5, 6, 6)], name="Stroma"),
        feature("Polygon", [box(5, 5, 6, 6)], name=None),
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def write_asap(path: Path) -> None:
    """The same lesions; the region with a hole in four pieces."""
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    pieces = [(0, 0, 5, 1), (0, 4, 5, 5), (0, 1, 1, 4), (4, 1, 5, 4), (2, 2, 3, 3), (6, 0, 7, 1), (7, 4, 8, 6)]
    for group, piece in [*(("Tumor", piece) for piece in pieces), ("Stroma", (5, 5, 6, 6))]:
        shape = ElementTree.SubElement(annotations, "Annotation", Type="Polygon", PartOfGroup=group)
        ring = ElementTree.SubElement(shape, "Coordinates")
        for order, (x, y) in enumerate(box(*piece)[:-1]):
            at = {"X": f"{x + CORNER_XY[0]:.4f}", "Y": f"{y + CORNER_XY[1]:.4f}"}
            ElementTree.SubElement(ring, "Coordinate", Order=str(order), **at)
    ElementTree.ElementTree(root).write(path)


@pytest.mark.parametrize(("name", "write"), [("case.geojson", write_qupath), ("case.xml", write_asap)])
def test_the_script_paints_what_is_outlined(
    name: str, write: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = (block for block in blocks_of(REPO / "docs" / "localisation.md") if block.language == "python")
    monkeypatch.chdir(tmp_path)
    for folder in ("annotations", "scae"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "annotations" / name)
    with h5py.File("scae/case.h5", "w") as file:
        file.attrs.update(ATTRIBUTES)
    exec(block.text, {})
    mask, gone = tmp_path / "masks" / "case.png", tmp_path / "gone.mrxs"
    expected = np.zeros(GRID.shape_yx, dtype=bool)
    expected[:5, :5] = True
    expected[1:4, 1:4] = False
    expected[2, 2] = expected[0, 6] = expected[4, 7] = expected[5, 7] = True
    for mask_px in (16, None):
        found = lesion_cells(mask, GRID, slide=gone, attributes=ATTRIBUTES, mask_px=mask_px)
        np.testing.assert_array_equal(found, expected)
    with Image.open(mask) as image:
        assert (image.mode, image.size, image.getextrema()) == ("L", (125, 94), (0, 255))
