"""Which pages of a TIFF are the levels of its pyramid: not every tiled page is, macro images, labels and crops may be tiled too."""

import re
from dataclasses import dataclass

import numpy as np

from ..common.errors import SlideError
from .ome_metadata import OmeImage
from .tiff_codes import JPEG, MACRO, MASK, REDUCED, RGB, SAMPLES, YCBCR
from .tiff_page import TiffDirectories, TiffPage
from .tiff_vendors import PhilipsLevels, is_philips, philips_levels

MIN_STEP = 1.05
"""Least factor between two levels: a page nearer to the size of another is a copy of it."""

OTHER_IMAGE = re.compile(r"^(label|macro|thumbnail|overview)\b", re.MULTILINE | re.IGNORECASE)
"""How descriptions begin, or a line of Aperio's, of images beside the slide."""

JPEG_BITS = frozenset({8, 12})

TO_TILES = "vips tiffsave in.tif out.tif --tile --pyramid --compression jpeg"


@dataclass(frozen=True)
class TiffLevel:
    """One level: its size without padding, and the page of all colours or the three pages of one colour each."""

    width: int
    height: int
    planes: tuple[TiffPage, ...]

    @property
    def page(self) -> TiffPage:
        """The first page, which speaks for all."""
        return self.planes[0]

    @property
    def tile_xy_px(self) -> tuple[int, int]:
        """Width and height of a tile."""
        return self.page.tile_xy_px or (self.width, self.height)


@dataclass(frozen=True)
class Pyramid:
    """The levels of a slide, finest first; ``mpp_xy`` where a vendor states the resolution in its own way."""

    levels: tuple[TiffLevel, ...]
    mpp_xy: tuple[float, float] | None = None


def tiled_pages(directories: TiffDirectories) -> list[TiffPage]:
    """Return the pages in tiles that are neither a transparency mask nor a macro image, in the order of the file."""
    return [page for page in directories.pages if page.tile_xy_px and not page.subfile & (MASK | MACRO)]


def plain_pyramid(directories: TiffDirectories) -> Pyramid:
    """Find the levels of a TIFF whose directories tell all: the largest tiled page, and smaller ones of the same image.

    Raises:
        SlideError: There is no tiled page, the largest one is a reduced version of another, or a Philips TIFF contradicts its XML.
    """
    tiled = tiled_pages(directories)
    if not tiled:
        raise SlideError(
            f"in strips, so that reading a patch would decode the whole image; expected tiles: convert it with {TO_TILES}"
        )
    philips: PhilipsLevels | None = philips_levels(tiled) if is_philips(directories.pages[0]) else None
    if philips:
        sized = [TiffLevel(*size, (page,)) for size, page in zip(philips.sizes_xy_px, tiled, strict=True)]
        return Pyramid(_without_holes(sized), philips.mpp_xy)
    largest = max(tiled, key=lambda page: page.width * page.height)
    if largest.subfile & REDUCED:
        raise SlideError(
            f"its largest tiled page, directory {largest.number}, is marked as a reduced version of another, which is not in the "
            "file"
        )
    others = [page for page in (*tiled, *largest.children) if page is not largest and page.tile_xy_px]
    return Pyramid(_pyramid_of((largest,), [(page,) for page in others]))


def ome_pyramid(directories: TiffDirectories, image: OmeImage) -> Pyramid:
    """Find the levels of an OME-TIFF: the pages that its XML names, and their SubIFDs.

    Raises:
        SlideError: The image is not tiled, or its three colours have not the same levels.
    """
    planes = tuple(directories.pages[number] for number in image.directories)
    if not all(page.tile_xy_px for page in planes):
        raise SlideError(
            f"not tiled, so that reading a patch would decode the whole image: convert it to a tiled TIFF with {TO_TILES}"
        )
    shapes = {tuple((child.width, child.height, child.tile_xy_px) for child in page.children) for page in planes}
    if len(shapes) > 1 or len({page.tile_xy_px for page in planes}) > 1:
        raise SlideError("an OME-TIFF whose colours differ in their levels or tiles")
    below = [pages for pages in zip(*(page.children for page in planes), strict=True) if pages[0].tile_xy_px]
    return Pyramid(_pyramid_of(planes, below), image.mpp_xy)


def kind_of(page: TiffPage) -> tuple[object, ...]:
    """What the levels of one image share, whatever their compression."""
    family = RGB if page.photometric == YCBCR else page.photometric
    return page.samples, set(page.bits), set(page.sample_formats), page.extra_samples, page.planar, family


