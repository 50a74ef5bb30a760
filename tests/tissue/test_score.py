from itertools import pairwise

import numpy as np
import pytest
from tissue.array_slide import ArraySlide

from scripts.slides.geometry import PatchGrid
from scripts.tissue.score import intensity_scores, rle_scores, slide_scores


def counted(patch, levels, dead_band):
    """Runs / pixels of one patch, by the definition."""
    grey = [sum(int(c) for c in pixel) for row in patch for pixel in row]
    runs = 1
    for before, here in pairwise(grey):
        if before * levels // 766 != here * levels // 766 and abs(here - before) >= 3 * dead_band:
            runs += 1
    return runs / len(grey)


@pytest.mark.parametrize(("levels", "dead_band"), [(16, 0.0), (16, 4.0), (8, 0.0), (256, 0.0)])
def test_runs_are_those_of_the_definition(levels, dead_band):
    generator = np.random.default_rng(3)
    patches = np.clip(generator.normal(150, 12, (5, 9, 7, 3)), 0, 255).astype(np.uint8)
    expected = [counted(patch, levels, dead_band) for patch in patches]
    np.testing.assert_allclose(rle_scores(patches, levels, dead_band=dead_band), expected, rtol=1e-6)


def test_ends_of_the_scale():
    flat = np.full((1, 8, 8, 3), 243, dtype=np.uint8)
    checks = np.indices((8, 7)).sum(axis=0)[None, ..., None] % 2 * np.full(3, 255)
    assert rle_scores(flat)[0] == pytest.approx(1 / 64)
    assert rle_scores(checks.astype(np.uint8))[0] == 1.0


def test_a_row_end_does_not_end_a_run():
    stripes = np.zeros((1, 4, 6, 3), dtype=np.uint8)
    stripes[0, 1::2] = 255
    assert rle_scores(stripes)[0] == pytest.approx(4 / 24)


def test_dead_band_quiets_glass_that_sits_on_a_step():
    patch = np.random.default_rng(0).integers(238, 242, (1, 32, 32, 1)).repeat(3, axis=3).astype(np.uint8)
    assert rle_scores(patch)[0] > 0.3
    assert rle_scores(patch, dead_band=4.0)[0] < 0.01


def test_intensity_runs_from_white_to_black():
    patches = np.array([255, 0, 51], dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), dtype=np.uint8)
    np.testing.assert_allclose(intensity_scores(patches), [0, 1, 0.8], atol=1e-6)


def test_slide_scores_take_each_patch_from_its_place():
    generator = np.random.default_rng(2)
    pixels = generator.integers(0, 256, (40 * 33, 40 * 35, 3)).astype(np.uint8)
    grid = PatchGrid(patch_px_level0=40, origin_xy_px=(40, 0), shape_yx=(33, 34))
    found = slide_scores(ArraySlide([pixels]), grid, scores={"i": intensity_scores}, um_px=1.6)["i"]
    blocks = pixels.reshape(33, 40, 35, 40, 3).mean(axis=(1, 3, 4))[:, 1:]
    np.testing.assert_allclose(found, 1 - blocks / 255, atol=1e-6)


def test_scores_are_taken_at_the_asked_resolution():
    generator = np.random.default_rng(5)
    base = generator.integers(0, 256, (512, 512, 3)).astype(np.uint8)
    half = base.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    slide = ArraySlide([base, half, half[::2, ::2], half[::4, ::4]])
    grid = PatchGrid(patch_px_level0=128, origin_xy_px=(0, 0), shape_yx=(4, 4))
    shapes = []

    def note(patches):
        shapes.append(patches.shape[1:3])
        return np.zeros(len(patches), dtype=np.float32)

    for um_px, level in ((0.5, 0), (1.0, 1), (2.0, 2), (3.0, 2), (4.0, 3)):
        slide_scores(slide, grid, scores={"n": note}, um_px=um_px)
        assert slide.levels_read[-1] == level
    assert [shapes[k] for k in range(0, len(shapes), 4)] == [(128, 128), (64, 64), (32, 32), (32, 32), (16, 16)]
    slide_scores(ArraySlide([base]), grid, scores={"n": note}, um_px=2.0)
    assert shapes[-1] == (32, 32)
