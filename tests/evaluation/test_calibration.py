from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from scripts.evaluation.bootstrap import evaluate
from scripts.evaluation.calibration import (
    RANGE,
    calibrated,
    calibrated_predictions,
    cross_entropy,
    fit_temperature,
    reliability,
    smoothed_targets,
)
from scripts.evaluation.metrics import ranks
from scripts.evaluation.predictions import Prediction
from scripts.evaluation.reliability import write_reliability_plot


def drawn(count: int, classes: int, *, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn with the probabilities softmax(logits), and what a network says that is over-sure by ``temperature``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, classes))
    cumulated = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((count, 1)) > cumulated).sum(axis=1)
    return labels, softmax(logits * temperature, axis=1)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_again(classes: int, temperature: float) -> None:
    labels, says = drawn(20_000, classes, temperature=temperature)
    assert fit_temperature(labels, says) == pytest.approx(temperature, rel=0.04)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("count", [12, 40, 300])
def test_no_temperature_of_a_grid_is_better(classes: int, count: int) -> None:
    labels, says = drawn(count, classes, temperature=2.0, seed=count)
    found = fit_temperature(labels, says)
    targets = smoothed_targets(labels, classes)
    grid = np.exp(np.linspace(np.log(0.01), np.log(100), 4001))
    losses = [cross_entropy(targets, np.log(says) / t) for t in grid]
    assert found == pytest.approx(grid[int(np.argmin(losses))], rel=0.003)
    assert cross_entropy(targets, np.log(says) / found) <= min(losses) + 1e-9


def test_targets_of_platt() -> None:
    targets = smoothed_targets(np.array([1, 1, 1, 0]), 2)
    np.testing.assert_allclose(targets, [[1 / 5, 4 / 5]] * 3 + [[2 / 3, 1 / 3]])
    np.testing.assert_allclose(smoothed_targets(np.array([2, 0]), 3).sum(axis=1), 1)


def test_separable_scores_do_not_become_certain() -> None:
    """Plain cross-entropy has no minimum here; ten slides per class make a probability of about 11/12."""
    labels = np.arange(20) % 2
    p = np.where(labels == 1, 0.9999, 0.0001)
    fitted = calibrated(np.stack([1 - p, p], axis=1), fit_temperature(labels, np.stack([1 - p, p], axis=1)))
    np.testing.assert_allclose(fitted[labels == 1, 1], 11 / 12, rtol=1e-4)


@pytest.mark.parametrize("p", [np.array([0.9, 0.2, 0.8, 0.1]), np.full(4, 0.5)])
def test_scores_no_better_than_chance_stay(p: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    assert fit_temperature([0, 1, 0, 1], np.stack([1 - p, p], axis=1)) == 1
    assert "no better than chance" in caplog.text


def test_order_and_highest_class_stay() -> None:
    labels, says = drawn(200, 2, temperature=3.0)
    after = calibrated(says, 2.7)
    assert roc_auc_score(labels, after[:, 1]) == roc_auc_score(labels, says[:, 1])
    np.testing.assert_allclose(after.sum(axis=1), 1)
    _, more = drawn(200, 5, temperature=3.0)
    assert (calibrated(more, 2.7).argmax(axis=1) == more.argmax(axis=1)).all()


def of_margins(margins: np.ndarray) -> np.ndarray:
    return softmax(np.stack([np.zeros_like(margins), margins], axis=1), axis=1)


@pytest.mark.parametrize("margin", [0.01, 0.04, 0.4])
def test_slides_surer_than_any_of_validation_keep_their_order(margin: float) -> None:
    """A hardly trained network: logits of validation lie close together, and those of other slides go far beyond."""
    labels = np.arange(40) % 2
    temperature = fit_temperature(labels, of_margins(np.where(labels == 1, margin, -margin)))
    assert RANGE[0] <= temperature < 0.2
    says = of_margins(np.linspace(-36.5, 36.5, 400))
    after = calibrated(says, temperature)
    assert len(np.unique(after[:, 1])) < 400, "the probability of class 1 alone is 1 for many"
    assert (after > 0).all()
    np.testing.assert_array_equal(ranks(after), ranks(says))
    np.testing.assert_array_equal(after.argmax(axis=1), says.argmax(axis=1))
    true = np.random.default_rng(0).integers(0, 2, 400)
    before, then = (evaluate(true, rows, threshold=0.5, threshold_from=None, resamples=50) for rows in (says, after))
    assert then["auc"] == before["auc"]
    assert before["auc"].value == pytest.approx(roc_auc_score(true, says[:, 1]), abs=1e-4)


def test_a_probability_of_zero() -> None:
    after = calibrated([[0.0, 1.0], [1.0, 0.0]], 2.0)
    assert np.isfinite(after).all() and after[0, 1] > 1 - 1e-9


def test_calibration_helps_on_other_slides() -> None:
    """Fitted on 100 validation slides, it makes the figures of 400 others better."""
    labels, says = drawn(500, 2, temperature=3.0)
    after = calibrated(says[100:], fit_temperature(labels[:100], says[:100]))
    before, then = (
        evaluate(labels[100:], rows, threshold=0.5, threshold_from=None, resamples=50) for rows in (says[100:], after)
    )
    for name in ("brier", "ece"):
        assert then[name].value < before[name].value


def test_predictions() -> None:
    rows = [Prediction("a", 1, (0.1, 0.9), 0.3), Prediction("b", None, (0.5, 0.5), None)]
    assert calibrated_predictions(rows, 1.0) == rows
    assert calibrated_predictions([], 2.0) == []
    first, second = calibrated_predictions(rows, 2.0)
    assert (first.slide_id, first.label, first.stream_score) == ("a", 1, 0.3)
    assert first.probabilities[1] == pytest.approx(3 / 4)
    assert second.probabilities == (0.5, 0.5)


def test_bins_of_two_classes() -> None:
    p = np.array([0.0, 0.1, 0.11, 0.95, 0.93, 1.0, 0.94])
    bins = reliability([0, 1, 0, 1, 1, 0, 1], np.stack([1 - p, p], axis=1))
    assert [one.slides for one in bins] == [2, 1, 0, 0, 0, 0, 0, 0, 0, 4]
    last = bins[-1]
    assert (last.mean_probability, last.observed) == (pytest.approx(0.955), 0.75)
    assert last.ci95 == pytest.approx(tuple(binomtest(3, 4).proportion_ci(method="wilson")))
    assert bins[5].mean_probability is None


def test_bins_of_more_classes_are_of_the_highest() -> None:
    bins = reliability([0, 1, 2], [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    assert bins[5].slides == 3
    assert bins[5].observed == pytest.approx(2 / 3)


def test_the_plot(tmp_path: Path) -> None:
    labels, says = drawn(60, 2, temperature=3.0)
    panels = [("as trained", reliability(labels, says)), ("temperature 3", reliability(labels, calibrated(says, 3)))]
    for count in (1, 2):
        write_reliability_plot(tmp_path / f"{count}.png", panels[:count], probability="P(1)", event="share of 1")
    with Image.open(tmp_path / "1.png") as one, Image.open(tmp_path / "2.png") as two:
        assert two.size[0] == 2 * one.size[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.png", "2.png"]
