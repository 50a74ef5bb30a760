import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_curve

from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.evaluation.curves import curves, rank_correlation

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 60)
SCORES = np.round(np.clip(0.5 + 0.25 * (LABELS - 0.5) + 0.2 * RNG.normal(size=60), 0, 1), 1)  # with ties


def test_the_points_are_those_of_scikit_learn() -> None:
    found = curves(LABELS, SCORES, resamples=10)
    fpr, tpr, _ = roc_curve(LABELS, SCORES, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr)
    np.testing.assert_allclose(found.recall, tpr)
    precision, recall, _ = precision_recall_curve(LABELS, SCORES)
    np.testing.assert_allclose(found.precision, precision[-2::-1])
    np.testing.assert_allclose(found.recall, recall[::-1])
    assert found.average_precision.value == pytest.approx(average_precision_score(LABELS, SCORES))


def test_the_band_is_of_the_draws_that_give_the_interval_of_the_auc() -> None:
    """The area under each resample's curve is its AUC, so both ends of the band bracket the AUC's interval."""
    found = curves(LABELS, SCORES, resamples=400, seed=3)
    lower, upper = found.band
    assert (lower <= upper).all() and upper[-1] == lower[-1] == 1
    inner = np.interp(found.band_at, found.false_positive_rate, found.recall)
    assert (lower <= inner + 1e-9).all() and (inner <= upper + 1e-9).all()
    spread = resampled_metrics(LABELS, [Run(np.column_stack([1 - SCORES, SCORES]), 0.5)], resamples=400, seed=3).spread[
        "auc"
    ]
    low, high = np.percentile(spread, (2.5, 97.5))
    assert np.trapezoid(lower, found.band_at) < low < high < np.trapezoid(upper, found.band_at)


def test_patients_widen_the_intervals() -> None:
    """Each slide four times, as four slides of a patient: no more is known than from one."""
    labels, scores = np.tile(LABELS, 4), np.tile(SCORES, 4)
    patients = [f"p{index}" for index in range(60)] * 4
    alone = curves(LABELS, SCORES, seed=1)
    grouped = curves(labels, scores, patients=patients, seed=1)
    ungrouped = curves(labels, scores, seed=1)
    np.testing.assert_allclose(grouped.band, alone.band)
    assert grouped.average_precision.ci95 == pytest.approx(alone.average_precision.ci95)
    assert np.diff(ungrouped.band, axis=0).mean() < 0.7 * np.diff(grouped.band, axis=0).mean()


@pytest.mark.parametrize("labels", [np.zeros(5), np.ones(5)])
def test_one_class_has_no_curve(labels: np.ndarray) -> None:
    assert curves(labels, np.linspace(0, 1, 5)) is None


def test_rank_correlation() -> None:
    x = RNG.normal(size=50)
    rising = rank_correlation(x, np.exp(x), resamples=50)
    assert rising.value == pytest.approx(1) and rising.ci95 == pytest.approx((1, 1))
    loose = rank_correlation(x, -x + 2 * RNG.normal(size=50), resamples=300)
    low, high = loose.ci95
    assert low < loose.value < high and loose.value < 0


def test_what_does_not_vary_has_no_correlation() -> None:
    found = rank_correlation(range(12), [1] * 12, resamples=10)
    assert (found.value, found.ci95, found.reason) == (None, None, "the values do not vary")


def test_few_slides_or_few_of_a_class_have_no_band() -> None:
    few = curves(LABELS[:9], SCORES[:9], resamples=50)
    rare = curves(np.arange(60) < 2, SCORES, resamples=200)
    for found in (few, rare):
        assert found.band is None and found.average_precision.ci95 is None
    assert few.average_precision.reason == "9 slides, expected 10 or more"
    assert "of 200 resamples" in rare.average_precision.reason
