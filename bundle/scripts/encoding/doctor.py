"""What this machine can read and encode with, and on which device: the stage ``doctor``."""

import importlib.util
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from ..common.apart import Apart
from ..common.errors import SlideError
from ..common.option_words import Backend, BackendChoice, words
from ..slides.geometry import plan_reading
from ..slides.opening import BACKENDS, DEFAULT_READING, Reading, open_slide
from ..slides.reader import SlideReader
from ..slides.table import SlideRow, read_slides
from .precision import cpu_flags, native_precision

PACKAGES = (
    "torch",
    "monai",
    "cucim-cu12",
    "cucim-cu13",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "simplejpeg",
    "openvino",
    "distributed",
)
SAMPLE_PX, TILE_PX, LEVELS = 512, 128, 2
APERIO = "Aperio Image Library v12\n512x512 [0,0 512x512] (128x128)|AppMag = 20|MPP = 0.5"
APERIO_JPEG2000_RGB = 33005  # TIFF's code of the compression
PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?>
<DataObject ObjectType="DPUfsImport"><Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>
<DataObject ObjectType="DPScannedImage"><Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>
<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>
<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">"0.0005" "0.0005"</Attribute></DataObject>
<DataObject ObjectType="PixelDataRepresentation"><Attribute Name="DICOM_PIXEL_SPACING">"0.001" "0.001"</Attribute></DataObject>
</Array></Attribute></DataObject></Array></Attribute></DataObject>
"""
SCN = """<?xml version="1.0"?>
<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection sizeX="512000" sizeY="512000"><image>
<pixels><dimension sizeX="512" sizeY="512" ifd="0"/><dimension sizeX="256" sizeY="256" ifd="1"/></pixels>
<view sizeX="256000" sizeY="256000" offsetX="0" offsetY="0"/>
<scanSettings><objectiveSettings><objective>20</objective></objectiveSettings>
<illuminationSettings><illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>
</image></collection></scn>
"""
BY_OPENSLIDE_ALONE = "NDPI, MRXS, BIF, DICOM, VMS"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
MAX_DIFFERENCE = 10.0  # mean grey levels: lossy compression stays far below, a wrong image far above


def examine(slides: str | Path | None = None, *, reading: Reading = DEFAULT_READING) -> list[str]:
    """Print what is installed, what is readable and, of ``slides``, how each would be read.

    Args:
        slides: a slide, a folder or a CSV; None looks at the machine alone.
        reading: how slides are read.

    Returns:
        the slides that cannot be read, with the reason.

    Raises:
        RequestError: ``slides`` names nothing.
    """
    rows = read_slides(slides) if slides is not None else []
    _section("installed", _installed())
    _section("machine", _machine())
    _section("formats, and what reads them here", _formats())
    unreadable: list[str] = []
    forks = not torch.cuda.is_available()  # their names have started CUDA
    with Apart(partial(_reading_of, reading), timeout_s=reading.timeout_s, forks=forks) as apart:
        _section("slides", ((row.slide_id, _describe(apart, row, unreadable)) for row in rows))
    return unreadable


def _describe(apart: Apart[SlideRow, str], row: SlideRow, unreadable: list[str]) -> str:
    """Say how a slide would be read; where it cannot be, say why and add that to ``unreadable``."""
    try:
        return apart.run(row.path, row)
    except SlideError as error:
        unreadable.append(str(error))
        return str(error)


def _reading_of(reading: Reading, row: SlideRow) -> str:
    with open_slide(row.path, reading) as reader:
        plan = plan_reading(reader, mpp=row.mpp)
        levels = ", ".join(f"{width} x {height}" for width, height in reader.level_sizes_xy_px)
        # one patch: a file may be opened whose pixels cannot be decoded
        middle = plan.grid.coords_xy_px(np.array([plan.grid.shape_yx], dtype=np.int32) // 2)
        reader.read_patches(middle, size_xy_px=(plan.read_px, plan.read_px), level=plan.level)
        if reader.lost_tiles and reading.unreadable_tiles == "fail":
            raise SlideError(
                f"{row.path}: {reader.lost_tiles} tiles lie past the end of the file, or over each other; expected a whole file: "
                f"{reader.remedy}"
            )
    mpp = " x ".join(dict.fromkeys(f"{mpp:.4g}" for mpp in plan.mpp_xy))  # both where they differ
    return f"{reader.backend}; {mpp} um/px; levels {levels}; patches of {plan.read_px} px from level {plan.level}"


def require_readable(unreadable: list[str]) -> None:
    """Raise a SlideError (exit code 1) if a slide cannot be read."""
    if unreadable:
        raise SlideError(f"{len(unreadable)} slides cannot be read, see above")


def _section(title: str, lines: Iterator[tuple[str, str]]) -> None:
    """Print lines as they come, below a title, if there are any."""
    for index, (name, value) in enumerate(lines):
        if not index:
            print(f"\n{title}")
        print(f"  {name:<42} {value}", flush=True)


def _installed() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
    yield "OpenSlide's library", _openslide_version() or "does not load"


def _openslide_version() -> str | None:
    try:
        import openslide
    except (ImportError, OSError):
        return None
    return str(openslide.__library_version__)


def _machine() -> Iterator[tuple[str, str]]:
    yield "processors", str(os.cpu_count())
    yield "memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    if flags := cpu_flags():
        yield "of their instructions", ", ".join(flag for flag in CPU_FLAGS if flag in flags) or "none that matters"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield "CUDA devices", ", ".join(devices) or "none: everything runs on the CPU"
    engines = ["torch", *(["openvino"] if _installed_module("openvino") else [])]
    yield "engines of encoding on the CPU", ", ".join(engines)
    yield "precision of encoding on the CPU, auto", native_precision("cpu")
    yield "cluster", "dask" if _installed_module("distributed") else 'not installed: pip install "dask[distributed]"'


def _installed_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _formats() -> Iterator[tuple[str, str]]:
    """Write a small file of each format and read it with every backend, the one that serves it first."""
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        yield "none tried", f"no temporary folder for the samples ({error}): name one that can be written to in TMPDIR"
        return
    with folder, Apart(_readers_of, forks=not torch.cuda.is_available()) as apart:
        for index, (name, (suffix, write)) in enumerate(SAMPLES.items()):
            path = Path(folder.name) / f"sample{index}{suffix}"  # cuCIM goes by the suffix
            try:
                write(path)
            except (ImportError, KeyError, ValueError, RuntimeError, OSError) as error:  # no such codec, or a full disk
                yield name, f"not tried, no sample can be written ({error})"
                continue
            try:
                yield name, apart.run(name, path)
            except SlideError as error:
                yield name, f"nothing: {error}"
    loads = _openslide_version() is not None
    yield BY_OPENSLIDE_ALONE, "openslide on CPU (not tried)" if loads else "nothing: OpenSlide does not load"


def _readers_of(path: Path) -> str:
    """Name the backends that read a sample, the one that serves it first."""
    levels = {backend: _levels_read(path, backend) for backend in words(BackendChoice)}
    serving = _serving(path) if levels["auto"] else None
    if serving is None:
        return "nothing: convert it to a tiled pyramidal TIFF"
    most = max(levels.values())
    others = [
        f"{backend}{'' if levels[backend] == most else ' (level 0 alone)'}"
        for backend in BACKENDS
        if levels[backend] and backend != serving
    ]
    note = "" if levels[serving] == most else ", level 0 alone"
    return f"{serving} on {_devices(path, serving)}{note}" + (f"; also {', '.join(others)}" if others else "")


def _serving(path: Path) -> Backend:
    with open_slide(path) as reader:
        return reader.backend


def _devices(path: Path, backend: BackendChoice) -> str:
    on_gpu = backend == "cucim" and torch.cuda.is_available() and _levels_read(path, backend, device="cuda")
    return "CPU, and on CUDA with --reading#device cuda" if on_gpu else "CPU"


def _levels_read(path: Path, backend: BackendChoice, *, device: str = "cpu") -> int:
    """Levels that a backend gives with the sample's pixels, about; 0 where it refuses the file or gives others."""
    try:
        with open_slide(path, Reading(backend=backend, device=device)) as reader:
            return sum(_is_sample(reader, level) for level in range(len(reader.level_sizes_xy_px)))
    except SlideError:
        return 0


