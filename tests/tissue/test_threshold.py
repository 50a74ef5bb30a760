import numpy as np
import pytest

from scripts.tissue.threshold import (
    TissueMask,
    darkness_threshold,
    glass_threshold,
    histogram,
    tissue_threshold,
    without_specks,
)


def group(mean, spread, count, seed=0):
    return np.clip(np.random.default_rng(seed).normal(mean, spread, count), 1e-3, 1).astype(np.float32)


def cut(scores):
    return tissue_threshold(scores, glass_threshold(scores))


def test_glass_ink_and_tissue_are_three_groups():
    glass, ink, tissue = group(0.005, 0.003, 400), group(0.25, 0.06, 30), group(0.68, 0.05, 250)
    scores = np.concatenate([glass, ink, tissue])
    assert glass.max() < glass_threshold(scores) < np.quantile(ink, 0.05)
    assert ink.max() < cut(scores) < tissue.min()


def test_tissue_begins_well_above_thin_ink():
    scores = np.concatenate(
        [group(0.004, 0.002, 300), group(0.05, 0.02, 60), group(0.4, 0.005, 15), group(0.7, 0.03, 250)]
    )
    assert cut(scores) > 0.41


@pytest.mark.parametrize("spread", [0.03, 0.06, 0.12])
def test_one_group_of_tissue_is_not_cut(spread):
    tissue = group(0.65, spread, 500)
    for scores in (tissue, np.concatenate([group(0.003, 0.001, 500), tissue])):
        assert (tissue >= cut(scores)).mean() > 0.995


def test_a_tail_towards_glass_is_not_cut():
    generator = np.random.default_rng(1)
    tissue = np.clip(generator.exponential(0.2, 4000), 0.05, 0.8).astype(np.float32)
    scores = np.concatenate([np.full(20000, 0.004, dtype=np.float32), tissue])
    assert (tissue >= cut(scores)).mean() > 0.99


def test_pale_and_rich_tissue_stay_together():
    scores = np.concatenate([group(0.003, 0.001, 300), group(0.52, 0.04, 150), group(0.7, 0.04, 150)])
    assert cut(scores) < 0.4


@pytest.mark.parametrize("scores", [group(0.004, 0.002, 300), np.full(50, 0.001, np.float32), group(0.06, 0.01, 60)])
def test_glass_and_dust_hold_no_tissue(scores):
    assert not (scores >= cut(scores)).any()


def test_darkness_of_two_groups_and_of_one():
    glass, tissue = group(0.05, 0.005, 300), group(0.35, 0.05, 100)
    assert glass.max() < darkness_threshold(np.concatenate([glass, tissue])) < tissue.min()
    assert darkness_threshold(glass) == np.inf
    assert darkness_threshold(np.full(9, 0.4, dtype=np.float32)) == np.inf


def test_specks_go_and_corners_connect():
    mask = np.zeros((8, 8), dtype=bool)
    mask[0, 0] = mask[5, 5] = mask[6, 6] = mask[7, 7] = True
    kept = without_specks(mask, min_patches=3)
    assert not kept[0, 0]
    assert kept.sum() == 3
    assert (without_specks(mask, min_patches=1) == mask).all()


def test_histogram_counts_every_patch():
    scores = np.array([[0.0, 0.5], [1.0, 0.251]], dtype=np.float32)
    counts, edges = histogram(scores)
    assert counts.sum() == 4
    assert edges[0] == 0
    assert edges[-1] == 1
    assert counts[[0, 16, 32, 63]].tolist() == [1, 1, 1, 1]


def test_box_is_the_tightest():
    mask = np.zeros((9, 7), dtype=bool)
    tissue = TissueMask(
        mask, mask.astype(np.float32), np.zeros_like(mask), 0.5, 0.1, *histogram(mask.astype(np.float32)), "rle", ""
    )
    assert tissue.box == (0, 0, 0, 0)
    mask[2, 3] = mask[6, 1] = True
    assert tissue.box == (2, 1, 5, 3)
