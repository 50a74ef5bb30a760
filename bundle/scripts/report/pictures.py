"""The picture of a slide with its heat map, as images inside the page."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import nibabel
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import SlideError
from ..encoding.embedding_values import MOST_CELLS, require_cells
from ..inference.overlay import COLOR_MAP, SCALE_BAR_SHARE, nice_length
from ..inference.record import slide_fingerprint
from ..slides.box import BoxReader
from ..slides.geometry import PatchGrid
from .results import SlideResult

OPAQUE_FROM = 0.5
"""Heat from which the map hides as much as its opacity says; below, it fades, so that tissue without evidence keeps its colours."""

JPEG_QUALITY = 70
VEIL_RGBA = (110, 110, 110, 170)


def _shades() -> NDArray[np.uint8]:
    heat = np.linspace(0, 1, 256)
    shades = np.asarray(matplotlib.colormaps[COLOR_MAP](heat, bytes=True), dtype=np.uint8)
    shades[:, 3] = np.round(255 * np.minimum(1, heat / OPAQUE_FROM))
    return shades


_SHADES = _shades()
"""RGBA of 256 steps of heat."""


@dataclass(frozen=True)
class Picture:
    """A slide's box with its heat map: two images of one extent to lay over each other.

    Attributes:
        image: the tissue, as a data URI.
        heat: the map, one pixel per patch or, where it is larger than the picture, per block of patches; transparent where nothing
            was observed.
        left_out: a veil over the patches that were not observed.
        width: of the box, in patches.
        height: of the box, in patches.
        scale_share: length of the scale bar as a share of the width.
        scale_length: its length.
        scale_unit: "µm", or "px" of level 0 where the resolution is unknown.
        source: what the picture was made from: "slide", "thumbnail" or "nothing".
        evidence: whether anything on the slide spoke for the class of the map.
    """

    image: Markup
    heat: Markup
    left_out: Markup
    width: int
    height: int
    scale_share: float
    scale_length: float
    scale_unit: str
    source: str
    evidence: bool

    @property
    def scale_label(self) -> str:
        """The bar's length in words."""
        if self.scale_unit == "µm" and self.scale_length >= 1000:
            return f"{self.scale_length / 1000:g} mm"
        return f"{self.scale_length:g} {self.scale_unit}"


def slide_pictures(slide: SlideResult, boxes: BoxReader, *, sides_px: tuple[int, ...]) -> list[Picture]:
    """Make the pictures of a slide, one per length of the longer side; none where inference wrote no heat map.

    The tissue is read from the slide's file where that is still there and the wanted size can be had from it cheaply. Else it is
    the thumbnail that inference kept. Everything else lies in the slide's folder.

    Args:
        slide: the slide.
        boxes: reads slide files.
        sides_px: longest side of each picture, at most.

    Raises:
        SlideError: a file of the heat map is there, but leads elsewhere or is too large.
        OSError: or cannot be read.
    """
    heat_map = _own_file(slide.folder, "cam.nii.gz")
    if slide.scores is None or not heat_map.is_file():
        return []
    volume: Any = nibabel.load(heat_map)
    require_cells(volume.shape[1::-1], MOST_CELLS, heat_map)
    cam = np.asarray(volume.get_fdata(dtype=np.float32))[:, :, 0].T
    with Image.open(_own_file(slide.folder, "observed.png")) as image:
        observed = np.asarray(image) > 0
    rows, columns = observed.shape
    grid = PatchGrid(
        slide.scores["grid"]["patch_px_level0"], tuple(slide.scores["grid"]["origin_xy_px"]), (rows, columns)
    )
    pixels, source = _tissue(slide, grid, max(sides_px), boxes)
    mpp_x = slide.scores["resolution"]["mpp_x"]
    width = columns * grid.patch_px_level0 * (mpp_x or 1)
    length, unit = nice_length(SCALE_BAR_SHARE * width), "px" if mpp_x is None else "µm"
    made = []
    for side_px in sides_px:
        small, kept = _at_most(cam, observed, side_px)
        layers = _jpeg(pixels, side_px), _heat(small, kept), _veil(kept)
        made.append(Picture(*layers, columns, rows, length / width, length, unit, source, bool(cam.any())))
    return made


def colour_stops(count: int = 11) -> list[str]:
    """Colours of the map from 0 to 1, as CSS takes them."""
    return [
        matplotlib.colors.to_hex(_SHADES[round(255 * heat)] / 255, keep_alpha=True) for heat in np.linspace(0, 1, count)
    ]


def _tissue(slide: SlideResult, grid: PatchGrid, side_px: int, boxes: BoxReader) -> tuple[NDArray[np.uint8], str]:
    """Pixels of the box, (height, width, 3), with a longer side of ``side_px`` or whatever can be had."""
    scores = slide.scores or {}
    path = slide.folder.parent / scores["slide"]
    seen = scores.get("slide_print")
    if seen is not None and slide_fingerprint(path) == seen:
        found = boxes.read(path, grid, side_px)
        if found is not None:
            return found, "slide"
    thumbnail = _own_file(slide.folder, "thumbnail.png")
    if slide.has_thumbnail and thumbnail.is_file():
        with Image.open(thumbnail) as image:
            return np.asarray(image.convert("RGB")), "thumbnail"
    return np.full((*grid.shape_yx, 3), 255, dtype=np.uint8), "nothing"


def _own_file(folder: Path, name: str) -> Path:
    """A file of the slide's folder, in which links to other places do not count as files that inference wrote."""
    path = folder / name
    if path.is_symlink() or folder.is_symlink():
        raise SlideError(f"{path}: a link, expected the file that inference wrote: run it anew")
    return path


def _at_most(
    cam: NDArray[np.float32], observed: NDArray[np.bool_], side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Map and mask of the same extent with no side longer than ``side``: the mean over the observed patches of each block."""
    share = min(1.0, side / max(cam.shape))
    counts = [max(1, round(share * length)) for length in cam.shape]
    starts = [np.arange(count) * length // count for count, length in zip(counts, cam.shape, strict=True)]

    def summed(values: NDArray[Any]) -> NDArray[np.float32]:
        rows = np.add.reduceat(values.astype(np.float32), starts[0], axis=0)
        return np.add.reduceat(rows, starts[1], axis=1)

    patches = summed(observed)
    mean = summed(np.where(observed, cam, 0)) / np.maximum(patches, 1)
    return mean.astype(np.float32), patches > 0


def _heat(cam: NDArray[np.float32], observed: NDArray[np.bool_]) -> Markup:
    return _png(np.round(255 * np.clip(cam, 0, 1) * observed), _SHADES)


def _veil(observed: NDArray[np.bool_]) -> Markup:
    return _png(~observed, np.array([(0, 0, 0, 0), VEIL_RGBA], dtype=np.uint8))


def _jpeg(pixels: NDArray[np.uint8], side_px: int) -> Markup:
    image = Image.fromarray(pixels)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=JPEG_QUALITY, optimize=True, progressive=True)
    return _data_uri("image/jpeg", stream.getvalue())


def _png(indices: NDArray[Any], palette_rgba: NDArray[np.uint8]) -> Markup:
    """A picture by its palette (colours, 4), a quarter of the bytes that its pixels would take."""
    image = Image.fromarray(indices.astype(np.uint8), mode="P")
    image.putpalette(palette_rgba.tobytes(), "RGBA")
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return _data_uri("image/png", stream.getvalue())


def _data_uri(kind: str, content: bytes) -> Markup:
    return Markup(f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}")
