"""The heat map as outlines for viewers: GeoJSON for QuPath, XML for ASAP, both in level-0 pixels."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ..common.files import atomic_path
from ..slides.geometry import PatchGrid
from .polygons import Polygon, Ring, trace_cells

LEVELS: tuple[tuple[float, tuple[int, int, int]], ...] = ((0.5, (255, 165, 0)), (0.75, (220, 20, 60)))
"""Where the outlines run, as parts of the slide's maximum, and their colours (RGB); inner ones lie in outer ones."""


@dataclass(frozen=True)
class Band:
    """Regions whose heat is at least a level.

    Attributes:
        name: class and level, such as ``"tumor >= 0.5"``.
        color: RGB, 0 to 255.
        polygons: the regions.
    """

    name: str
    color: tuple[int, int, int]
    polygons: tuple[Polygon, ...]


def outline(cam: NDArray[np.float32], grid: PatchGrid, *, class_name: str) -> list[Band]:
    """Outline a heat map (H, W) on ``grid`` at every level of `LEVELS`."""
    return [
        Band(f"{class_name} >= {level:g}", color, tuple(trace_cells(cam >= level, grid))) for level, color in LEVELS
    ]


def write_geojson(path: Path, bands: Sequence[Band]) -> None:
    """Write a FeatureCollection with one feature a region, as QuPath imports it (File, Import objects).

    Rings are closed; the first is the outline, the others are holes (RFC 7946, in pixels instead of degrees).
    """
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [_closed(ring) for ring in (polygon.exterior, *polygon.holes)],
            },
            "properties": {
                "objectType": "annotation",
                "name": band.name,
                "classification": {"name": band.name, "color": list(band.color)},
            },
        }
        for band in bands
        for polygon in band.polygons
    ]
    with atomic_path(path) as partial:
        partial.write_text(json.dumps({"type": "FeatureCollection", "features": features}) + "\n", encoding="utf-8")


def write_asap_xml(path: Path, bands: Sequence[Band]) -> None:
    """Write the same regions for ASAP, one annotation group a level.

    ASAP has no holes: they are annotations of a group of their own, ``"<level> hole"``, to be subtracted when masks are painted
    (Camelyon16 keeps its exclusions in a separate group likewise).
    """
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for band in bands:
        color = "#{:02x}{:02x}{:02x}".format(*band.color)
        outlines = [polygon.exterior for polygon in band.polygons]
        holes = [ring for polygon in band.polygons for ring in polygon.holes]
        for group, rings, group_color in ((band.name, outlines, color), (f"{band.name} hole", holes, "#000000")):
            element = ElementTree.SubElement(groups, "Group", Name=group, PartOfGroup="None", Color=group_color)
            ElementTree.SubElement(element, "Attributes")
            for index, ring in enumerate(rings):
                _add_annotation(annotations, ring, name=f"{group} {index}", group=group, color=group_color)
    ElementTree.indent(root)
    with atomic_path(path) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _add_annotation(parent: ElementTree.Element, ring: Ring, *, name: str, group: str, color: str) -> None:
    annotation = ElementTree.SubElement(parent, "Annotation", Name=name, Type="Polygon", PartOfGroup=group, Color=color)
    coordinates = ElementTree.SubElement(annotation, "Coordinates")
    for order, (x, y) in enumerate(ring):
        ElementTree.SubElement(coordinates, "Coordinate", Order=str(order), X=str(x), Y=str(y))


def _closed(ring: Ring) -> list[list[int]]:
    return [list(point) for point in (*ring, ring[0])]
