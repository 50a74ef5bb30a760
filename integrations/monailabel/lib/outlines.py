"""The outlines of a heat map in the forms that MONAI Label's clients read, made from the bundle's ``cam.xml`` and ``cam.geojson``."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def read_outlines(asap: Path) -> dict[str, Any]:
    """Turn the bundle's ``cam.xml`` into MONAI Label's form of an annotation, in level-0 pixels of the whole glass.

    Neither form knows holes: a region with one comes in pieces.

    Returns:
        ``{"annotation": {"labels": {label: RGB}, "elements": [{"label": label, "contours": rings of [x, y]}]}}``.
    """
    root = ElementTree.parse(asap).getroot()
    colors = {group.attrib["Name"]: list(bytes.fromhex(group.attrib["Color"][1:])) for group in root.iter("Group")}
    contours: dict[str, list[list[list[int]]]] = defaultdict(list)
    for annotation in root.iter("Annotation"):
        ring = [[int(point.attrib["X"]), int(point.attrib["Y"])] for point in annotation.iter("Coordinate")]
        contours[annotation.attrib["PartOfGroup"]].append(ring)
    elements = [{"label": label, "contours": rings} for label, rings in contours.items()]
    return {"annotation": {"labels": colors, "elements": elements}}


def write_qupath_xml(asap: Path, geojson: Path, description: str) -> str:
    """Write the bundle's ``cam.xml`` anew for QuPath's extension.

    The extension takes the name of an annotation as its class, so the numbers in the names go; and QuPath counts pixels from the scan's
    corner and not from the glass's, so the one that the bundle's ``cam.geojson`` notes is taken off.

    Args:
        asap: ``cam.xml``.
        geojson: ``cam.geojson`` of the same heat map.
        description: a text for the whole.

    Returns:
        path of a temporary file; whoever asked removes it.
    """
    corner = dict(zip("XY", json.loads(geojson.read_text(encoding="utf-8"))["bounds_xy_px"], strict=True))
    tree = ElementTree.parse(asap)
    for annotations in tree.iter("Annotations"):
        annotations.set("Description", description)
    for annotation in tree.iter("Annotation"):
        annotation.set("Name", annotation.attrib["PartOfGroup"])
        for point in annotation.iter("Coordinate"):
            for axis, offset in corner.items():
                point.set(axis, str(int(point.attrib[axis]) - offset))
    with tempfile.NamedTemporaryFile(suffix=".xml", delete=False) as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)
    return file.name
