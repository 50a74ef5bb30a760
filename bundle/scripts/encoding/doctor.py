"""What this machine can read and encode with, and on which device: the stage ``doctor``."""

import importlib.util
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image

from ..common.errors import SlideError
from ..slides.geometry import plan_reading
from ..slides.reader import BACKENDS, open_slide
from ..slides.table import read_slides

PACKAGES = (
    "torch",
    "monai",
    "cucim-cu12",
    "cucim-cu13",
    "openslide-python",
    "openslide-bin",
    "tifffile",
    "imagecodecs",
    "openvino",
    "distributed",
)
SAMPLE_PX, TILE_PX = 256, 128
BY_OPENSLIDE_ALONE = "NDPI, MRXS, SCN, BIF, DICOM, VMS"
CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def examine(slides: str | Path | None = None) -> list[str]:
    """Print what is installed, what is readable and, of ``slides``, how each would be read.

    Args:
        slides: a slide, a folder or a CSV; None looks at the machine alone.

    Returns:
        the slides that cannot be read, with the reason.

    Raises:
        RequestError: ``slides`` names nothing.
    """
    rows = read_slides(slides) if slides is not None else []
    _section("installed", _installed())
    _section("machine", _machine())
    with tempfile.TemporaryDirectory() as folder:
        _section("formats, read by", _formats(Path(folder)))
    unreadable = []
    if rows:
        print("\nslides")
    for row in rows:
        try:
            with open_slide(row.path) as reader:
                plan = plan_reading(reader, mpp=row.mpp)
                levels = ", ".join(f"{width} x {height}" for width, height in reader.level_sizes_xy_px)
                print(
                    f"  {row.slide_id}: {reader.backend}; {plan.mpp_x:.4g} um/px; levels {levels}; patches of {plan.read_px} px from "
                    f"level {plan.level}"
                )
        except SlideError as error:
            unreadable.append(str(error))
            print(f"  {row.slide_id}: {error}")
    return unreadable


def require_readable(unreadable: list[str]) -> None:
    """Raise a SlideError (exit code 1) if a slide cannot be read."""
    if unreadable:
        raise SlideError(f"{len(unreadable)} slides cannot be read, see above")


def _section(title: str, lines: Iterator[tuple[str, str]]) -> None:
    print(f"\n{title}")
    for name, value in lines:
        print(f"  {name:<34} {value}")


def _installed() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _machine() -> Iterator[tuple[str, str]]:
    yield "processors", str(os.cpu_count())
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        words = set(cpuinfo.read_text(encoding="utf-8").split())
        yield "of their instructions", ", ".join(flag for flag in CPU_FLAGS if flag in words) or "none that matters"
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield "CUDA devices", ", ".join(devices) or "none: everything runs on the CPU"
    engines = ["torch", *(["openvino"] if _installed_module("openvino") else [])]
    yield "engines of encoding on the CPU", ", ".join(engines)
    yield "cluster", "dask" if _installed_module("distributed") else 'not installed: pip install "dask[distributed]"'


def _installed_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _formats(folder: Path) -> Iterator[tuple[str, str]]:
    """Write a small file of each format and open it with every backend."""
    for name, write in _SAMPLES.items():
        path = folder / f"sample{len(list(folder.iterdir()))}{'.png' if name == 'PNG' else '.tif'}"
        write(path)
        readers = [backend for backend in BACKENDS if _reads(path, backend)]
        device = "CPU" if not torch.cuda.is_available() else "CPU, or the GPU with --decode_device cuda"
        yield (
            name,
            f"{', '.join(readers)} ({device if 'cucim' in readers else 'CPU'})" if readers else "none: convert it",
        )
    yield (
        BY_OPENSLIDE_ALONE,
        "openslide (CPU)" if _installed_module("openslide") else "none: OpenSlide is not installed",
    )


def _reads(path: Path, backend: str) -> bool:
    """Whether a backend gives the sample's pixels, about."""
    try:
        with open_slide(path, backend=backend) as reader:
            patch = reader.read_patches(np.array([[64, 32]]), size_xy_px=(96, 96), level=0)[0]
    except SlideError:
        return False
    return float(np.abs(patch.astype(int) - _picture()[32:128, 64:160]).mean()) < 10


def _picture() -> np.ndarray:
    y, x = np.mgrid[:SAMPLE_PX, :SAMPLE_PX]
    return np.stack([x, y, 255 - (x + y) // 2], axis=-1).astype(np.uint8)


def _tiled(compression: str | None, description: str | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        tifffile.imwrite(
            path,
            _picture(),
            tile=(TILE_PX, TILE_PX),
            photometric="rgb",
            compression=compression,
            description=description,
            metadata=None,
        )

    return write


def _ome(path: Path, *, planar: bool) -> None:
    picture = _picture()
    tile, photometric = (TILE_PX, TILE_PX), "rgb"
    with tifffile.TiffWriter(path, ome=True) as file:
        for level in range(2):
            pixels = picture[:: 2**level, :: 2**level]
            first = (
                {"subifds": 1, "metadata": {"axes": "CYX" if planar else "YXS"}} if level == 0 else {"subfiletype": 1}
            )
            file.write(
                np.moveaxis(pixels, -1, 0) if planar else pixels,
                tile=tile,
                photometric=photometric,
                planarconfig="separate" if planar else "contig",
                compression="zlib",
                **first,
            )


def _flat(path: Path) -> None:
    tifffile.imwrite(path, _picture(), photometric="rgb", metadata=None)


def _png(path: Path) -> None:
    Image.fromarray(_picture()).save(path)


_SAMPLES: dict[str, Callable[[Path], None]] = {
    "tiled TIFF, JPEG": _tiled("jpeg"),
    "tiled TIFF, deflate": _tiled("zlib"),
    "tiled TIFF, LZW": _tiled("lzw"),
    "tiled TIFF, JPEG 2000": _tiled("jpeg2000"),
    "Aperio SVS, JPEG": _tiled("jpeg", "Aperio Image Library v12\n256x256|AppMag = 20|MPP = 0.5"),
    "OME-TIFF, RGB": lambda path: _ome(path, planar=False),
    "OME-TIFF, a plane a colour": lambda path: _ome(path, planar=True),
    "TIFF in strips": _flat,
    "PNG": _png,
}
