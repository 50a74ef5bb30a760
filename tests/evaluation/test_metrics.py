from collections.abc import Callable

import numpy as np
import pytest
from sklearn import metrics as reference

from scripts.common.errors import RequestError
from scripts.evaluation.metrics import METRICS, choose_threshold, predicted_classes, ranks, weighted_metrics


def one(labels: np.ndarray, probabilities: np.ndarray, *, threshold: float | None) -> dict[str, float]:
    values = weighted_metrics(labels, probabilities, np.ones((1, len(labels))), threshold=threshold)
    return {name: float(value[0]) for name, value in values.items()}


def binary(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


def two_class_case(count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, count)
    p = np.round(np.clip(0.2 * labels + rng.uniform(0, 0.8, count), 0, 1), 1)  # rounded: many ties
    return labels, binary(p)


def three_class_case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 90)
    return labels, 0.6 * rng.dirichlet([1, 1, 1], 90) + 0.4 * np.eye(3)[np.where(rng.random(90) < 0.5, labels, 0)]


def test_sure_slides_are_ranked_by_what_is_left_for_the_others() -> None:
    p0 = np.array([1e-30, 0.4, 1e-20, 1e-30, 0.0])
    found = ranks(np.stack([p0, 1 - p0], axis=1))
    assert found[:, 1].tolist() == [2, 0, 1, 2, 3]
    assert found[:, 0].tolist() == [1, 3, 2, 1, 0]
    labels, rows = np.array([1, 0, 0, 1]), np.stack([p0[:4], 1 - p0[:4]], axis=1)
    assert one(labels, rows, threshold=0.5)["auc"] == 1


def test_equal_probabilities_share_a_place_whatever_the_rounding_of_the_others() -> None:
    rows = [[0.7, 0.1, 0.2], [0.7, 0.3, 0.0], [0.7, 0.2, 0.1], [0.7, 0.1 + 1e-16, 0.2]]
    assert ranks(rows)[:, 0].tolist() == [0, 0, 0, 0]
    assert ranks([[0.1, 0.9], [0.100001, 0.9]])[:, 1].tolist() == [0, 0]


def test_two_classes_agree_with_scikit_learn() -> None:
    labels, probabilities = two_class_case()
    p, predicted = probabilities[:, 1], probabilities[:, 1] >= 0.4
    found = one(labels, probabilities, threshold=0.4)
    assert tuple(found) == METRICS
    expected = {
        "auc": reference.roc_auc_score(labels, p),
        "accuracy": reference.accuracy_score(labels, predicted),
        "precision": reference.precision_score(labels, predicted),
        "recall": reference.recall_score(labels, predicted),
        "f1": reference.f1_score(labels, predicted),
        "specificity": reference.recall_score(labels, predicted, pos_label=0),
        "brier": reference.brier_score_loss(labels, p),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


def test_three_classes_are_macro_averages() -> None:
    labels, probabilities = three_class_case()
    predicted = probabilities.argmax(axis=1)
    found = one(labels, probabilities, threshold=None)
    one_hot = np.eye(3)[labels]
    specificities = [np.mean(predicted[labels != index] != index) for index in range(3)]
    expected = {
        "auc": reference.roc_auc_score(labels, probabilities, multi_class="ovr", average="macro"),
        "accuracy": reference.accuracy_score(labels, predicted),
        "precision": reference.precision_score(labels, predicted, average="macro"),
        "recall": reference.recall_score(labels, predicted, average="macro"),
        "f1": reference.f1_score(labels, predicted, average="macro"),
        "specificity": np.mean(specificities),
        "brier": np.mean(np.sum((probabilities - one_hot) ** 2, axis=1)),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", [two_class_case, three_class_case])
def test_a_weight_counts_as_a_repetition(case: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
    labels, probabilities = case()
    threshold = 0.4 if probabilities.shape[1] == 2 else None
    weights = np.random.default_rng(5).integers(0, 4, len(labels))
    repeated = one(np.repeat(labels, weights), np.repeat(probabilities, weights, axis=0), threshold=threshold)
    weighted = weighted_metrics(labels, probabilities, weights[None].astype(float), threshold=threshold)
    assert {name: float(value[0]) for name, value in weighted.items()} == pytest.approx(repeated, rel=1e-12)


def test_ece_of_two_classes_is_that_of_the_positive_class() -> None:
    # Bins of width 1/15: {0.07, 0.13} mean 0.1, one of two positive; {0.9} and {0.95} in bins of their own.
    labels = np.array([0, 1, 1, 0])
    found = one(labels, binary(np.array([0.07, 0.13, 0.9, 0.95])), threshold=0.5)
    assert found["ece"] == pytest.approx((2 * 0.4 + 0.1 + 0.95) / 4)


def test_ece_of_more_classes_is_that_of_the_highest_probability() -> None:
    probabilities = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.3, 0.5]])
    assert one(np.array([0, 2, 2]), probabilities, threshold=None)["ece"] == pytest.approx((2 * 0.3 + 0.5) / 3)


