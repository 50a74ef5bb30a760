"""What the directories of a TIFF say of its images."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TiffPage:
    """What one directory says of its image.

    Attributes:
        number: Directory in the order of the file, from 0; that of its parent for a SubIFD.
        offset: Where the directory lies in the file.
        width: Pixels along x.
        height: Pixels along y.
        tile_xy_px: Width and height of a tile; ``None`` for strips.
        compression: TIFF's code.
        photometric: TIFF's code; ``None`` where it says nothing.
        samples: Samples per pixel.
        bits: Bits of each sample.
        sample_formats: TIFF's code of each sample, or one for all.
        extra_samples: TIFF's code of the samples beyond the colours.
        planar: 1 for pixels, 2 for a plane per sample.
        predictor: TIFF's code.
        orientation: TIFF's code, 1 for top left.
        subfile: Bits of NewSubfileType: 1 reduced, 4 mask, 8 macro.
        offsets: Of the tiles in the file, int64 (tiles,); empty for strips.
        counts: Bytes of the tiles, int64 (tiles,).
        description: ImageDescription.
        software: Software.
        xmp: XMLPacket.
        jpeg_tables: JPEGTables; ``None`` where there are none.
        resolution_xy: Pixels per unit along x and y; ``None`` where missing or no positive number.
        resolution_unit: TIFF's code; 2, the inch, where it says nothing.
        children: SubIFDs.
    """

    number: int
    offset: int
    width: int
    height: int
    tile_xy_px: tuple[int, int] | None
    compression: int
    photometric: int | None
    samples: int
    bits: tuple[int, ...]
    sample_formats: tuple[int, ...]
    extra_samples: tuple[int, ...]
    planar: int
    predictor: int
    orientation: int
    subfile: int
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    description: str
    software: str
    xmp: str
    jpeg_tables: bytes | None
    resolution_xy: tuple[float | None, float | None]
    resolution_unit: int
    children: tuple["TiffPage", ...] = ()

    @property
    def grid_yx(self) -> tuple[int, int]:
        """Rows and columns of tiles that cover the image."""
        width, height = self.tile_xy_px or (self.width, self.height)
        return -(-self.height // height), -(-self.width // width)

    @property
    def recorded(self) -> NDArray[np.bool_]:
        """Which tiles (tiles,) the file claims to hold: those of offset 0 and 0 bytes are left out, as where there is glass."""
        return (self.offsets != 0) | (self.counts != 0)


@dataclass(frozen=True)
class TiffDirectories:
    """All pages of a TIFF, in the order of the file; ``is_ndpi`` where its offsets follow Hamamatsu's rules."""

    pages: tuple[TiffPage, ...]
    is_ndpi: bool

    def all_pages(self) -> Iterator[TiffPage]:
        """Go over the pages and their SubIFDs."""
        for page in self.pages:
            yield page
            yield from page.children
