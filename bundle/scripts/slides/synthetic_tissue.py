"""Tissue of the synthetic slides: where it lies, where its lesion is, and how much of each stain it takes up.

Lengths are micrometres from the slide's top-left corner, so one slide looks the same at every resolution. Stain
amounts are optical densities along the stain's vector of length 1 (Beer-Lambert; Ruifrok and Johnston 2001).
"""

import heapq
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

CELL_UM = 64.0  # side of a cell of the lesion mask: the footprint of one patch
GRID_UM = 2.0  # side of a pixel of the maps that a layout holds
ANGLES = 16  # orientations of a nucleus, over half a turn
VARIANTS = 12  # nuclei of every kind and orientation
SPRITE_UM = 26.0  # side of the square that holds one nucleus
FIBRE_TILE_UM = 512.0  # period of the fibre texture

FloatMap = NDArray[np.float32]
BoolMap = NDArray[np.bool_]
Floats = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class NucleusKind:
    """Distribution of one kind of nuclei.

    Attributes:
        long_um: least and greatest long half axis.
        short_um: least and greatest short half axis.
        irregularity: amplitude of the contour's waves, share of the half axes.
        haematoxylin: least and greatest amount of stain.
        chromatin: deviation of the stain inside one nucleus, share of its amount.
    """

    long_um: tuple[float, float]
    short_um: tuple[float, float]
    irregularity: float
    haematoxylin: tuple[float, float]
    chromatin: float


SPINDLE = NucleusKind((4.2, 6.0), (1.2, 1.8), 0.03, (0.42, 0.60), 0.10)
EPITHELIAL = NucleusKind((3.4, 4.2), (2.4, 3.0), 0.03, (0.34, 0.50), 0.12)
LESION = NucleusKind((4.4, 7.2), (3.2, 5.0), 0.09, (0.38, 0.72), 0.35)
KINDS = (SPINDLE, EPITHELIAL, LESION)


@dataclass(frozen=True)
class Layout:
    """Plan of one slide.

    Attributes:
        edge_um: (n, n) rough distance to the tissue's edge, positive inside; n = side / ``GRID_UM``.
        lesion: (n, n) true where the lesion is.
        lesion_cells: (cells, cells) the same, one value per cell of ``CELL_UM``: connected, empty on a negative slide.
        tissue_cells: (cells, cells) true where at least half of the cell is tissue.
    """

    edge_um: FloatMap
    lesion: BoolMap
    lesion_cells: BoolMap
    tissue_cells: BoolMap

    @property
    def side_um(self) -> float:
        """Side of the slide."""
        return self.lesion_cells.shape[0] * CELL_UM


def resized(values: NDArray[np.generic], side_px: int) -> FloatMap:
    """Return a square map bicubically resized to ``side_px`` a side."""
    image = Image.fromarray(np.asarray(values, dtype=np.float32))
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BICUBIC))


def smooth_noise(rng: np.random.Generator, side_px: int, waves: float) -> FloatMap:
    """Return (side_px, side_px) noise of mean 0 and deviation 1 with about ``waves`` bumps per side."""
    knots = max(3, round(2 * waves))
    noise = resized(rng.standard_normal((knots, knots)), side_px)
    return (noise - noise.mean()) / noise.std()


def draw_layout(rng: np.random.Generator, *, cells: int, lesion_share: float) -> Layout:
    """Draw smooth tissue islands and one lesion over ``lesion_share`` of the tissue's cells.

    The lesion stays in the largest island, which bounds its share; 0 means none, anything above 0 at least one cell.
    """
    side_um = cells * CELL_UM
    per_cell = round(CELL_UM / GRID_UM)
    grid_px = cells * per_cell
    field = (
        smooth_noise(rng, grid_px, 1.7) + 0.3 * smooth_noise(rng, grid_px, 5) + 0.06 * smooth_noise(rng, grid_px, 20)
    )
    off_centre = np.linspace(-1, 1, grid_px) ** 4
    field -= 12 * np.maximum(0, (off_centre[:, None] + off_centre[None, :]) ** 0.25 - 0.88)
    edge_um = ((field - np.quantile(field, 1 - rng.uniform(0.45, 0.68))) * side_um / 6).astype(np.float32)
    cover = (edge_um > 0).reshape(cells, per_cell, cells, per_cell).mean(axis=(1, 3))
    tissue_cells = cover >= min(0.5, cover.max())
    lesion_cells = _grown_lesion(rng, tissue_cells, lesion_share)
    outline = ndimage.gaussian_filter(np.kron(lesion_cells, np.ones((per_cell, per_cell), np.float32)), per_cell / 4)
    lesion = outline + 0.08 * smooth_noise(rng, grid_px, 2 * cells) > 0.5
    return Layout(edge_um=edge_um, lesion=lesion, lesion_cells=lesion_cells, tissue_cells=tissue_cells)


