"""What the writers of vendors' TIFF share: JPEG tiles, some of which are not stored."""

from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
import tifffile

QUALITY = 95


def tiles_of(
    pixels: np.ndarray, tile_px: int, is_stored: Callable[[int, int], bool] = lambda row, column: True
) -> Iterator[bytes]:
    """Encode a level's square tiles, row by row, padded with white; no bytes where ``is_stored(row, column)`` is false."""
    height, width = pixels.shape[:2]
    for row in range(-(-height // tile_px)):
        for column in range(-(-width // tile_px)):
            if not is_stored(row, column):
                yield b""
                continue
            tile = np.full((tile_px, tile_px, 3), 255, np.uint8)
            inside = pixels[row * tile_px :, column * tile_px :][:tile_px, :tile_px]
            tile[: inside.shape[0], : inside.shape[1]] = inside
            yield imagecodecs.jpeg_encode(
                tile, level=QUALITY, colorspace="rgb", outcolorspace="ycbcr", subsampling="444"
            )


def under(stored: np.ndarray, step: int) -> Callable[[int, int], bool]:
    """Tell which tiles of the level that holds every ``step``-th pixel have a part of a level-0 tile that is ``stored``."""
    return lambda row, column: bool(stored[row * step : (row + 1) * step, column * step : (column + 1) * step].any())


def write_level(
    file: tifffile.TiffWriter,
    tiles: Iterator[bytes],
    *,
    size_xy_px: tuple[int, int],
    tile_px: int,
    mpp: float | None = None,
    **options: object,
) -> None:
    """Write a directory of encoded tiles; one without bytes has offset 0."""
    tags = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"} if mpp else {}
    file.write(
        tiles,
        shape=(size_xy_px[1], size_xy_px[0], 3),
        dtype=np.uint8,
        tile=(tile_px, tile_px),
        photometric="ycbcr",
        compression="jpeg",
        subsampling=(1, 1),
        metadata=None,
        **tags,
        **options,
    )


def blocks(height: int, width: int) -> np.ndarray:
    """RGB (height, width, 3) of random squares of 8 px, not white: JPEG keeps them well, and a shift by a pixel is plain to see."""
    drawn = np.random.default_rng(0).integers(40, 220, (-(-height // 8), -(-width // 8), 3))
    return drawn.astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
