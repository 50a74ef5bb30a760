import json

import numpy as np
import pytest
from scipy.stats import binomtest

from scripts.common.errors import RequestError
from scripts.evaluation.bootstrap import evaluate, resample_weights
from scripts.evaluation.metrics import METRICS


def case(count: int = 100) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, count)
    p = np.clip(0.3 * labels + rng.uniform(0, 0.7, count), 0, 1)
    return labels, np.stack([1 - p, p], axis=1)


def run(labels: np.ndarray, probabilities: np.ndarray, **options: object) -> dict:
    return evaluate(labels, probabilities, threshold=0.5, threshold_from="val", **options).to_json()  # type: ignore[arg-type]


def test_report_has_the_keys_of_metrics_json() -> None:
    labels, probabilities = case()
    report = run(labels, probabilities, seed=7)
    rest = ["n_positive", "n_negative", "threshold", "threshold_from", "seed", "bootstrap"]
    assert list(report) == [*METRICS, *rest]
    for name in METRICS:
        low, high = report[name]["ci95"]
        assert low < report[name]["value"] < high or name == "ece"  # ece is biased upwards in resamples
    assert (report["n_positive"], report["n_negative"]) == (labels.sum(), (1 - labels).sum())
    assert (report["threshold"], report["threshold_from"], report["seed"]) == (0.5, "val", 7)
    drawn = report["bootstrap"]
    assert (drawn["resamples"], drawn["unit"], drawn["units"], drawn["degenerate"]) == (2000, "slide", 100, 0)
    assert drawn["used"] == dict.fromkeys(METRICS, 2000) and drawn["no_interval"] == {}


def test_interval_of_accuracy_is_the_binomial_one() -> None:
    labels, probabilities = case(400)
    found = run(labels, probabilities)["accuracy"]
    expected = binomtest(round(400 * found["value"]), 400).proportion_ci(method="wilson")
    assert tuple(found["ci95"]) == pytest.approx(tuple(expected))


def test_same_seed_same_interval() -> None:
    labels, probabilities = case()
    assert run(labels, probabilities, seed=1) == run(labels, probabilities, seed=1)
    assert run(labels, probabilities, seed=1)["auc"]["ci95"] != run(labels, probabilities, seed=2)["auc"]["ci95"]


def test_slides_of_a_patient_are_drawn_together() -> None:
    weights = resample_weights(5, patients=["a", "b", "a", None, ""], resamples=300, seed=0)
    assert weights.shape == (300, 5)
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])
    assert (weights[:, 3] != weights[:, 4]).any()  # two slides without a patient are two units
    assert (weights[:, [0, 1, 3, 4]].sum(axis=1) == 4).all()


def test_copies_of_a_slide_do_not_narrow_the_interval() -> None:
    labels, probabilities = case()
    single = run(labels, probabilities)
    copies = np.repeat(np.arange(100), 4)
    together = run(labels[copies], probabilities[copies], patients=[f"p{index}" for index in copies])
    apart = run(labels[copies], probabilities[copies])
    assert together["auc"]["ci95"] == pytest.approx(single["auc"]["ci95"])
    assert np.ptp(apart["auc"]["ci95"]) < 0.7 * np.ptp(single["auc"]["ci95"])
    assert together["bootstrap"]["unit"] == "patient"


def test_each_metric_takes_the_resamples_in_which_it_is_defined() -> None:
    """Of 24 slides 5 are positive: 0.4 % of the resamples hold none, in which accuracy is as defined as ever."""
    labels = np.arange(24) < 5
    p = np.where(labels, 0.9, 0.2) - 0.6 * (np.arange(24) == 0) + 0.6 * (np.arange(24) == 9)
    report = run(labels.astype(int), np.stack([1 - p, p], axis=1))
    drawn = report["bootstrap"]
    lost = drawn["degenerate"]
    assert lost == pytest.approx(2000 * (19 / 24) ** 24, abs=12) and lost > 0
    assert drawn["used"]["auc"] == drawn["used"]["recall"] == 2000 - lost
    assert [drawn["used"][name] for name in ("accuracy", "brier", "ece", "specificity")] == [2000] * 4
    weights = resample_weights(24)
    squared = (p - labels) ** 2
    assert report["brier"]["ci95"] == pytest.approx(np.percentile(weights @ squared / 24, (2.5, 97.5)))


