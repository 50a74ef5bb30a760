import numpy as np
import pytest
from localisation.mapped_slides import mapped, spot
from monai.apps.pathology.utils import compute_multi_instance_mask
from sklearn.metrics import roc_auc_score

from scripts.localisation.mapped_slide import MappedSlide, observed_lesions
from scripts.localisation.scores import Calls, SlideScores, score_slide

SHAPE = (12, 14)


def scored(slide: MappedSlide, *, kind: str = "probability", threshold: float = 0.5, nms_cells: int = 3) -> SlideScores:
    return score_slide(slide, kind=kind, calls=Calls(threshold=threshold, nms_cells=nms_cells))


@pytest.mark.parametrize(("hottest_yx", "hit"), [((3, 4), 1), ((3, 7), 0)])
def test_the_hottest_cell(hottest_yx: tuple[int, int], hit: int) -> None:
    lesion = spot(SHAPE, (2, 3), side=3)
    heat = 0.5 * lesion + 0.6 * spot(SHAPE, hottest_yx)
    assert scored(mapped(heat / heat.max(), lesion)).hit == hit


def test_equals_share_the_hit_and_no_heat_is_none() -> None:
    lesion = spot(SHAPE, (0, 0))
    assert scored(mapped(spot(SHAPE, (0, 0), (5, 5), (6, 6), (7, 7)), lesion)).hit == 0.25
    flat = scored(mapped(np.full(SHAPE, 0.3), lesion))
    assert flat.hit == pytest.approx(flat.chance) == pytest.approx(1 / 168)
    assert scored(mapped(np.zeros(SHAPE), lesion)).hit == 0


def test_chance_counts_observed_cells_alone() -> None:
    lesion, observed = spot(SHAPE, (0, 0), side=3), spot(SHAPE, (0, 0), side=6) > 0
    assert scored(mapped(lesion, lesion, observed=observed)).chance == 9 / 36


def test_a_cam_is_weighed_by_the_slides_probability() -> None:
    slide = mapped(spot(SHAPE, (3, 4)), spot(SHAPE, (3, 4)), probability=0.4)
    assert scored(slide, kind="cam").score.max() == pytest.approx(0.4)
    assert scored(slide, kind="probability").score.max() == 1
    assert scored(slide, kind="cam").hit == 1


def test_a_lesion_is_lost_that_has_no_observed_cell() -> None:
    cells, observed = np.zeros((9, 9), dtype=bool), np.ones((4, 5), dtype=bool)
    cells[2, 3:6] = cells[4:6, 4:6] = cells[8, 8] = True
    observed[2, 2] = False
    lesion, lost = observed_lesions(cells, observed, (2, 2))
    assert np.argwhere(lesion).tolist() == [[0, 1], [0, 2], [0, 3], [2, 3], [3, 2], [3, 3]]
    assert lost == 1, "the cell beyond; the second lesion has lost one cell of four"
    assert observed_lesions(np.zeros_like(cells), observed, (2, 2))[1] == 0


def test_lesions_touch_at_corners_and_hold_what_they_enclose() -> None:
    ring = spot(SHAPE, (1, 1), side=3)
    ring[2, 2] = 0
    one = scored(mapped(spot(SHAPE, (2, 2)), ring + spot(SHAPE, (4, 4), (9, 9))))
    assert one.lesions.max() == 2
    assert one.lesions[2, 2] == one.lesions[4, 4] == 1
    assert one.detections[1].tolist() == [1, 0]
    assert one.hit == 0  # the hottest cell itself is no lesion


def test_detections_clear_their_box() -> None:
    heat = 0.9 * spot(SHAPE, (2, 2)) + 0.8 * spot(SHAPE, (2, 3), (8, 8)) + 0.04 * spot(SHAPE, (11, 0))
    false, true = scored(mapped(heat, spot(SHAPE, (8, 8)))).detections
    assert false.tolist() == [pytest.approx(0.9)], "the neighbour is cleared, what is under the lowest score is none"
    assert true.tolist() == [pytest.approx(0.8)]
    false, _ = scored(mapped(heat, spot(SHAPE, (8, 8))), nms_cells=1).detections
    assert false.tolist() == [pytest.approx(0.9), pytest.approx(0.8)]


def test_detections_leave_the_map_as_it_was() -> None:
    one = scored(mapped(spot(SHAPE, (2, 2)), spot(SHAPE, (2, 2))))
    _ = one.detections
    assert one.score[2, 2] == 1 and one.slide.heat[2, 2] == 1


def test_a_slide_without_a_finding() -> None:
    one = scored(mapped(np.zeros(SHAPE), np.zeros(SHAPE)))
    assert [len(part) for part in one.detections] == [0, 0]
    assert np.isnan(one.cell_auc) and np.isnan(one.dice)
    assert one.overlap(0.5) == (0, 0)


def test_cell_auc_and_dice_are_over_observed_cells() -> None:
    rng = np.random.default_rng(0)
    lesion, observed = rng.random(SHAPE) < 0.3, rng.random(SHAPE) < 0.7
    heat = np.where(observed, 0.5 * rng.random(SHAPE) + 0.4 * lesion, 0)
    one = scored(mapped(heat, lesion & observed, observed=observed))
    assert one.cell_auc == pytest.approx(roc_auc_score(lesion[observed], heat[observed]))
    called = heat >= 0.5
    truth = lesion & observed
    assert one.dice == pytest.approx(2 * (called & truth).sum() / (called.sum() + truth.sum()))
    assert one.overlap(0.5) == (2 * (called & truth).sum(), called.sum() + truth.sum())


def test_lesions_are_those_of_the_camelyon_evaluation() -> None:
    lesion = np.random.default_rng(1).random((20, 20)) < 0.3
    expected = compute_multi_instance_mask(lesion, 0.5)
    np.testing.assert_array_equal(scored(mapped(np.zeros((20, 20)), lesion)).lesions, expected)
