import itertools

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.evaluation.delong import delong


def scores(count: int = 40, seed: int = 0, digits: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and two correlated scores, rounded so that there are ties within and between the classes."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 3 == 0).astype(int)
    common = labels + rng.normal(size=count)
    first, second = (common + rng.normal(size=count) for _ in range(2))
    return labels, first.round(digits), second.round(digits)


def reference(labels: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Difference and its standard error from DeLong's equations, pair by pair."""
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)

    def kernel(score: np.ndarray, x: int, y: int) -> float:
        return float(score[x] > score[y]) + 0.5 * float(score[x] == score[y])

    v10 = np.array([[np.mean([kernel(s, x, y) for y in negatives]) for x in positives] for s in (first, second)])
    v01 = np.array([[np.mean([kernel(s, x, y) for x in positives]) for y in negatives] for s in (first, second)])
    theta = v10.mean(axis=1)
    covariance = np.zeros((2, 2))
    for r, s in itertools.product(range(2), repeat=2):
        s10 = ((v10[r] - theta[r]) * (v10[s] - theta[s])).sum() / (len(positives) - 1)
        s01 = ((v01[r] - theta[r]) * (v01[s] - theta[s])).sum() / (len(negatives) - 1)
        covariance[r, s] = s10 / len(positives) + s01 / len(negatives)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return float(theta[1] - theta[0]), float(np.sqrt(variance))


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_equals_the_sum_over_pairs(digits: int) -> None:
    labels, first, second = scores(digits=digits)
    found = delong(labels, first, second)
    assert found is not None
    assert (found.first, found.second) == pytest.approx((roc_auc_score(labels, first), roc_auc_score(labels, second)))
    assert (found.difference, found.standard_error) == pytest.approx(reference(labels, first, second), abs=1e-12)
    assert found.z == pytest.approx(found.difference / found.standard_error)
    assert found.ci95 == pytest.approx(
        (found.difference - 1.959964 * found.standard_error, found.difference + 1.959964 * found.standard_error)
    )


def test_turning_round_turns_the_sign() -> None:
    labels, first, second = scores()
    one, other = delong(labels, first, second), delong(labels, second, first)
    assert one is not None and other is not None
    assert (one.difference, one.z, one.p) == pytest.approx((-other.difference, -other.z, other.p))  # type: ignore[operator]


def test_p_is_uniform_where_nothing_differs() -> None:
    """Of 400 comparisons of equally good scores about 5 % are significant."""
    p = [delong(*scores(120, seed, digits=8)).p for seed in range(400)]  # type: ignore[union-attr]
    assert 0.025 < np.mean(np.array(p) < 0.05) < 0.08
    assert np.mean(p) == pytest.approx(0.5, abs=0.05)


def test_no_spread() -> None:
    labels = np.array([0, 0, 1, 1])
    same = delong(labels, labels, labels)
    assert same is not None and (same.standard_error, same.z, same.p) == (0, None, 1)
    opposite = delong(labels, labels, -labels)
    assert opposite is not None and (opposite.difference, opposite.z, opposite.p) == (-1, None, None)
    assert delong([0, 0, 1], [1, 2, 3], [1, 2, 3]) is None
