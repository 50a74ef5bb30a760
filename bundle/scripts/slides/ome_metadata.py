"""What OME's XML in a TIFF says of the slide: size, planes, resolution."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from xml.etree import ElementTree

from ..common.errors import SlideError
from .tiff_page import TiffPage

UM_PER_UNIT = {"nm": 1e-3, "µm": 1.0, "μm": 1.0, "um": 1.0, "mm": 1e3, "cm": 1e4, "m": 1e6, "in": 25400.0}
"""Micrometres in the units of OME's PhysicalSizeXUnit (the micro sign, or the Greek letter); its default is the micrometre."""

_HEAD_CHARACTERS = 4096


@dataclass(frozen=True)
class OmeImage:
    """The image of the slide: the directories of its colours, one or three; ``mpp_xy`` in micrometres per pixel."""

    directories: tuple[int, ...]
    mpp_xy: tuple[float, float] | None


def is_ome(page: TiffPage) -> bool:
    """Whether the description of a file's first page is OME's XML, whole or cut."""
    head = page.description[:_HEAD_CHARACTERS].lstrip("\ufeff \r\n\t")
    return head.startswith("<") and ("<OME" in head or ":OME" in head)


def read_ome(pages: tuple[TiffPage, ...]) -> OmeImage:
    """Read what the XML of a file's first page says of the slide: of several images, such as a macro, the one with most pixels.

    Raises:
        SlideError: It is cut or damaged, contradicts the pages, or the slide is not one plane of 8-bit RGB in this file.
    """
    try:
        root = ElementTree.fromstring(pages[0].description)
    except ElementTree.ParseError as error:
        raise SlideError(
            f"an OME-TIFF whose XML cannot be read ({error}): the file was cut off, or is damaged"
        ) from error
    images = [element for element in root.iter() if _name(element) == "Pixels"]
    if not images:
        raise SlideError("an OME-TIFF whose XML names no image")
    try:
        stated = [{side: int(image.get(f"Size{side}", "1")) for side in "XYCZT"} for image in images]
        pixels, sides = max(zip(images, stated, strict=True), key=lambda image: image[1]["X"] * image[1]["Y"])
        directories = _directories(pixels, sides["C"], pages)
    except ValueError as error:
        raise SlideError(f"an OME-TIFF whose XML states a size that is no number ({error})") from error
    kind, samples = pixels.get("Type", ""), _page(pages, directories[0]).samples
    if kind != "uint8" or sides["C"] != 3 or sides["Z"] != 1 or sides["T"] != 1 or samples not in (1, 3):
        words = " x ".join(f"{side} {sides[side]}" for side in "TZCYX")
        raise SlideError(f"an OME-TIFF of {kind}, {words}, expected 8-bit RGB in one plane: convert it")
    for number in directories:
        page = _page(pages, number)
        if (page.width, page.height) != (sides["X"], sides["Y"]):
            raise SlideError(
                f"an OME-TIFF whose XML states {sides['X']} x {sides['Y']} px, but its directory {number} {page.width} x "
                f"{page.height}"
            )
    return OmeImage(directories, mpp_xy_of_pixels(pixels))


def _directories(pixels: ElementTree.Element, colours: int, pages: tuple[TiffPage, ...]) -> tuple[int, ...]:
    """Return the directory of each colour, or of all at once."""
    data = [element for element in pixels if _name(element) == "TiffData"]
    names = {uuid.get("FileName") for element in data for uuid in element if _name(uuid) == "UUID"}
    if len(names) > 1:
        raise SlideError("its planes lie in several files, expected one file: convert it")
    first = int(data[0].get("IFD", "0")) if data else 0
    if _page(pages, first).samples != 1 or colours != 3:
        return (first,)
    found = (
        {int(element.get("FirstC", "0")): int(element.get("IFD", "0")) for element in data} if len(data) == 3 else {}
    )
    return tuple(found.get(colour, first + colour) for colour in range(3))


def _page(pages: tuple[TiffPage, ...], number: int) -> TiffPage:
    if not 0 <= number < len(pages):
        raise SlideError(
            f"an OME-TIFF of {len(pages)} directories whose XML names {number}: the file was cut off, or is damaged"
        )
    return pages[number]


def mpp_xy_of_pixels(pixels: ElementTree.Element) -> tuple[float, float] | None:
    """Return PhysicalSizeX and PhysicalSizeY in micrometres; one alone is taken for both."""
    stated = [value for axis in "XY" for value in _physical_sizes(pixels, axis)]
    return (stated[0], stated[-1]) if stated else None


def _physical_sizes(pixels: ElementTree.Element, axis: str) -> Iterator[float]:
    try:
        size = (
            float(pixels.attrib[f"PhysicalSize{axis}"].replace(",", "."))
            * UM_PER_UNIT[pixels.get(f"PhysicalSize{axis}Unit", "µm")]
        )
    except (KeyError, ValueError):
        return
    if isfinite(size) and size > 0:
        yield size


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