def test_a_figure_of_few_positives_has_no_interval(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(30) < 2
    p = np.where(labels, 0.9, 0.2)
    report = run(labels.astype(int), np.stack([1 - p, p], axis=1))
    assert report["auc"] == report["recall"] == {"value": 1.0, "ci95": [None, None]}
    assert report["accuracy"]["ci95"] == pytest.approx(tuple(binomtest(30, 30).proportion_ci(method="wilson")))
    reason = f"undefined in {report['bootstrap']['degenerate']} of 2000 resamples"
    assert report["bootstrap"]["no_interval"]["auc"] == report["bootstrap"]["no_interval"]["recall"] == reason
    assert f"no interval of auc, precision, recall, f1 ({reason})" in caplog.text


@pytest.mark.parametrize(
    ("labels", "patients", "units"),
    [
        ([0, 1, 2, 3], None, "4 slides"),
        ([0, 1, 2, 3] * 5, ["p", "q"] * 10, "2 patients"),
        ([0, 1], ["p", "p"], "1 patient"),
    ],
)
def test_few_patients_give_no_interval(labels: list[int], patients: list[str | None] | None, units: str) -> None:
    """The bootstrap draws from them alone: of 4 slides it gave accuracy 0.500 to 0.500, of one patient whatever that one has."""
    report = evaluate(
        labels, np.eye(4)[labels] * 0.5 + 0.125, threshold=None, threshold_from="val", patients=patients
    ).to_json()
    assert all(report[name]["ci95"] == [None, None] for name in METRICS)
    assert report["accuracy"]["value"] == 1
    assert report["bootstrap"]["no_interval"]["accuracy"] == f"{units}, expected 10 or more"


def test_one_class_gives_null_with_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    _, probabilities = case()
    report = run(np.zeros(100, dtype=int), probabilities)
    assert report["auc"] == report["recall"] == {"value": None, "ci95": [None, None]}
    assert report["accuracy"]["ci95"][0] is not None
    assert report["bootstrap"]["degenerate"] == 2000, "every resample lacks a class of the model"
    assert report["bootstrap"]["no_interval"]["auc"] == "needs slides inside and outside each class"
    assert "auc is undefined: needs slides inside and outside each class" in caplog.text
    json.dumps(report, allow_nan=False)


def test_three_classes_have_no_threshold() -> None:
    labels = np.arange(60) % 3
    probabilities = np.random.default_rng(0).dirichlet([2, 2, 2], 60)
    report = evaluate(labels, probabilities, threshold=None, threshold_from=None).to_json()
    assert (report["threshold"], report["n_positive"], report["n_negative"]) == (None, None, None)
    assert 0 < report["auc"]["ci95"][0] < report["auc"]["value"] < report["auc"]["ci95"][1] < 1


def test_a_class_of_the_model_without_a_slide() -> None:
    """Of three classes the last has no slide: every resample lacks it."""
    probabilities = np.random.default_rng(0).dirichlet([2, 2, 2], 60)
    report = evaluate(np.arange(60) % 2, probabilities, threshold=None, threshold_from=None).to_json()
    assert report["bootstrap"]["degenerate"] == 2000


def test_many_slides_are_computed_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, probabilities = case()
    whole = run(labels, probabilities, resamples=50)
    monkeypatch.setattr("scripts.evaluation.bootstrap._CHUNK_ELEMENTS", 700)
    chunked = run(labels, probabilities, resamples=50)
    for name in METRICS:
        assert chunked[name]["ci95"] == pytest.approx(whole[name]["ci95"], rel=1e-12)


def test_no_slide_is_refused() -> None:
    with pytest.raises(RequestError, match="no slide to evaluate"):
        run(np.empty(0, dtype=int), np.empty((0, 2)))


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        ([0, 1], [[0.5, 0.5]], "expected"),
        ([0, 2], [[0.5, 0.5]] * 2, "class indices below 2"),
        ([0, 1], [[0.5, 0.5], [np.nan, np.nan]], r"in \[0, 1\]"),
    ],
)
def test_malformed_input_is_refused(labels: list[int], probabilities: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(np.array(labels), np.array(probabilities))
