"""A writer of minimal Ventana BIF slides, for tests: one scanned area whose tiles overlap by the same number of pixels.

Format: https://openslide.org/formats/ventana and what OpenSlide requires of a file. The tiles lie side by side in the file, as if they
did not overlap; the XML tells by how much they do. Tiles are numbered from the bottom left, every second row from right to left.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from slides.tiff_tiles import tiles_of, under, write_level

XMLPACKET = 700  # TIFF's tag
UNDEFINED = 1  # its type: bytes
ISCAN = '<iScan Magnification="20" ScanRes="{mpp}" UnitNumber="1" BuildVersion="3.3.1"></iScan>'
ENCODE_INFO = """<?xml version="1.0" encoding="utf-8"?>
<EncodeInfo Ver="2">
  <SlideStitchInfo>
    <ImageInfo AOIScanned="1" AOIIndex="0" Width="{tile_px}" Height="{tile_px}" NumRows="{rows}" NumCols="{columns}"
        Pos-X="{left}" Pos-Y="0">
{joints}
    </ImageInfo>
  </SlideStitchInfo>
  <AoiOrigin><AOI0 OriginX="{origin}" OriginY="0"/></AoiOrigin>
</EncodeInfo>
"""
JOINT = (
    '<TileJointInfo FlagJoined="1" Confidence="100" Direction="{direction}" Tile1="{tile1}" Tile2="{tile2}" '
    'OverlapX="{overlap_x}" OverlapY="{overlap_y}"/>'
)


def write_bif(
    path: Path,
    pixels: np.ndarray,
    *,
    tile_px: int = 64,
    overlap_px: int = 8,
    left_px: int = 0,
    empty_columns: int = 0,
    mpp: float = 0.5,
    levels: int = 2,
) -> Path:
    """Write ``path`` (.bif); level n holds every 2**n-th pixel of the tiles, 2**n x 2**n of which share one.

    Args:
        path: the slide.
        pixels: RGB of the area, each side ``overlap_px`` more than a multiple of ``tile_px - overlap_px``.
        tile_px: side of a tile.
        overlap_px: by which neighbours overlap.
        left_px: where the area begins on the glass.
        empty_columns: columns of tiles before the area, a multiple of 2**(levels - 1), that the file has no pixels of.
        mpp: micrometres per level-0 pixel.
        levels: pyramid levels.
    """
    advance = tile_px - overlap_px
    rows, columns = ((side - overlap_px) // advance for side in pixels.shape[:2])
    assert pixels.shape == (rows * advance + overlap_px, columns * advance + overlap_px, 3)
    stored = np.ones((rows, empty_columns + columns), dtype=bool)
    stored[:, :empty_columns] = False
    mosaic = np.full((rows * tile_px, (empty_columns + columns) * tile_px, 3), 255, np.uint8)
    for row in range(rows):
        for column in range(columns):
            tile = pixels[row * advance :, column * advance :][:tile_px, :tile_px]
            mosaic[row * tile_px :, (empty_columns + column) * tile_px :][:tile_px, :tile_px] = tile
    joints = "\n".join(_joints(rows, columns, overlap_px))
    encode_info = ENCODE_INFO.format(
        tile_px=tile_px, rows=rows, columns=columns, left=left_px, origin=empty_columns * tile_px, joints=joints
    ).encode()
    iscan = ISCAN.format(mpp=mpp).encode()
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        write_level(
            file,
            tiles_of(pixels[:tile_px, :tile_px], tile_px),
            size_xy_px=(tile_px, tile_px),
            tile_px=tile_px,
            description="Label Image",
            extratags=[(XMLPACKET, UNDEFINED, len(iscan), iscan, True)],
        )
        for level in range(levels):
            scaled = mosaic[:: 2**level, :: 2**level]
            write_level(
                file,
                tiles_of(scaled, tile_px, under(stored, 2**level)),
                size_xy_px=(scaled.shape[1], scaled.shape[0]),
                tile_px=tile_px,
                description=f"level={level} mag={20 / 2**level:g} quality=95",
                extratags=[(XMLPACKET, UNDEFINED, len(encode_info), encode_info, True)] if level == 0 else (),
            )
    return path


def _joints(rows: int, columns: int, overlap_px: int) -> Iterator[str]:
    def number(row: int, column: int) -> int:
        upwards = rows - 1 - row
        return 1 + upwards * columns + (columns - 1 - column if upwards % 2 else column)

    for row in range(rows):
        for column in range(columns):
            if column + 1 < columns:
                yield JOINT.format(
                    direction="RIGHT",
                    tile1=number(row, column),
                    tile2=number(row, column + 1),
                    overlap_x=overlap_px,
                    overlap_y=0,
                )
            if row > 0:
                yield JOINT.format(
                    direction="UP",
                    tile1=number(row, column),
                    tile2=number(row - 1, column),
                    overlap_x=0,
                    overlap_y=overlap_px,
                )