def test_undefined_figures_are_nan_and_the_others_are_not() -> None:
    p = binary(np.array([0.1, 0.2, 0.3]))
    no_call = one(np.array([0, 1, 0]), p, threshold=0.9)
    assert [name for name, value in no_call.items() if np.isnan(value)] == ["precision"]
    assert no_call["f1"] == 0
    negatives = one(np.array([0, 0, 0]), p, threshold=0.9)
    assert [name for name, value in negatives.items() if np.isnan(value)] == ["auc", "precision", "recall", "f1"]
    positives = one(np.array([1, 1, 1]), p, threshold=0.2)
    assert [name for name, value in positives.items() if np.isnan(value)] == ["auc", "specificity"]


def test_decision_includes_the_threshold_itself() -> None:
    assert predicted_classes(binary(np.array([0.49, 0.5, 0.51])), 0.5).tolist() == [0, 1, 1]
    assert predicted_classes([[0.2, 0.5, 0.3]], None).tolist() == [1]


@pytest.mark.parametrize(("classes", "threshold"), [(2, None), (3, 0.5)])
def test_threshold_belongs_to_two_classes_only(classes: int, threshold: float | None) -> None:
    with pytest.raises(ValueError, match=f"{classes} classes"):
        predicted_classes(np.full((1, classes), 1 / classes), threshold)


def test_threshold_maximises_youden() -> None:
    labels, probabilities = two_class_case()
    p = probabilities[:, 1]

    def youden(threshold: float) -> float:
        return float(np.mean(p[labels == 1] >= threshold) - np.mean(p[labels == 0] >= threshold))

    chosen = choose_threshold(labels, p)
    assert youden(chosen) == pytest.approx(max(youden(t) for t in np.linspace(0, 1.01, 500)))
    assert chosen not in p


@pytest.mark.parametrize(
    ("labels", "p", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], 0.5),  # the middle of the gap
        ([0, 1, 0, 1], [0.1, 0.3, 0.7, 0.9], 0.2),  # J is 0.5 at 0.2 and at 0.8, both 0.3 from 0.5: the lower
        ([0, 1, 0, 1], [0.1, 0.3, 0.6, 0.8], 0.7),  # J is 0.5 at 0.2 and at 0.7: the nearer to 0.5
    ],
)
def test_threshold_ties(labels: list[int], p: list[float], expected: float) -> None:
    chosen = choose_threshold(labels, p)
    assert chosen == pytest.approx(expected, rel=1e-15)


def test_threshold_between_neighbouring_numbers_is_the_upper() -> None:
    upper = float(np.nextafter(0.5, 1))
    assert choose_threshold([0, 1], [0.5, upper]) == upper


@pytest.mark.parametrize(("labels", "p"), [([0, 1], [0.9, 0.1]), ([0, 1, 0], [0.3, 0.3, 0.3])])
def test_useless_scores_fall_back_and_say_so(
    labels: list[int], p: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_threshold(labels, p) == 0.5
    assert "do not separate" in caplog.text


@pytest.mark.parametrize("label", [0, 1])
def test_threshold_needs_both_classes(label: int) -> None:
    with pytest.raises(RequestError, match=r"validation set: .*both"):
        choose_threshold([label] * 3, [0.1, 0.2, 0.3])
