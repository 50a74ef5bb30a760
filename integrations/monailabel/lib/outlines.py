"""The outlines of a heat map in the forms that MONAI Label's clients read, in level-0 pixels."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree


def read_outlines(geojson: Path) -> dict[str, Any]:
    """Turn the bundle's ``cam.geojson`` into MONAI Label's form of an annotation.

    That form knows no holes: they are outlines with a label of their own, ``"<label> hole"``, as in the bundle's ASAP file.

    Returns:
        ``{"annotation": {"labels": {label: RGB}, "elements": [{"label": label, "contours": rings of [x, y]}]}}``; the last point of a
        ring is not the first one again.
    """
    colors: dict[str, list[int]] = {}
    contours: dict[str, list[list[list[int]]]] = defaultdict(list)
    for feature in json.loads(geojson.read_text(encoding="utf-8"))["features"]:
        band = feature["properties"]["classification"]
        exterior, *holes = feature["geometry"]["coordinates"]
        colors[band["name"]] = band["color"]
        contours[band["name"]].append(exterior[:-1])
        for hole in holes:
            colors[f"{band['name']} hole"] = [0, 0, 0]
            contours[f"{band['name']} hole"].append(hole[:-1])
    elements = [{"label": label, "contours": rings} for label, rings in contours.items()]
    return {"annotation": {"labels": colors, "elements": elements}}


def write_asap(source: Path, description: str) -> str:
    """Write the bundle's ``cam.xml`` anew for QuPath's extension, which takes the name of an annotation as its class.

    Args:
        source: ASAP file whose annotations have numbered names.
        description: a text for the whole, which ASAP has no field for.

    Returns:
        path of a temporary file; whoever asked removes it.
    """
    tree = ElementTree.parse(source)
    for annotations in tree.iter("Annotations"):
        annotations.set("Description", description)
    for annotation in tree.iter("Annotation"):
        annotation.set("Name", annotation.get("PartOfGroup", ""))
    with tempfile.NamedTemporaryFile(suffix=".xml", delete=False) as file:
        tree.write(file, encoding="utf-8", xml_declaration=True)
    return file.name
