"""A TIFF as a slide: its levels, its resolution, and who may read it, decided before any native reader sees the file."""

from dataclasses import dataclass
from pathlib import Path

from ..common.errors import SlideError
from ..common.option_words import Backend
from .ome_metadata import is_ome, read_ome
from .tiff_codes import (
    APERIO_JPEG2000,
    APERIO_YCBCR,
    COLOURS,
    JPEG,
    LZW,
    MIN_IS_BLACK,
    PALETTE,
    PREDICTABLE,
    RGB,
    SAMPLES,
    UNASSOCIATED_ALPHA,
    UNCOMPRESSED,
    YCBCR,
)
from .tiff_directories import read_directories
from .tiff_levels import TiffLevel, ome_pyramid, plain_pyramid, tiled_pages
from .tiff_page import TiffDirectories, TiffPage
from .tiff_resolution import mpp_xy_of
from .tiff_vendors import is_philips, placed_format, placed_levels
from .tile_heads import is_jpeg_tables
from .tile_table import TileTable

_COLOURS_OF_MASKS = frozenset({MIN_IS_BLACK, PALETTE})
"""In which a pixel's number stands as it is: grey from black on, and a palette's indices."""

_NATIVE = frozenset({UNCOMPRESSED, JPEG, *APERIO_JPEG2000})
"""Compressions that cuCIM and OpenSlide may decode: of others they do not report all damage."""

_SAFE_BESIDE = _NATIVE | {LZW}
"""Compressions of other pages that do not end the process in cuCIM."""


