"""What the directories of some vendors' TIFFs do not tell: a reader that goes by them alone would shift every patch."""

from xml.etree import ElementTree

import tifffile

from ..common.errors import SlideError

PHILIPS_LEVEL = ".//DataObject[@ObjectType='PixelDataRepresentation']/Attribute[@Name='DICOM_PIXEL_SPACING']"


def require_directories_that_tell(file: tifffile.TiffFile) -> None:
    """Refuse a TIFF whose pixels do not lie where its directories say.

    Of a Ventana BIF the tiles overlap, of a Leica SCN the scans lie somewhere on the glass: their places stand in XML that OpenSlide
    alone follows. Philips pads the directory of a level to whole tiles: its size follows from a pixel spacing in XML, one a level.

    Raises:
        SlideError: a BIF, an SCN, or a Philips TIFF without a spacing for each level.
    """
    if file.is_bif or file.is_scn:
        name = "a Ventana BIF" if file.is_bif else "a Leica SCN"
        raise SlideError(f"{name}, whose tiles are placed by its XML, which OpenSlide alone follows")
    if file.is_philips:
        levels = sum(page.is_tiled for page in file.pages)  # type: ignore[union-attr]
        try:
            spacings = len(ElementTree.fromstring(file.philips_metadata or "").findall(PHILIPS_LEVEL))
        except ElementTree.ParseError as error:
            raise SlideError(f"a Philips TIFF whose XML cannot be read ({error})") from error
        if spacings != levels:
            raise SlideError(
                f"a Philips TIFF of {levels} levels whose XML tells the spacing of {spacings}: it tells how far each is padded"
            )
