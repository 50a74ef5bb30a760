"""The heat map as outlines for viewers: GeoJSON for QuPath, XML for ASAP, in level-0 pixels as each of them counts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..common.files import atomic_path
from ..dsnet.heat_map import GRAD_CAM, MapKind
from ..slides.geometry import PatchGrid
from .polygons import Polygon, Ring, label_without_holes, trace_regions

LEVELS: tuple[tuple[float, tuple[int, int, int]], ...] = ((0.5, (255, 165, 0)), (0.75, (220, 20, 60)))
"""Where the outlines run, of a map from 0 to 1, and their colours (RGB); inner ones lie in outer ones."""

DIGITS = 4  # of a measurement


@dataclass(frozen=True)
class Region:
    """Cells that hang together.

    Attributes:
        polygon: their outline.
        mean: mean of the heat in them.
        maximum: its maximum.
    """

    polygon: Polygon
    mean: float
    maximum: float


@dataclass(frozen=True)
class Band:
    """Regions whose heat is at least a level.

    Attributes:
        name: class and level, such as ``"tumor >= 0.5"``.
        color: RGB, 0 to 255.
        regions: the regions.
        pieces: outlines of the same regions, cut so that none has a hole.
    """

    name: str
    color: tuple[int, int, int]
    regions: tuple[Region, ...]
    pieces: tuple[Ring, ...]


def outline(heat: NDArray[np.float32], grid: PatchGrid, *, class_name: str) -> list[Band]:
    """Outline a heat map (H, W) on ``grid`` at every level of `LEVELS`."""
    bands = []
    for level, color in LEVELS:
        hot = heat >= level
        labels, count = ndimage.label(hot)
        index = range(1, count + 1)
        means, maxima = ndimage.mean(heat, labels, index), ndimage.maximum(heat, labels, index)
        polygons = trace_regions(labels, count, grid)
        regions = tuple(map(Region, polygons, map(float, means), map(float, maxima)))
        pieces = tuple(polygon.exterior for polygon in trace_regions(*label_without_holes(hot), grid))
        bands.append(Band(f"{class_name} >= {level:g}", color, regions, pieces))
    return bands


def write_geojson(
    path: Path, bands: Sequence[Band], *, bounds_xy_px: tuple[int, int], kind: MapKind = GRAD_CAM
) -> None:
    """Write a FeatureCollection with one feature per region, as QuPath imports it (File, Import objects).

    Rings are closed; the first is the outline, the others are holes (RFC 7946, in pixels instead of degrees). QuPath shows what was
    scanned alone, and counts pixels from there (its ``OpenSlideImageServer``): ``bounds_xy_px``, the corner of the scan in level-0
    pixels of the glass, is taken off every point and noted in the file.
    """
    left, top = bounds_xy_px
    features = [
        {
            "type": "Feature",
            "geometry": {
                "type": "Polygon",
                "coordinates": [
                    [[x - left, y - top] for x, y in (*ring, ring[0])]
                    for ring in (region.polygon.exterior, *region.polygon.holes)
                ],
            },
            "properties": {
                "objectType": "annotation",
                "name": band.name,
                "classification": {"name": band.name, "color": list(band.color)},
                "measurements": {
                    f"{kind.title} mean": round(region.mean, DIGITS),
                    f"{kind.title} max": round(region.maximum, DIGITS),
                },
            },
        }
        for band in bands
        for region in band.regions
    ]
    content = {"type": "FeatureCollection", "bounds_xy_px": list(bounds_xy_px), "features": features}
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content) + "\n", encoding="utf-8")


def write_asap_xml(path: Path, bands: Sequence[Band]) -> None:
    """Write the same regions for ASAP, one annotation group per level, in level-0 pixels of the whole glass, which ASAP shows.

    ASAP knows no holes: a region with one is cut along a row of cells, and the pieces together are the region.
    """
    root = ElementTree.Element("ASAP_Annotations")
    annotations = ElementTree.SubElement(root, "Annotations")
    groups = ElementTree.SubElement(root, "AnnotationGroups")
    for band in bands:
        color = "#{:02x}{:02x}{:02x}".format(*band.color)
        group = ElementTree.SubElement(groups, "Group", Name=band.name, PartOfGroup="None", Color=color)
        ElementTree.SubElement(group, "Attributes")
        for index, ring in enumerate(band.pieces):
            _add_annotation(annotations, ring, name=f"{band.name} {index}", group=band.name, color=color)
    ElementTree.indent(root)
    with atomic_path(path) as partial:
        ElementTree.ElementTree(root).write(partial, encoding="utf-8", xml_declaration=True)


def _add_annotation(parent: ElementTree.Element, ring: Ring, *, name: str, group: str, color: str) -> None:
    annotation = ElementTree.SubElement(parent, "Annotation", Name=name, Type="Polygon", PartOfGroup=group, Color=color)
    coordinates = ElementTree.SubElement(annotation, "Coordinates")
    for order, (x, y) in enumerate(ring):
        ElementTree.SubElement(coordinates, "Coordinate", Order=str(order), X=str(x), Y=str(y))
