"""A writer of minimal MIRAX slides, for tests: one photo per image, no overlaps, images that the scanner left out missing.

Format: https://openslide.org/formats/mirax and what OpenSlide requires of a file.
"""

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

SLIDE_ID = "0123456789ABCDEF0123456789ABCDEF"
VERSION = "01.02"

GENERAL = """[GENERAL]
SLIDE_ID={slide_id}
IMAGENUMBER_X={columns}
IMAGENUMBER_Y={rows}
CameraImageDivisionsPerSide=1

[HIERARCHICAL]
HIER_COUNT=1
NONHIER_COUNT=0
INDEXFILE=Index.dat
HIER_0_NAME=Slide zoom level
HIER_0_COUNT={levels}
{sections}
[DATAFILE]
FILE_COUNT=1
FILE_0=Data0000.dat
"""

LEVEL = """
[LEVEL_{level}]
IMAGE_CONCAT_FACTOR={concat}
OVERLAP_X=0
OVERLAP_Y=0
MICROMETER_PER_PIXEL_X={mpp}
MICROMETER_PER_PIXEL_Y={mpp}
IMAGE_FORMAT={image_format}
IMAGE_FILL_COLOR_BGR=16777215
DIGITIZER_WIDTH={tile_px}
DIGITIZER_HEIGHT={tile_px}
"""


def write_mirax(
    path: Path,
    pixels: np.ndarray,
    scanned: np.ndarray,
    *,
    tile_px: int = 64,
    mpp: float = 0.5,
    levels: int = 2,
    image_format: str = "PNG",
) -> Path:
    """Write ``path`` (.mrxs) and the folder beside it; level n holds every 2**n-th pixel.

    Args:
        path: the slide.
        pixels: RGB of the whole glass, (rows * tile_px, columns * tile_px, 3).
        scanned: bool (rows, columns): the images that are stored at level 0; at others every image that one of them is part of.
        tile_px: side of an image.
        mpp: micrometres per level-0 pixel.
        levels: pyramid levels.
        image_format: of the images: PNG, so that pixels come back as they are, or JPEG.
    """
    rows, columns = scanned.shape
    assert pixels.shape == (rows * tile_px, columns * tile_px, 3)
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    path.write_bytes(b"")
    data = bytearray(b"a data file begins with a header")
    entries = []
    for level in range(levels):
        step = 2**level
        entries.append([])
        for row in range(0, rows, step):
            for column in range(0, columns, step):
                if scanned[row : row + step, column : column + step].any():
                    covered = pixels[row * tile_px :, column * tile_px :][
                        : step * tile_px : step, : step * tile_px : step
                    ]
                    image = np.full((tile_px, tile_px, 3), 255, np.uint8)
                    image[: covered.shape[0], : covered.shape[1]] = covered
                    encoded = io.BytesIO()
                    Image.fromarray(image).save(encoded, image_format)
                    entries[-1].append((row * columns + column, len(data), len(encoded.getvalue()), 0))
                    data += encoded.getvalue()
    (folder / "Data0000.dat").write_bytes(data)
    (folder / "Index.dat").write_bytes(_index(entries))
    sections = "".join(f"HIER_0_VAL_{level}_SECTION=LEVEL_{level}\n" for level in range(levels))
    text = GENERAL.format(slide_id=SLIDE_ID, columns=columns, rows=rows, levels=levels, sections=sections)
    for level in range(levels):
        text += LEVEL.format(
            level=level, concat=int(level > 0), mpp=mpp * 2**level, tile_px=tile_px, image_format=image_format
        )
    (folder / "Slidedat.ini").write_text(text, encoding="utf-8")
    return path


def _index(entries: list[list[tuple[int, int, int, int]]]) -> bytes:
    """Pointers to pointers: root, a pointer per level, an empty first page, and one page with the images of the level."""
    head = (VERSION + SLIDE_ID).encode()
    table = len(head) + 8  # after the two roots
    pages, body = [], b""
    for images in entries:
        begin = table + 4 * len(entries) + len(body)
        pages.append(begin)
        body += struct.pack("<4i", 0, begin + 8, len(images), 0) + b"".join(
            struct.pack("<4i", *image) for image in images
        )
    return head + struct.pack("<2i", table, 0) + struct.pack(f"<{len(pages)}i", *pages) + body
