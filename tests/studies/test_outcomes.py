"""What finished runs left, against figures computed by hand."""

from pathlib import Path

import numpy as np
import pytest

from scripts.common.errors import RequestError
from scripts.common.files import write_json
from scripts.dsnet.network import DSNet
from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.evaluation.interval import Drawn, Estimate
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.studies.outcomes import (
    EvaluatedSlides,
    Outcome,
    columns_of,
    estimate_cell,
    interval_cell,
    paired,
    read_outcome,
)
from scripts.training.model_card import FORMAT

SCORES = {"a": (0, 0.1), "b": (1, 0.4), "c": (0, 0.6), "d": (1, 0.9), "e": (1, 0.8)}  # five of six pairs in order


def slides(patients: str = "") -> EvaluatedSlides:
    labels = np.array([label for label, _ in SCORES.values()])
    return EvaluatedSlides(labels, tuple(patients) or (None,) * len(SCORES), tuple(SCORES))


def run_folder(folder: Path, scores: dict[str, tuple[int, float]]) -> Path:
    """What a finished run leaves."""
    predictions = [Prediction(name, label, (1 - p, p), 0.5) for name, (label, p) in scores.items()]
    write_predictions(folder / "predictions.csv", predictions, class_names=["0", "1"], threshold=0.5)
    card = {
        "format": FORMAT,
        "class_names": ["0", "1"],
        "threshold": 0.25,
        "threshold_from": "val",
        "encoder": None,
        "network": DSNet().arguments,
        "validation": {"slides": 6, "auc": {"value": 0.7, "ci95": [None, None]}},
    }
    write_json(folder / "model.json", card)
    return folder


def test_what_a_run_left(tmp_path: Path) -> None:
    """The resamples are those of metrics.json with the same seed; the order of the file does not matter."""
    found = read_outcome(run_folder(tmp_path / "run", SCORES), slides(), seed=4, dataset=3, draw=2, resamples=500)
    assert (found.seed, found.dataset, found.auc, found.validation_auc) == (4, 3, pytest.approx(5 / 6), 0.7)
    turned = run_folder(tmp_path / "turned", dict(reversed(SCORES.items())))
    of_turned = read_outcome(turned, slides(), seed=1, draw=2, resamples=500)
    labels, probabilities = zip(*((label, (1 - p, p)) for label, p in SCORES.values()), strict=True)
    expected = resampled_metrics(labels, [Run(probabilities, 0.25)], resamples=500, seed=2)
    for one in (found, of_turned):
        np.testing.assert_array_equal(one.run.probabilities, probabilities)
        for name, spread in expected.spread.items():
            np.testing.assert_array_equal(one.alone.spread[name], spread)
    assert np.isnan(found.alone.spread["auc"]).sum() == expected.degenerate > 0
    assert found.alone.drawn == Drawn("slide", 5)


def test_patients_are_drawn_whole(tmp_path: Path) -> None:
    """With one patient of each class every resample orders the same pairs, or lacks a class."""
    spread = read_outcome(run_folder(tmp_path, SCORES), slides("pqpqq"), seed=0).alone.spread["auc"]
    assert set(spread[np.isfinite(spread)].round(9)) == {round(5 / 6, 9)}
    assert (slides().unit, slides("pqpqq").unit) == ("slide", "patient")


def test_other_slides_are_refused(tmp_path: Path) -> None:
    others = {**SCORES, "x": SCORES["e"]}
    del others["e"]
    with pytest.raises(RequestError, match="other slides than the test slides"):
        read_outcome(run_folder(tmp_path, others), slides(), seed=0)


def test_runs_are_paired_by_dataset_and_seed(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, SCORES)

    def outcome(dataset: int, seed: int) -> Outcome:
        return read_outcome(folder, slides(), seed=seed, dataset=dataset, resamples=1)

    mine, others = [outcome(0, 0), outcome(0, 7), outcome(1, 0)], [outcome(1, 0), outcome(0, 0), outcome(1, 7)]
    assert [(one, other) for one, other in paired(mine, others)] == [(mine[0], others[1]), (mine[2], others[0])]


def test_columns_and_cells() -> None:
    record = columns_of("auc", Estimate(0.75, (0.5, 0.9), 100, None))
    assert record == {"auc": 0.75, "auc_low": 0.5, "auc_high": 0.9}
    assert estimate_cell(record, "auc") == "0.750 (0.500 to 0.900)"
    assert estimate_cell(record, "auc", "+.1f") == "+0.8 (+0.5 to +0.9)"
    without = columns_of("auc", Estimate(0.75, None, 100, "9 slides, expected 10 or more"))
    assert (estimate_cell(without, "auc"), interval_cell(without, "auc")) == ("0.750 (no interval)", "")
    assert estimate_cell(columns_of("auc", Estimate(None, None, 0, "undefined")), "auc") == ""
