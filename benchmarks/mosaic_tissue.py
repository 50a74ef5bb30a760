"""What a mosaic is drawn of: islands of tissue, regions in them, tiles that pave these, glass and pen."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.ndimage import label as connected_parts

Pixels = NDArray[np.uint8]
BoolMap = NDArray[np.bool_]
INKS = ((20, 60, 150), (20, 110, 60), (25, 25, 30))


def draw_island(rng: np.random.Generator, cells: int) -> BoolMap:
    """Smooth islands of tissue on a third to two thirds of the glass, away from its border."""
    yy, xx = np.mgrid[-1 : 1 : cells * 1j, -1 : 1 : cells * 1j]
    while True:
        height = gaussian_filter(rng.standard_normal((cells, cells)), cells / 9)
        height = height / height.std() - 1.6 * (xx**2 + yy**2)
        mask: BoolMap = height > np.quantile(height, rng.uniform(0.4, 0.65))
        mask[[0, -1]] = mask[:, [0, -1]] = False
        if mask.sum() > 0.25 * cells * cells:
            return mask


def draw_region(rng: np.random.Generator, island: BoolMap, share: float) -> BoolMap:
    """One connected region that holds about this share of the tissue."""
    noise = gaussian_filter(rng.standard_normal(island.shape), 2.0)
    centre_y, centre_x = rng.permutation(np.argwhere(island))[0]
    yy, xx = np.indices(island.shape)
    distance = np.hypot(yy - centre_y, xx - centre_x) + 1.5 * noise / noise.std()
    distance[~island] = np.inf
    wanted = max(2, round(share * island.sum()))
    region: BoolMap = distance <= np.sort(distance.ravel())[wanted - 1]
    parts, count = connected_parts(region)
    return region if count == 1 else parts == np.bincount(parts.ravel())[1:].argmax() + 1


def pave(rng: np.random.Generator, tiles: list[Pixels], where: BoolMap, px: int) -> Pixels:
    """Fill a canvas with tiles, row by row, wherever they touch a marked cell; black elsewhere."""
    side = len(where) * px
    canvas = np.zeros((side, side, 3), np.uint8)
    for top in range(0, side, tiles[0].shape[0]):
        for left in range(0, side, tiles[0].shape[1]):
            tile = np.rot90(tiles[rng.integers(len(tiles))], 2 * rng.integers(2))
            if rng.integers(2):
                tile = tile[:, ::-1]
            tile = tile[: side - top, : side - left]
            bottom, right = top + tile.shape[0], left + tile.shape[1]
            if where[top // px : -(-bottom // px), left // px : -(-right // px)].any():
                canvas[top:bottom, left:right] = tile
    return canvas


def shift_stains(rng: np.random.Generator, canvas: Pixels) -> Pixels:
    """Scale and shift the optical density of every channel, the same all over the slide."""
    gain, bias = rng.uniform(0.85, 1.15, 3), rng.normal(0, 0.03, 3)
    density = -np.log10((np.arange(256) + 1) / 256)[:, None] * gain + bias
    table = np.clip(256 * 10**-density - 1, 0, 255).round().astype(np.uint8)
    return np.stack([table[canvas[..., channel], channel] for channel in range(3)], -1)


def outline_of(island: BoolMap, px: int) -> BoolMap:
    """The islands in pixels, with a smooth border."""
    cells = len(island)
    image = Image.fromarray((island * 255).astype(np.uint8)).resize((cells * 8,) * 2, Image.Resampling.BICUBIC)
    return np.asarray(image.resize((cells * px,) * 2, Image.Resampling.BILINEAR)) > 127


def draw_glass(rng: np.random.Generator, side_px: int) -> Pixels:
    """Bright noise, one block of 512 pixels repeated."""
    noise = rng.normal(243, 2.0, (512, 512, 1)) + rng.uniform(-2, 2, 3)
    block = np.clip(noise, 0, 255).astype(np.uint8)
    repeats = -(-side_px // 512)
    return np.tile(block, (repeats, repeats, 1))[:side_px, :side_px]


def draw_stroke(rng: np.random.Generator, pixels: Pixels, ink: BoolMap, cells: int, px: int) -> None:
    """Draw a pen stroke between two points at random into the slide, and mark it."""
    colour = np.array(INKS[rng.integers(3)])
    (y0, x0), (y1, x1) = rng.integers(0, cells * px, (2, 2))
    radius = int(px * 0.4)
    for along in np.linspace(0, 1, 4 * cells):
        y, x = int(y0 + along * (y1 - y0)), int(x0 + along * (x1 - x0))
        dab = np.s_[max(y - radius, 0) : y + radius, max(x - radius, 0) : x + radius]
        noise = rng.normal(0, 2, (*pixels[dab].shape[:2], 1))
        pixels[dab] = np.clip(0.12 * pixels[dab] + 0.88 * colour + noise, 0, 255)
        ink[dab] = True