def _grown_lesion(rng: np.random.Generator, tissue_cells: BoolMap, share: float) -> BoolMap:
    """Return a 4-connected blob of cells grown from a random cell of the largest island, nearest cells first."""
    lesion = np.zeros_like(tissue_cells)
    if share == 0:
        return lesion
    islands, count = ndimage.label(tissue_cells)
    largest = islands == 1 + int(np.argmax(ndimage.sum(tissue_cells, islands, range(1, count + 1))))
    wanted = min(max(1, round(share * int(tissue_cells.sum()))), int(largest.sum()))
    seed_y, seed_x = rng.choice(np.argwhere(largest))
    roughness = rng.uniform(0.8, 1.3, largest.shape)
    queue, seen = [(0.0, int(seed_y), int(seed_x))], {(int(seed_y), int(seed_x))}
    while lesion.sum() < wanted:
        _, y, x = heapq.heappop(queue)
        lesion[y, x] = True
        for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if near not in seen and min(near) >= 0 and max(near) < len(largest) and largest[near]:
                seen.add(near)
                heapq.heappush(queue, (np.hypot(near[0] - seed_y, near[1] - seed_x) * roughness[near], *near))
    return lesion


@lru_cache(maxsize=2)
def nucleus_bank(seed: int, mpp: float) -> FloatMap:
    """Return the haematoxylin of nuclei, (kinds, angles, variants, S, S) with S = ``SPRITE_UM`` / ``mpp``.

    The order of kinds is that of ``KINDS``; angle ``a`` lies ``a * 180 / ANGLES`` degrees from the x axis towards y.
    """
    rng = np.random.default_rng(seed)
    side_px = round(SPRITE_UM / mpp)
    bank = np.zeros((len(KINDS), ANGLES, VARIANTS, side_px, side_px), np.float32)
    for index in np.ndindex(bank.shape[:3]):
        bank[index] = _nucleus(rng, KINDS[index[0]], angle=index[1] * np.pi / ANGLES, side_px=side_px, mpp=mpp)
    return bank


def _nucleus(rng: np.random.Generator, kind: NucleusKind, *, angle: float, side_px: int, mpp: float) -> FloatMap:
    """Draw one nucleus: an ellipse with a wavy contour, clumped chromatin and a darker membrane."""
    across = (np.arange(side_px) - (side_px - 1) / 2) * mpp
    x_um, y_um = across[None, :], across[:, None]
    long_um, short_um = rng.uniform(*kind.long_um), rng.uniform(*kind.short_um)
    u = (x_um * np.cos(angle) + y_um * np.sin(angle)) / long_um
    v = (y_um * np.cos(angle) - x_um * np.sin(angle)) / short_um
    turn, contour = np.arctan2(v, u), np.ones((side_px, side_px))
    for wave in (2, 3, 4, 5):
        contour += kind.irregularity * rng.normal() * np.cos(wave * turn + rng.uniform(0, 2 * np.pi)) / np.sqrt(wave)
    depth_um = (contour - np.hypot(u, v)) * np.sqrt(long_um * short_um)
    inside = np.clip(depth_um / 0.8 + 0.5, 0, 1)
    chromatin = 1 + kind.chromatin * smooth_noise(rng, side_px, SPRITE_UM / 5) + 0.25 * np.exp(-((depth_um - 0.4) ** 2))
    return (rng.uniform(*kind.haematoxylin) * inside * np.clip(chromatin, 0.3, 1.8)).astype(np.float32)


@lru_cache(maxsize=2)
def fibre_texture(seed: int, mpp: float) -> FloatMap:
    """Return a periodic texture of fibres along x, (P, P) in 0..1 with P = ``FIBRE_TILE_UM`` / ``mpp``."""
    rng = np.random.default_rng(seed)
    side_px = round(FIBRE_TILE_UM / mpp)
    along, across = np.fft.rfftfreq(side_px, mpp)[None, :], np.fft.fftfreq(side_px, mpp)[:, None]
    texture = np.zeros((side_px, side_px))
    for length_um, width_um, weight in ((40, 2.2, 1.0), (25, 0.9, 0.7), (2, 0.6, 0.7)):
        spectrum = np.fft.rfft2(rng.standard_normal((side_px, side_px)))
        part = np.fft.irfft2(spectrum * np.exp(-2 * ((along * length_um) ** 2 + (across * width_um) ** 2)))
        texture += weight * part / part.std()
    return np.clip(0.5 + 0.22 * texture / texture.std(), 0, 1).astype(np.float32)


