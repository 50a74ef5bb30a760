"""A writer of minimal Philips TIFFs, for tests.

Format: https://openslide.org/formats/philips and what OpenSlide requires of a file. Every directory is padded to whole tiles, so that
the sizes of the levels are not those of the pyramid: those follow from the pixel spacings of the XML. Two images in strips come last.
"""

from pathlib import Path

import numpy as np
import tifffile
from slides.tiff_tiles import tiles_of, under, write_level

XML = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport">
  <Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray">
    <Array>
      <DataObject ObjectType="DPScannedImage">
        <Attribute Name="PIM_DP_IMAGE_TYPE" Group="0x301D" Element="0x1004" PMSVR="IString">WSI</Attribute>
        <Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">{spacing}</Attribute>
        <Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" Group="0x1001" Element="0x8B01" PMSVR="IDataObjectArray">
          <Array>{levels}</Array>
        </Attribute>
      </DataObject>
    </Array>
  </Attribute>
</DataObject>
"""
LEVEL = """
            <DataObject ObjectType="PixelDataRepresentation">
              <Attribute Name="DICOM_PIXEL_SPACING" Group="0x0028" Element="0x0030" PMSVR="IDoubleArray">{spacing}</Attribute>
              <Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_NUMBER" Group="0x1001" Element="0x8B02" PMSVR="IUInt16">{level}</Attribute>
            </DataObject>"""


def write_philips(
    path: Path,
    pixels: np.ndarray,
    stored: np.ndarray,
    *,
    tile_px: int = 64,
    mpp_xy: tuple[float, float] = (0.25, 0.25),
    levels: int = 3,
    spacings: int | None = None,
) -> Path:
    """Write ``path``; level n holds every 2**n-th pixel.

    Args:
        path: the slide.
        pixels: RGB of level 0, (rows * tile_px, columns * tile_px, 3).
        stored: bool (rows, columns): the tiles that are in the file at level 0; at others every tile that one of them is part of.
        tile_px: side of a tile.
        mpp_xy: micrometres per level-0 pixel along x and y.
        levels: pyramid levels.
        spacings: levels that the XML tells of; None: all.
    """
    texts = [" ".join(f'"{mpp * 2**level / 1000:.8g}"' for mpp in reversed(mpp_xy)) for level in range(levels)]
    described = "".join(LEVEL.format(spacing=text, level=level) for level, text in enumerate(texts[:spacings]))
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(levels):
            step = 2**level
            scaled = pixels[::step, ::step]
            height, width = (-(-side // tile_px) * tile_px for side in scaled.shape[:2])

            write_level(
                file,
                tiles_of(scaled, tile_px, under(stored, step)),
                size_xy_px=(width, height),
                tile_px=tile_px,
                software="Philips DP v1.0" if level == 0 else None,
                description=XML.format(spacing=texts[0], levels=described) if level == 0 else f"level={level}",
                subfiletype=int(level > 0),
            )
        for name in ("Macro", "Label"):
            file.write(
                pixels[::4, ::4], photometric="rgb", compression="jpeg", description=name, subfiletype=1, metadata=None
            )
    return path
