"""A writer of minimal Hamamatsu VMS slides, for tests: a text that names JPEGs side by side and a map, the whole slide made small.

Format: https://openslide.org/formats/hamamatsu and what OpenSlide requires of a file. The tiles of a JPEG are what lies between its
restart markers: 8 rows of ``restart_px`` pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

BLOCK_PX = 8  # of a JPEG without chroma subsampling
QUALITY = 95
TEXT = """[Virtual Microscope Specimen]
NoLayers=1
NoJpegColumns={columns}
NoJpegRows={rows}
{images}
MapFile={name}_map.jpg
OptimisationFile=
MacroImage={name}_macro.jpg
PhysicalWidth={width_nm}
PhysicalHeight={height_nm}
SourceLens=20
"""


def write_vms(
    path: Path,
    pixels: np.ndarray,
    *,
    columns: int = 2,
    rows: int = 2,
    restart_px: int = 64,
    map_step: int = 32,
    mpp: float = 0.5,
) -> Path:
    """Write ``path`` (.vms) and the JPEGs beside it.

    Args:
        path: the slide.
        pixels: RGB of level 0; a JPEG's sides must be multiples of ``restart_px`` and 8.
        columns: JPEGs side by side.
        rows: JPEGs one below the other.
        restart_px: pixels from one restart marker to the next.
        map_step: the map holds every n-th pixel.
        mpp: micrometres per level-0 pixel.
    """
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    assert not height % BLOCK_PX and not width % restart_px
    lines = []
    for row in range(rows):
        for column in range(columns):
            name = f"{path.stem}_{column}_{row}.jpg"
            lines.append(f"ImageFile({column},{row})={name}" if column or row else f"ImageFile={name}")
            part = pixels[row * height : (row + 1) * height, column * width : (column + 1) * width]
            _write_jpeg(path.with_name(name), part, restart_px)
    _write_jpeg(path.with_name(f"{path.stem}_map.jpg"), pixels[::map_step, ::map_step], BLOCK_PX)
    _write_jpeg(path.with_name(f"{path.stem}_macro.jpg"), pixels[::map_step, ::map_step], BLOCK_PX)
    text = TEXT.format(
        columns=columns,
        rows=rows,
        images="\n".join(lines),
        name=path.stem,
        width_nm=round(1000 * mpp * pixels.shape[1]),
        height_nm=round(1000 * mpp * pixels.shape[0]),
    )
    path.write_text(text, encoding="utf-8")
    return path


def _write_jpeg(path: Path, pixels: np.ndarray, restart_px: int) -> None:
    Image.fromarray(pixels).save(
        path, "jpeg", quality=QUALITY, subsampling=0, restart_marker_blocks=restart_px // BLOCK_PX
    )