def render_stains(rng: np.random.Generator, layout: Layout, *, mpp: float, bank_seed: int) -> tuple[FloatMap, FloatMap]:
    """Render the amounts of haematoxylin and eosin on a slide, each (side_px, side_px) with side_px = side / ``mpp``.

    Stroma, glands and their density are drawn alike for both classes; only the nuclei inside ``layout.lesion`` differ.
    """
    side_px, grid_px = round(layout.side_um / mpp), len(layout.edge_um)
    base = rng.uniform(0, np.pi)
    rows, columns = np.mgrid[:grid_px, :grid_px] * GRID_UM
    across_um = columns * -np.sin(base) + rows * np.cos(base)
    across_um += 45 * smooth_noise(rng, grid_px, layout.side_um / 300) + 6 * smooth_noise(
        rng, grid_px, layout.side_um / 60
    )
    along_um = columns * np.cos(base) + rows * np.sin(base)
    texture = fibre_texture(bank_seed, mpp)
    fibres = texture[
        (resized(across_um, side_px) / mpp).astype(np.int32) % len(texture),
        (resized(along_um, side_px) / mpp).astype(np.int32) % len(texture),
    ]
    glands_xyr_um = _glands(rng, layout)
    cytoplasm, lumen = _gland_maps(glands_xyr_um, grid_px)
    here = np.clip(resized(layout.edge_um, side_px) / 6 + 2 * (fibres - 0.5), 0, 1)
    gaps = np.clip((fibres - rng.uniform(0.02, 0.14)) / 0.16, 0, 1)
    cytoplasm_px, open_px = resized(cytoplasm, side_px).clip(0, 1), 1 - resized(lumen, side_px).clip(0, 1)
    stroma = gaps * (0.10 + 0.28 * fibres) * (1 + 0.12 * resized(smooth_noise(rng, grid_px, 8), side_px))
    tissue = here * open_px
    eosin = tissue * (stroma * (1 - cytoplasm_px) + cytoplasm_px * (0.12 + 0.10 * fibres))
    haematoxylin = tissue * (0.05 + 0.05 * fibres + 0.05 * cytoplasm_px)
    fibre_angle = np.arctan2(-np.gradient(across_um, axis=1), np.gradient(across_um, axis=0))
    nuclei = np.zeros((side_px, side_px), np.float32)
    for kind, xy_um, angle in _nuclei(rng, layout, glands_xyr_um, cytoplasm > 0.3, fibre_angle):
        _paste(rng, nuclei, nucleus_bank(bank_seed, mpp)[KINDS.index(kind)], xy_um / mpp, angle)
    eosin *= 1 - np.clip(nuclei * 1.2, 0, 0.6)
    return haematoxylin + nuclei, eosin


def _scattered(rng: np.random.Generator, side_um: float, pitch_um: float) -> Floats:
    """Return (N, 2) points x, y: a hexagonal grid of ``pitch_um`` with jitter: neighbours keep apart."""
    columns, rows = int(side_um / pitch_um) + 2, int(side_um / pitch_um / np.sqrt(0.75)) + 2
    y, x = np.mgrid[:rows, :columns].astype(float)
    points = np.stack([x + 0.5 * (y % 2), y * np.sqrt(0.75)], axis=-1).reshape(-1, 2) * pitch_um
    points += rng.uniform(-0.32, 0.32, points.shape) * pitch_um
    return points[((points >= 0) & (points < side_um)).all(axis=1)]


def _at(grid: NDArray[Scalar], xy_um: Floats) -> NDArray[Scalar]:
    """Return the values of a layout map at points x, y."""
    x, y = (xy_um / GRID_UM).astype(int).T
    return grid[y, x]


def _glands(rng: np.random.Generator, layout: Layout) -> Floats:
    """Return (N, 3) centre x, y and radius of the glands; none reaches into the lesion."""
    centres = _scattered(rng, layout.side_um, 105.0)
    clear_um = (
        ndimage.distance_transform_edt(~layout.lesion) * GRID_UM
        if layout.lesion.any()
        else np.full(layout.lesion.shape, np.inf)
    )
    keep = rng.uniform(size=len(centres)) < rng.uniform(0.3, 0.7)
    keep &= (_at(layout.edge_um, centres) > 40) & (_at(clear_um, centres) > 45)
    return np.column_stack([centres, rng.uniform(22, 38, len(centres))])[keep]


