"""What the directories of some vendors' TIFFs do not tell: a reader that goes by them alone would shift every patch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from typing import NamedTuple
from xml.etree import ElementTree

from ..common.errors import SlideError
from .tiff_page import TiffDirectories, TiffPage

PHILIPS_LEVEL = ".//DataObject[@ObjectType='PixelDataRepresentation']/Attribute[@Name='DICOM_PIXEL_SPACING']"
VENTANA_LEVEL = re.compile(r"^level=(\d{1,2}) ")
LEICA = "{*}"
"""Of any version of Leica's schema."""

MOST_LEVELS = 99
ROUNDING = 1e-3
"""Part of a pixel that the decimals of Philips' spacings may cost."""


@dataclass(frozen=True)
class PhilipsLevels:
    """Sizes of the levels without their padding, and the resolution of the first in micrometres per pixel."""

    sizes_xy_px: tuple[tuple[int, int], ...]
    mpp_xy: tuple[float, float]


class PlacedFormat(NamedTuple):
    """A format whose pixels do not lie where the directories say: its name, and OpenSlide's word for its vendor."""

    name: str
    vendor: str


def placed_format(directories: TiffDirectories) -> PlacedFormat | None:
    """Return the format of a file whose places OpenSlide alone follows; None where the directories tell them.

    The tiles of a Ventana BIF and a Trestle TIFF overlap. The scans of a Leica SCN lie somewhere on the glass. Their places stand
    in text that OpenSlide alone follows. NDPI has no tiles, but marks inside its JPEGs.
    """
    first = directories.pages[0]
    if directories.is_ndpi:
        return PlacedFormat("a Hamamatsu NDPI", "hamamatsu")
    if any("<iScan" in page.xmp or "<EncodeInfo" in page.xmp for page in directories.pages):
        return PlacedFormat("a Ventana BIF", "ventana")
    if "<scn" in first.description[:4096] and "leica" in first.description[:4096].lower():
        return PlacedFormat("a Leica SCN", "leica")
    return PlacedFormat("a Trestle TIFF", "trestle") if first.software.startswith("MedScan") else None


def placed_levels(directories: TiffDirectories) -> tuple[tuple[TiffPage, ...], ...]:
    """Return the pages of each level of a Ventana BIF or a Leica SCN; none where the text that tells them is not understood.

    SCN's macro image is left out: the image that fills the glass.
    """
    found: dict[int, list[TiffPage]] = {}
    for level, number in _numbered(directories):
        if number < len(directories.pages):
            found.setdefault(level, []).append(directories.pages[number])
    return tuple(tuple(found.get(level, ())) for level in range(max(found, default=-1) + 1))


def _numbered(directories: TiffDirectories) -> Iterator[tuple[int, int]]:
    """Yield level and number of the directories that are parts of levels."""
    for page in directories.pages:
        if match := VENTANA_LEVEL.search(page.description):
            yield int(match[1]), page.number
    try:
        scn = ElementTree.fromstring(directories.pages[0].description)
    except ElementTree.ParseError:
        return
    for glass in scn.iterfind(f".//{LEICA}collection"):
        for image in glass.iterfind(f"{LEICA}image"):
            view = image.find(f"{LEICA}view")
            if view is None or all(view.get(side) == glass.get(side) for side in ("sizeX", "sizeY")):
                continue
            for scaled in image.iterfind(f".//{LEICA}dimension"):
                level, directory = scaled.get("r", ""), scaled.get("ifd", "")
                if level.isdecimal() and directory.isdecimal() and scaled.get("z", "0") == "0":
                    yield min(int(level), MOST_LEVELS), int(directory)


def is_philips(first: TiffPage) -> bool:
    """Whether a file's first page is of a Philips scanner."""
    return first.software.startswith("Philips") and "<DataObject" in first.description


def philips_levels(pages: list[TiffPage]) -> PhilipsLevels:
    """Work out the sizes of the levels: the directories pad them to whole tiles, and spacings in the XML tell by how much.

    Args:
        pages: the tiled pages, in the order of the file.

    Raises:
        SlideError: The XML cannot be read, has not one spacing per level, or contradicts the directories.
    """
    try:
        found = ElementTree.fromstring(pages[0].description).findall(PHILIPS_LEVEL)
    except ElementTree.ParseError as error:
        raise SlideError(f"a Philips TIFF whose XML cannot be read ({error})") from error
    if len(found) != len(pages):
        raise SlideError(
            f"a Philips TIFF of {len(pages)} levels whose XML tells the spacing of {len(found)}: it tells how far each is padded"
        )
    spacings = [_spacing_yx_mm(element.text or "") for element in found]
    sizes = []
    for page, spacing_yx in zip(pages, spacings, strict=True):
        height, width = (
            int(side * base / spacing + ROUNDING)
            for side, base, spacing in zip((pages[0].height, pages[0].width), spacings[0], spacing_yx, strict=True)
        )
        tile_width, tile_height = page.tile_xy_px or (1, 1)
        if (-(-width // tile_width) * tile_width, -(-height // tile_height) * tile_height) != (page.width, page.height):
            raise SlideError(
                f"directory {page.number}: {page.width} x {page.height} px, but the spacing in the Philips XML tells {width} x "
                f"{height}, padded to whole tiles"
            )
        sizes.append((width, height))
    return PhilipsLevels(tuple(sizes), (1e3 * spacings[0][1], 1e3 * spacings[0][0]))


def _spacing_yx_mm(text: str) -> tuple[float, float]:
    try:
        y, x = (float(part.strip('"')) for part in text.split())
    except ValueError as error:
        raise SlideError(f"a Philips TIFF with the pixel spacing {text!r}, expected two numbers") from error
    if not (isfinite(x) and isfinite(y) and x > 0 and y > 0):
        raise SlideError(f"a Philips TIFF with the pixel spacing {text!r}, expected two numbers over 0")
    return y, x