def _is_sample(reader: SlideReader, level: int) -> bool:
    step = 2**level
    patch = reader.read_patches(np.array([[128, 64]]), size_xy_px=(64, 64), level=level)[0]
    expected = _picture()[64:, 128:][: 64 * step : step, : 64 * step : step]
    return float(np.abs(patch.astype(int) - expected).mean()) < MAX_DIFFERENCE


def _picture() -> NDArray[np.uint8]:
    y, x = np.mgrid[:SAMPLE_PX, :SAMPLE_PX] // 2
    return np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8)


def _tiled(
    compression: str | int | None, description: str | None = None, software: str | None = None
) -> Callable[[Path], None]:
    """A pyramid whose levels follow each other."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path) as file:
            for level in range(LEVELS):
                file.write(
                    _picture()[:: 2**level, :: 2**level],
                    tile=(TILE_PX, TILE_PX),
                    photometric="rgb",
                    compression=compression,
                    description=description,
                    software=software,
                    subfiletype=int(level > 0),
                    metadata=None,
                )

    return write


def _ome(axes: str) -> Callable[[Path], None]:
    """A pyramid whose lower levels hang on the first; axes CYX: a page per colour, SYX: a plane of the page per colour."""

    def write(path: Path) -> None:
        with tifffile.TiffWriter(path, ome=True) as file:
            for level in range(LEVELS):
                pixels = _picture()[:: 2**level, :: 2**level]
                file.write(
                    pixels if axes == "YXS" else np.ascontiguousarray(np.moveaxis(pixels, -1, 0)),
                    tile=(TILE_PX, TILE_PX),
                    photometric="minisblack" if axes == "CYX" else "rgb",
                    planarconfig="separate" if axes == "SYX" else None,
                    compression="zlib",
                    subifds=LEVELS - 1 if level == 0 else 0,
                    subfiletype=int(level > 0),
                    metadata={"axes": axes} if level == 0 else None,
                )

    return write


def _strips(path: Path) -> None:
    tifffile.imwrite(path, _picture(), photometric="rgb", metadata=None)


def _png(path: Path) -> None:
    Image.fromarray(_picture()).save(path, "png")


SAMPLES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "tiled TIFF, JPEG": (".tif", _tiled("jpeg")),
    "tiled TIFF, deflate": (".tif", _tiled("zlib")),
    "tiled TIFF, LZW": (".tif", _tiled("lzw")),
    "tiled TIFF, zstd": (".tif", _tiled("zstd")),
    "tiled TIFF, JPEG 2000": (".tif", _tiled("jpeg2000")),
    "Aperio SVS, JPEG": (".svs", _tiled("jpeg", APERIO)),
    "Aperio SVS, JPEG 2000": (".svs", _tiled(APERIO_JPEG2000_RGB, APERIO)),
    "Philips TIFF": (".tiff", _tiled("jpeg", PHILIPS, "Philips DP")),
    "Leica SCN": (".scn", _tiled("jpeg", SCN)),
    "OME-TIFF, RGB": (".ome.tif", _ome("YXS")),
    "OME-TIFF, RGB, a plane per colour": (".ome.tif", _ome("SYX")),
    "OME-TIFF, RGB, a page per colour": (".ome.tif", _ome("CYX")),
    "TIFF in strips": (".tif", _strips),
    "PNG": (".png", _png),
}
"""Suffix of each format's files, and what writes a small one."""
