import numpy as np
import pytest

from scripts.evaluation.interval import Bootstrap, Drawn, estimate, missing_in_words

SPREAD = np.linspace(0, 1, 1001)


def test_the_ends_are_percentiles_of_the_resamples() -> None:
    found = estimate(0.5, SPREAD, Drawn("slide", 30))
    assert found.ci95 == pytest.approx((0.025, 0.975))
    assert (found.value, found.used, found.reason) == (0.5, 1001, None)
    assert found.in_words() == "0.500 (95 % interval 0.025 to 0.975)"


def test_few_undefined_resamples_are_left_out_and_counted() -> None:
    spread = np.r_[SPREAD, [np.nan] * 10]
    found = estimate(0.5, spread, Drawn("slide", 30))
    assert found.ci95 == pytest.approx((0.025, 0.975)) and found.used == 1001


@pytest.mark.parametrize(
    ("value", "spread", "units", "reason"),
    [
        (0.5, SPREAD, 9, "9 patients, expected 10 or more"),
        (0.5, SPREAD, 1, "1 patient, expected 10 or more"),
        (0.5, np.r_[SPREAD, [np.nan] * 11], 30, "undefined in 11 of 1012 resamples"),
        (0.5, np.full(5, np.nan), 30, "undefined in 5 of 5 resamples"),
        (0.5, np.empty(0), 30, "undefined in 0 of 0 resamples"),
        (np.nan, SPREAD, 30, "it needs a slide"),
    ],
)
def test_without_an_interval_there_is_a_reason(value: float, spread: np.ndarray, units: int, reason: str) -> None:
    found = estimate(value, spread, Drawn("patient", units), undefined="it needs a slide")
    assert (found.ci95, found.reason) == (None, reason)
    assert found.to_json() == {"value": None if np.isnan(value) else value, "ci95": [None, None]}
    said = found.in_words(sign="+")
    assert said == ("undefined" if np.isnan(value) else f"+0.500 (no interval: {reason})")


def test_a_report_says_what_was_drawn_and_what_has_no_interval() -> None:
    drawn = Drawn("slide", 12)
    found = {
        "auc": estimate(0.9, np.r_[SPREAD, [np.nan] * 99], drawn),
        "recall": estimate(0.8, np.r_[SPREAD, [np.nan] * 99], drawn),
        "brier": estimate(0.1, np.r_[SPREAD, SPREAD[:99]], drawn),
    }
    reason = "undefined in 99 of 1100 resamples"
    report = Bootstrap(drawn, 1100).to_json(found)
    assert report == {
        "resamples": 1100,
        "unit": "slide",
        "units": 12,
        "used": {"auc": 1001, "recall": 1001, "brier": 1100},
        "no_interval": {"auc": reason, "recall": reason},
    }
    assert missing_in_words(found) == f"auc, recall ({reason})"