@dataclass(frozen=True)
class TiffSlide:
    """What is known of a TIFF before its pixels are decoded.

    Attributes:
        levels: Finest first; none where OpenSlide alone knows where the pixels lie.
        mpp_xy: Micrometres per level-0 pixel along x and y; ``None`` where nothing usable is stated, or OpenSlide alone knows.
        tiles: Which tiles may be decoded; ``None`` without levels.
        readers: Who may read it, the first choice first.
        reason: Why others may not.
        is_padded: Whether a native reader works out the sizes of the levels itself, within a pixel of ours.
        vendor: OpenSlide's word for it, where OpenSlide alone knows where the pixels lie.
        placed: Then, the pages of each level, finest first, as far as known.
    """

    levels: tuple[TiffLevel, ...]
    mpp_xy: tuple[float, float] | None
    tiles: TileTable | None
    readers: tuple[Backend, ...]
    reason: str
    is_padded: bool = False
    vendor: str | None = None
    placed: tuple[tuple[TiffPage, ...], ...] = ()

    def native_levels(self, sizes_xy_px: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
        """Return the number of each level among those that a native reader lists.

        Raises:
            SlideError: It does not list each of them, once, with the same level 0.
        """
        slack = 1 if self.is_padded else 0
        numbers = []
        for level in self.levels:
            same = [
                number
                for number, (width, height) in enumerate(sizes_xy_px)
                if abs(width - level.width) <= slack and abs(height - level.height) <= slack
            ]
            numbers.append(same[0] if len(same) == 1 else -1)
        if -1 in numbers or numbers[0] != 0:
            ours, theirs = (
                ", ".join(f"{w} x {h}" for w, h in sizes)
                for sizes in ([(level.width, level.height) for level in self.levels], sizes_xy_px)
            )
            raise SlideError(f"it finds the levels {theirs}, expected {ours}")
        return tuple(numbers)


def examine_tiff(path: Path) -> TiffSlide | None:
    """Look at the directories of a TIFF and the heads of its tiles; ``None`` where the file does not begin as a TIFF.

    Raises:
        SlideError: It contradicts itself, or is none that a slide can be read from: in strips, grey, 16 bit, rotated. The message
            does not name the file.
    """
    directories = read_directories(path)
    if directories is None:
        return None
    for page in directories.all_pages():
        _require_consistent(page)
    if found := placed_format(directories):
        _require_tiles_that_agree(path, directories)
        reason = f"{found.name}, whose pixels are placed by what OpenSlide alone follows"
        return TiffSlide((), None, None, ("openslide",), reason, vendor=found.vendor, placed=placed_levels(directories))
    first = directories.pages[0]
    is_an_ome = is_ome(first)
    pyramid = ome_pyramid(directories, read_ome(directories.pages)) if is_an_ome else plain_pyramid(directories)
    for level in pyramid.levels:
        for page in level.planes:
            _require_readable(page, single=len(level.planes) == 3)
    tiles = TileTable(path, pyramid.levels)
    readers, reason = _readers(directories, pyramid.levels, tiles)
    if is_an_ome:
        readers, reason = ("tifffile",), "an OME-TIFF, whose planes and levels the others do not follow"
    mpp_xy = pyramid.mpp_xy or mpp_xy_of(pyramid.levels[0].page)
    return TiffSlide(pyramid.levels, mpp_xy, tiles, readers, reason, is_padded=is_philips(first))


def examine_mask(path: Path) -> TiffSlide | None:
    """Look at a TIFF that marks lesions: tiles of one 8-bit number per pixel, which are read as they are.

    Returns:
        its levels; ``None`` where the file is no TIFF, is in strips, or holds other pixels.

    Raises:
        SlideError: It contradicts itself, or is rotated. The message does not name the file.
    """
    directories = read_directories(path)
    tiled = tiled_pages(directories) if directories else []
    if directories is None or not tiled or not _is_mask(max(tiled, key=lambda page: page.width * page.height)):
        return None
    for page in directories.all_pages():
        _require_consistent(page)
    levels = plain_pyramid(directories).levels
    for level in levels:
        _require_decodable(level.page)
    return TiffSlide(levels, None, TileTable(path, levels), ("tifffile",), "a mask")


def _is_mask(page: TiffPage) -> bool:
    return page.photometric in _COLOURS_OF_MASKS and (page.samples, page.bits, page.sample_formats) == (1, (8,), (1,))


def _require_tiles_that_agree(path: Path, directories: TiffDirectories) -> None:
    """Refuse tiles of other sizes or colours than the directories say, whoever places them."""
    pages = [page for page in directories.pages if page.tile_xy_px and page.samples > 1]
    for page in pages:
        _require_readable(page, single=False)
    tiles = TileTable(path, tuple(TiffLevel(page.width, page.height, (page,)) for page in pages))
    for level, page in enumerate(pages):
        if tiles.colour(level) not in (None, _claimed(page)):
            raise SlideError(
                f"directory {page.number}: {COLOURS[page.photometric]}, but its JPEG tiles say {tiles.colour(level)}"
            )


def _claimed(page: TiffPage) -> str:
    return "rgb" if page.photometric == RGB else "ycbcr"


def _require_consistent(page: TiffPage) -> None:
    """Refuse a tiled page that contradicts itself."""
    if page.tile_xy_px is None:
        return
    name = f"directory {page.number} ({page.width} x {page.height} px)"
    rows, columns = page.grid_yx
    tiles = rows * columns * (page.samples if page.planar == 2 else 1)
    if not len(page.offsets) == len(page.counts) == tiles:
        width, height = page.tile_xy_px
        raise SlideError(
            f"{name}: {len(page.offsets)} offsets and {len(page.counts)} sizes of tiles, expected {tiles} of {width} x {height} "
            "px each"
        )
    if len(page.bits) not in (1, page.samples) or not page.samples:
        raise SlideError(f"{name}: {page.samples} samples per pixel, but the bits of {len(page.bits)}")
    if len(set(page.bits)) > 1 or len(set(page.sample_formats)) > 1:
        raise SlideError(f"{name}: samples of different kinds, {page.bits} bit of the formats {page.sample_formats}")
    if SAMPLES.get(page.photometric) == 1 and page.samples - len(page.extra_samples) != 1:
        raise SlideError(f"{name}: {page.samples} samples per pixel, but {COLOURS[page.photometric]}")
    if page.photometric not in COLOURS:
        raise SlideError(f"{name}: colour space {page.photometric}, which TIFF does not know")
    if page.planar not in (1, 2):
        raise SlideError(f"{name}: planar configuration {page.planar}, expected 1 or 2")
    if page.jpeg_tables is not None and page.compression == JPEG and not is_jpeg_tables(page.jpeg_tables):
        raise SlideError(f"{name}: its JPEG tables are damaged")


def _require_readable(page: TiffPage, *, single: bool) -> None:
    """Refuse a level that is no 8-bit RGB, or cannot be decoded."""
    name = f"directory {page.number} ({page.width} x {page.height} px)"
    count = 1 if single else page.samples - len(page.extra_samples)
    is_rgb = single or (page.photometric == RGB and page.extra_samples in ((), (UNASSOCIATED_ALPHA,)))
    is_rgb |= page.photometric == YCBCR and page.compression in (JPEG, APERIO_YCBCR) and not page.extra_samples
    if set(page.bits) != {8} or set(page.sample_formats) != {1} or not is_rgb or count != (1 if single else 3):
        kind = "" if set(page.sample_formats) == {1} else f", sample format {page.sample_formats[0]}"
        colours = COLOURS[page.photometric]
        raise SlideError(
            f"{name}: {colours}, {max(page.bits, default=0)} bit{kind}, samples per pixel {page.samples}, expected 8-bit RGB: "
            "convert it, or leave it out if it is no brightfield slide"
        )
    _require_decodable(page)


def _require_decodable(page: TiffPage) -> None:
    """Refuse a level that is rotated, or whose differences between pixels no decoder here takes back."""
    name = f"directory {page.number} ({page.width} x {page.height} px)"
    if page.orientation != 1:
        raise SlideError(
            f"{name}: rotated or mirrored by its tag Orientation ({page.orientation}), expected 1: turn its pixels and "
            "rewrite it, such as with vips autorot"
        )
    if (page.compression in PREDICTABLE and page.predictor not in (1, 2)) or (
        page.compression == UNCOMPRESSED and page.predictor != 1
    ):
        raise SlideError(
            f"{name}: predictor {page.predictor} with the compression {page.compression}, expected none, or horizontal differences "
            "(2) with one that takes them"
        )


def _readers(
    directories: TiffDirectories, levels: tuple[TiffLevel, ...], tiles: TileTable
) -> tuple[tuple[Backend, ...], str]:
    """Name who may read these levels, and why others may not."""
    pages = [level.page for level in levels]
    compressions = {page.compression for page in pages}
    sizes = [(page.width, page.height) for page in directories.all_pages() if page.tile_xy_px]
    claimed = [_claimed(page) for page in pages]
    told = [tiles.colour(level) or claim for level, claim in enumerate(claimed)]
    if not compressions <= _NATIVE:
        return (
            "tifffile",
        ), f"compressed by TIFF's codes {sorted(compressions)}, of which the others do not report all damage"
    if any(page.samples != 3 or page.planar != 1 for page in pages):
        return ("tifffile",), "with transparency or a plane per colour"
    if told != claimed:  # the tiles are right, and tifffile goes by them
        return ("tifffile",), "whose JPEG tiles are of another colour space than the directory says"
    if any(sizes.count((page.width, page.height)) > 1 for page in pages):
        return ("tifffile",), "with two tiled images of one size"
    is_aperio = directories.pages[0].description.startswith("Aperio")
    if compressions & APERIO_JPEG2000 and not is_aperio:
        return ("tifffile",), "JPEG 2000 as Aperio writes it, but no Aperio file"
    # OpenSlide comes last, since it goes on behind what libjpeg warns of; but tifffile would not convert the colours of one
    # compression
    others: tuple[Backend, ...] = ("openslide",) if APERIO_YCBCR in compressions else ("tifffile", "openslide")
    if any(page.compression not in _SAFE_BESIDE or page.predictor not in (1, 2) for page in directories.all_pages()):
        return others, "with a page whose compression would end the process in cuCIM"
    if not is_philips(directories.pages[0]) and any((page.counts == 0).any() for page in pages):
        return others, "with tiles that are not recorded, which cuCIM would fill with black"
    return ("cucim", *others), ""
