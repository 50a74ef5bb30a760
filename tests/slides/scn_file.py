"""A writer of minimal Leica SCN slides, for tests: a macro image of the glass, and scans that lie somewhere on it.

Format: https://openslide.org/formats/leica and what OpenSlide requires of a file. The XML states the places of the scans on the glass
in nanometres; the tiles of the file hold the scans alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile
from slides.tiff_tiles import tiles_of, write_level

MACRO_PX = 64
XML = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">
  <collection name="slide" sizeX="{width_nm}" sizeY="{height_nm}">{images}
  </collection>
</scn>
"""
IMAGE = """
    <image name="{name}">
      <creationDate>2020-01-01T00:00:00Z</creationDate>
      <device model="Leica SCN400" version="1.4"/>
      <pixels sizeX="{width}" sizeY="{height}">{dimensions}</pixels>
      <view sizeX="{width_nm}" sizeY="{height_nm}" offsetX="{left_nm}" offsetY="{top_nm}" spacingZ="0"/>
      <scanSettings>
        <objectiveSettings><objective>{objective}</objective></objectiveSettings>
        <illuminationSettings>
          <numericalAperture>0.4</numericalAperture>
          <illuminationSource>brightfield</illuminationSource>
        </illuminationSettings>
      </scanSettings>
    </image>"""
DIMENSION = '<dimension sizeX="{width}" sizeY="{height}" r="{level}" ifd="{directory}"/>'


def write_scn(
    path: Path,
    glass: np.ndarray,
    scans_xywh_px: Sequence[tuple[int, int, int, int]],
    *,
    tile_px: int = 64,
    mpp: float = 0.5,
    levels: int = 2,
) -> Path:
    """Write ``path`` (.scn); level n holds every 2**n-th pixel.

    Args:
        path: the slide.
        glass: RGB of the whole glass, (height, width, 3).
        scans_xywh_px: left, top, width, height of each scan on it, multiples of 2**(levels - 1).
        tile_px: side of a tile.
        mpp: micrometres per level-0 pixel.
        levels: pyramid levels.
    """
    nm = round(1000 * mpp)
    height, width = glass.shape[:2]
    places = [
        ("macro", (0, 0, width, height), 1),
        *((f"scan{i}", scan, levels) for i, scan in enumerate(scans_xywh_px)),
    ]
    images, directories = "", []
    for name, (left, top, w, h), count in places:
        pixels = glass[top : top + h, left : left + w]
        pyramid = [pixels[:: 2**level, :: 2**level] for level in range(count)]
        if name == "macro":
            pyramid = [glass[:: height // MACRO_PX, :: width // MACRO_PX]]
        dimensions = "".join(
            DIMENSION.format(
                width=scaled.shape[1], height=scaled.shape[0], level=level, directory=len(directories) + level
            )
            for level, scaled in enumerate(pyramid)
        )
        directories += [(scaled, None if name == "macro" else mpp * 2**level) for level, scaled in enumerate(pyramid)]
        images += IMAGE.format(
            name=name,
            width=w,
            height=h,
            dimensions=dimensions,
            width_nm=w * nm,
            height_nm=h * nm,
            left_nm=left * nm,
            top_nm=top * nm,
            objective=0.6 if name == "macro" else 20,
        )
    xml = XML.format(width_nm=width * nm, height_nm=height * nm, images=images)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for directory, (pixels, resolution) in enumerate(directories):
            write_level(
                file,
                tiles_of(pixels, tile_px),
                size_xy_px=(pixels.shape[1], pixels.shape[0]),
                tile_px=tile_px,
                mpp=resolution,
                description=xml if directory == 0 else None,
            )
    return path
