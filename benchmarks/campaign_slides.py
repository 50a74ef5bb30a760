"""Whole slides to be damaged: regions of real slides, or generated tissue, written in every way that a tiled TIFF is stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import tifffile
from numpy.typing import NDArray

from scripts.slides.synthetic import scan
from scripts.slides.synthetic_tissue import draw_layout, render_stains

REGIONS = {"cmu-1-small-region.svs": (300, 300), "tcga-cr-7395-01a-01-ts1.svs": (1600, 1400)}
"""Corner of the region of each real slide, in level-0 pixels."""

SIDE, MPP = 1024, 0.5
FACTORS = (1, 2, 4)
TILE_PX, PATCH_PX = 256, 128
UNREAD_WIDTH = SIDE // 2
"""Of the middle level: patches come from level 0, tissue and thumbnail from the lowest."""

APERIO = "Aperio Image Library v12.0.15\r\n{side}x{side} [0,0 {side}x{side}] (256x256) JPEG/RGB Q=70|AppMag = 20|MPP = 0.499000"
Pixels = NDArray[np.uint8]


def write_slides(folder: Path, data: Path | None) -> list[Path]:
    """Write the undamaged slides.

    Args:
        folder: where they go.
        data: folder of real slides; None: the pixels are generated.

    Returns:
        the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for number, pixels in enumerate(_generated() if data is None else _real(data)):
        for name, (suffix, write) in WRITERS.items():
            written.append(folder / f"{name}{number}{suffix}")
            write(written[-1], [_smaller(pixels, factor) for factor in FACTORS])
    return written


def _real(data: Path) -> list[Pixels]:
    found = []
    for source, corner in REGIONS.items():
        with openslide.OpenSlide(data / "slides" / source) as slide:
            found.append(np.asarray(slide.read_region(corner, 0, (SIDE, SIDE)).convert("RGB")))
    return found


def _generated() -> list[Pixels]:
    found = []
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        layout = draw_layout(rng, cells=SIDE // PATCH_PX, lesion_share=0.2 * seed)
        found.append(scan(rng, *render_stains(rng, layout, mpp=MPP, bank_seed=0), ink=None))
    return found


def _smaller(pixels: Pixels, factor: int) -> Pixels:
    height, width, _ = pixels.shape
    cells = pixels.reshape(height // factor, factor, width // factor, factor, 3)
    return cells.mean(axis=(1, 3)).round().astype(np.uint8)


def _tiff(**options: Any) -> Callable[[Path, list[Pixels]], None]:
    """A writer of a page per level, with a resolution in centimetres."""
    file_options = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}

    def write(path: Path, levels: list[Pixels]) -> None:
        with tifffile.TiffWriter(path, **file_options) as file:
            for factor, pixels in zip(FACTORS, levels, strict=True):
                file.write(
                    pixels,
                    tile=(TILE_PX, TILE_PX),
                    photometric="rgb",
                    metadata=None,
                    subfiletype=int(factor > 1),
                    resolution=(1e4 / MPP / factor,) * 2,
                    resolutionunit="CENTIMETER",
                    **options,
                )

    return write


def _aperio(compression: str) -> Callable[[Path, list[Pixels]], None]:
    """A writer of Aperio's layout: the resolution stands in the description, the second page is a thumbnail in strips."""

    def write(path: Path, levels: list[Pixels]) -> None:
        kind: dict[str, Any] = {"photometric": "rgb", "metadata": None}
        text = APERIO.format(side=SIDE)
        with tifffile.TiffWriter(path) as file:
            file.write(levels[0], tile=(TILE_PX, TILE_PX), compression=compression, description=text, **kind)
            file.write(
                levels[2], rowsperstrip=16, compression="jpeg", description=text.replace("|", " -> 256x256|", 1), **kind
            )
            for pixels in levels[1:]:
                file.write(pixels, tile=(TILE_PX, TILE_PX), compression=compression, description=text, **kind)

    return write


def _ome(path: Path, levels: list[Pixels]) -> None:
    """OME-TIFF: the coarser levels lie in SubIFDs."""
    kind: dict[str, Any] = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg"}
    units = {
        "axes": "YXS",
        "PhysicalSizeX": MPP,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": MPP,
        "PhysicalSizeYUnit": "µm",
    }
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, metadata=units, **kind)
        for pixels in levels[1:]:
            file.write(pixels, subfiletype=1, metadata=None, **kind)


WRITERS: dict[str, tuple[str, Callable[[Path, list[Pixels]], None]]] = {
    "aperio": (".svs", _aperio("jpeg")),
    "aperio_j2k": (".svs", _aperio("jpeg2000")),
    "jpeg": (".tif", _tiff(compression="jpeg")),
    "jpeg_big": (".tif", _tiff(compression="jpeg", bigtiff=True)),
    "jpeg_motorola": (".tif", _tiff(compression="jpeg", byteorder=">")),
    "jpeg2000": (".tif", _tiff(compression="jpeg2000")),
    "lzw": (".tif", _tiff(compression="lzw", predictor=True)),
    "deflate": (".tif", _tiff(compression="deflate", predictor=True)),
    "zstd": (".tif", _tiff(compression="zstd")),
    "raw": (".tif", _tiff()),
    "ome": (".ome.tif", _ome),
}
