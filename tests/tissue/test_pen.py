"""Strokes of pen are told from tissue by their colour, whatever the stain and the resolution."""

import numpy as np
import pytest
from tissue.array_slide import ArraySlide

from scripts.slides.geometry import PatchGrid
from scripts.tissue.mask import find_tissue, tissue_mask
from scripts.tissue.pen import pen_colour_scores

HAEMATOXYLIN, EOSIN = np.array([0.65, 0.70, 0.29]), np.array([0.07, 0.99, 0.11])  # Ruifrok and Johnston 2001
INKS = {
    "blue": (20, 60, 150),
    "navy": (35, 45, 120),
    "green": (20, 110, 60),
    "teal": (10, 120, 130),
    "black": (25, 25, 30),
    "brown": (60, 40, 25),
    "red": (190, 25, 45),
    "orange": (230, 110, 30),
}


def density(colour):
    return -np.log10((np.array(colour) + 1) / 256)


def tissue(patches, side, *, haematoxylin=HAEMATOXYLIN, amount=0.5, seed=0):
    """Optical density of stained patches, (N, side, side, 3): nuclei in eosin."""
    generator = np.random.default_rng(seed)
    nuclei = np.clip(generator.normal(0.5, 0.35, (patches, side, side, 1)), 0, None) * amount
    return nuclei * haematoxylin + 0.25 * amount * EOSIN + 0.02


def pixels(densities):
    return np.clip(256 * 10**-densities - 1, 0, 255).round().astype(np.uint8)


@pytest.mark.parametrize("side", [8, 16, 32, 61])
@pytest.mark.parametrize("ink", INKS)
def test_ink_over_tissue_and_over_glass_is_pen(ink, side):
    for under in (tissue(3, side), np.full((3, side, side, 3), 0.02)):
        assert (pen_colour_scores(pixels(under + density(INKS[ink]))) > 0.9).all()


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("amount", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("bluer", [0.8, 1.0, 1.2])
def test_no_stain_is_pen(bluer, amount, side):
    """Pale and dark, and haematoxylin that absorbs more red than it should: blue."""
    stained = tissue(3, side, haematoxylin=HAEMATOXYLIN * [bluer, 1, 1], amount=amount)
    assert pen_colour_scores(pixels(stained)).max() < 0.25


def test_dense_blue_nuclei_side_by_side_are_no_pen():
    assert pen_colour_scores(pixels(0.6 * np.broadcast_to([0.70, 0.65, 0.29], (1, 32, 32, 3)))).max() == 0


def test_purple_ink_passes_for_haematoxylin():
    """The limit that docs/tissue.md names."""
    assert pen_colour_scores(pixels(np.broadcast_to(density((85, 40, 140)), (1, 32, 32, 3)))).max() == 0


def test_a_stroke_over_tissue_goes_and_costs_nothing_else():
    side, grid = 32, PatchGrid(patch_px_level0=32, origin_xy_px=(0, 0), shape_yx=(8, 8))
    cells = tissue(64, side)
    cells[np.arange(64) % 8 >= 6] = 0.02  # glass at the right
    under = cells.reshape(8, 8, side, side, 3).swapaxes(1, 2).reshape(8 * side, 8 * side, 3)
    stroke = np.zeros((8, 8), dtype=bool)
    stroke[3:5] = True
    inked = under + 0.7 * np.kron(stroke, np.ones((side, side)))[..., None] * density(INKS["blue"])
    clean, with_pen, without_pen = (
        find_tissue(ArraySlide([pixels(od)]), grid, drop_pen=drop)
        for od, drop in ((under, True), (inked, False), (inked, True))
    )
    assert clean.mask[:, :6].all() and not clean.pen.any()
    assert with_pen.mask[stroke].any() and not with_pen.pen.any()
    np.testing.assert_array_equal(without_pen.mask, with_pen.mask & ~stroke)
    np.testing.assert_array_equal(without_pen.pen, with_pen.mask & stroke)


def test_what_a_stroke_cuts_off_is_no_speck():
    scores = {"rle": np.ones((6, 8)), "otsu": np.full((6, 8), 0.3), "pen": np.zeros((6, 8))}
    scores["rle"][:, 6:] = 0
    scores["pen"][:, 1] = 1
    scores["rle"][2:, 0] = 0  # left of the stroke lie two patches, under the three of a speck
    scores["rle"][5, 7] = 1  # dust on the glass
    found = tissue_mask({name: values.astype(np.float32) for name, values in scores.items()})
    assert found.mask[:2, 0].all()
    assert not found.mask[:, 1].any() and not found.mask[5, 7]
    assert found.mask.sum() == 2 + 4 * 6


def test_a_slide_of_pen_alone_is_empty_and_says_so():
    inked = tissue(25, 32).reshape(5, 5, 32, 32, 3).swapaxes(1, 2).reshape(160, 160, 3) + 0.5 * density((60, 160, 190))
    found = find_tissue(ArraySlide([pixels(inked)]), PatchGrid(32, (0, 0), (5, 5)))
    assert not found.mask.any()
    assert "drop_pen" in found.reason