def _pyramid_of(base: tuple[TiffPage, ...], others: list[tuple[TiffPage, ...]]) -> tuple[TiffLevel, ...]:
    """Keep of ``others`` what has both sides of ``base`` reduced by one factor, finer before coarser.

    Raises:
        SlideError: One of them is marked as reduced, but of another kind.
    """
    levels = [TiffLevel(base[0].width, base[0].height, base)]
    marked = any(planes[0].subfile & REDUCED for planes in others)  # then a page without the mark is another image
    reduced = [
        planes
        for planes in others
        if is_reduced(planes[0], base[0])
        and not OTHER_IMAGE.search(planes[0].description)
        and (planes[0].subfile & REDUCED or not marked)
    ]
    for planes in sorted(reduced, key=lambda planes: -planes[0].width * planes[0].height):
        page = planes[0]
        if kind_of(page) != kind_of(base[0]):
            if wrong := contradiction(page):
                raise SlideError(
                    f"directory {page.number} ({page.width} x {page.height} px) has the shape of a level of the slide, but states "
                    f"{wrong}: damaged; copy the file again"
                )
            if page.subfile & REDUCED:
                raise SlideError(
                    f"directory {page.number} ({page.width} x {page.height} px) is marked as a reduced version of the slide, but "
                    "differs in its colours, samples or bits"
                )
        elif levels[-1].width >= MIN_STEP * page.width:
            levels.append(TiffLevel(page.width, page.height, planes))
    return _without_holes(levels)


def contradiction(page: TiffPage) -> str | None:
    """What no image can be of what a page states of its samples, such as after a tag was lost; None where it may be one."""
    if page.photometric is None:
        return "no colours (PhotometricInterpretation)"
    if len(page.bits) not in (1, page.samples):
        return f"the bits of {len(page.bits)} samples, of {page.samples} per pixel"
    colours = SAMPLES.get(page.photometric)
    if (colours is not None and page.samples < colours) or (
        colours == 1 and page.samples > 1 + len(page.extra_samples)
    ):
        return f"{page.samples} samples per pixel of colours {page.photometric}"
    if (page.compression == JPEG and not JPEG_BITS.issuperset(page.bits)) or (
        page.samples > 1 and set(page.bits) == {1}
    ):
        return f"samples of {page.bits[0]} bit"
    return None


def is_reduced(page: TiffPage, base: TiffPage) -> bool:
    """Whether one factor leads from both sides of ``base`` to those of ``page``, each rounded up or down by a pixel at most."""
    ranges = [
        (large / (small + 1), large / max(small - 1, 1e-9))
        for large, small in ((base.width, page.width), (base.height, page.height))
    ]
    return (
        page.width < base.width
        and page.height < base.height
        and max(low for low, _ in ranges) < min(high for _, high in ranges)
    )


def _without_holes(levels: list[TiffLevel]) -> tuple[TiffLevel, ...]:
    """Leave out levels that lack tiles which the first level has: what lies there would be white instead of tissue."""
    return (levels[0], *(level for level in levels[1:] if not _has_holes(level, levels[0])))


def _has_holes(level: TiffLevel, base: TiffLevel) -> bool:
    """Whether a tile of ``level`` is not recorded although ``base`` has recorded something there.

    A tile that has a place but no bytes is none of these: it is damaged.
    """
    rows, columns = level.page.grid_yx
    if level.page.recorded.all() or len(level.page.recorded) < rows * columns:
        return False
    empty = np.argwhere(~level.page.recorded[: rows * columns].reshape(rows, columns))
    base_rows, base_columns = base.page.grid_yx
    recorded = np.zeros((base_rows + 1, base_columns + 1), dtype=np.int64)
    recorded[1:, 1:] = (
        base.page.recorded[: base_rows * base_columns].reshape(base_rows, base_columns).cumsum(0).cumsum(1)
    )
    factor = np.array((base.height / level.height, base.width / level.width))
    tile_yx, base_tile_yx = np.array(level.tile_xy_px[::-1]), np.array(base.tile_xy_px[::-1])
    # a pixel of the level less on each side: what rounding may have moved
    start = ((empty * tile_yx + 1) * factor // base_tile_yx).astype(np.int64)
    stop = np.minimum(
        -(-((empty + 1) * tile_yx - 1) * factor // base_tile_yx).astype(np.int64), recorded.shape - np.array(1)
    )
    (top, left), (bottom, right) = np.minimum(start, stop).T, stop.T
    return bool((recorded[bottom, right] - recorded[top, right] - recorded[bottom, left] + recorded[top, left]).any())