def _gland_maps(glands_xyr_um: Floats, grid_px: int) -> tuple[FloatMap, FloatMap]:
    """Return the (grid_px, grid_px) cover of the glands' epithelium with its lumen, and of the lumen alone."""
    cytoplasm, lumen = np.zeros((2, grid_px, grid_px), np.float32)
    for x_um, y_um, radius_um in glands_xyr_um:
        top, left = (max(0, int((at_um - radius_um) / GRID_UM)) for at_um in (y_um, x_um))
        bottom, right = (min(grid_px, int((at_um + radius_um) / GRID_UM) + 1) for at_um in (y_um, x_um))
        window = np.s_[top:bottom, left:right]
        rows, columns = np.ogrid[window]
        away_um = np.hypot(columns * GRID_UM - x_um, rows * GRID_UM - y_um)
        cytoplasm[window] = np.maximum(cytoplasm[window], np.clip((radius_um - away_um) / 3, 0, 1))
        lumen[window] = np.maximum(lumen[window], np.clip((0.42 * radius_um - away_um) / 3, 0, 1))
    return cytoplasm, lumen


def _nuclei(
    rng: np.random.Generator, layout: Layout, glands_xyr_um: Floats, in_gland: BoolMap, fibre_angle: Floats
) -> list[tuple[NucleusKind, Floats, Floats]]:
    """Return the nuclei of a slide by kind: centres (N, 2) x, y in micrometres and angles (N,) in radians."""
    stroma = _scattered(rng, layout.side_um, rng.uniform(12, 17))
    keep = rng.uniform(size=len(stroma)) < rng.uniform(0.55, 0.85)
    stroma = stroma[keep & (_at(layout.edge_um, stroma) > 3) & ~_at(layout.lesion, stroma) & ~_at(in_gland, stroma)]
    angle = _at(fibre_angle, stroma) + rng.normal(0, 0.25, len(stroma))
    spindle = rng.uniform(size=len(stroma)) < 0.6
    ring, radial = [np.zeros((0, 2))], [np.zeros(0)]
    for x_um, y_um, radius_um in glands_xyr_um:
        turn = np.arange(0, 2 * np.pi, 6.8 / (0.78 * radius_um)) + rng.uniform(0, 1)
        away_um = 0.78 * radius_um + rng.normal(0, 0.8, len(turn))
        ring.append(np.column_stack([x_um + away_um * np.cos(turn), y_um + away_um * np.sin(turn)]))
        radial.append(turn)
    epithelium = np.concatenate(ring).clip(0, layout.side_um - GRID_UM)
    in_tissue = _at(layout.edge_um, epithelium) > 3
    lesion = _scattered(rng, layout.side_um, rng.uniform(10.5, 12.5))
    lesion = lesion[
        (_at(layout.edge_um, lesion) > 3) & _at(layout.lesion, lesion) & (rng.uniform(size=len(lesion)) < 0.9)
    ]
    return [
        (SPINDLE, stroma[spindle], angle[spindle]),
        (EPITHELIAL, stroma[~spindle], rng.uniform(0, np.pi, int((~spindle).sum()))),
        (EPITHELIAL, epithelium[in_tissue], np.concatenate(radial)[in_tissue]),
        (LESION, lesion, rng.uniform(0, np.pi, len(lesion))),
    ]


def _paste(rng: np.random.Generator, canvas: FloatMap, sprites: FloatMap, xy_px: Floats, angle: Floats) -> None:
    """Lay nuclei on ``canvas`` at centres (N, 2) x, y; where two overlap the darker one shows.

    Nuclei that the canvas's border would cut are left out.
    """
    side = sprites.shape[-1]
    corners = np.round(xy_px).astype(int) - side // 2
    bins = np.round(angle * ANGLES / np.pi).astype(int) % ANGLES
    variants = rng.integers(0, VARIANTS, len(corners))
    for (x, y), turn, variant in zip(corners.tolist(), bins.tolist(), variants.tolist(), strict=True):
        if 0 <= x <= len(canvas) - side and 0 <= y <= len(canvas) - side:
            window = canvas[y : y + side, x : x + side]
            np.maximum(window, sprites[turn, variant], out=window)
