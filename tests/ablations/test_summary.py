"""The table's arithmetic against figures computed by hand."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.ablations.summary import COLUMNS, Result, read_result, summarise, write_table
from scripts.common.errors import RequestError
from scripts.common.files import write_json
from scripts.dsnet.network import DSNet
from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.evaluation.interval import Drawn
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.training.model_card import FORMAT

SCORES = {"a": (0, 0.1), "b": (1, 0.4), "c": (0, 0.6), "d": (1, 0.9), "e": (1, 0.8)}  # five of six pairs in order


def result(dataset: int, seed: int, auc: float, resampled: list[float]) -> Result:
    return Result(dataset, seed, auc, np.array(resampled), auc + 0.01, 100, 229.5, Drawn("slide", 40))


def run_folder(folder: Path, scores: dict[str, tuple[int, float]], **arguments: object) -> Path:
    """What a finished run leaves."""
    predictions = [Prediction(name, label, (1 - p, p), 0.5) for name, (label, p) in scores.items()]
    write_predictions(folder / "predictions.csv", predictions, class_names=["0", "1"], threshold=0.5)
    card = {
        "format": FORMAT,
        "class_names": ["0", "1"],
        "threshold": 0.5,
        "threshold_from": "val",
        "encoder": None,
        "network": DSNet(**arguments).arguments,
        "validation": {"slides": 6, "auc": {"value": 0.7, "ci95": [None, None]}},
    }
    write_json(folder / "model.json", card)
    return folder


def test_what_a_run_left(tmp_path: Path) -> None:
    """The resamples are those of metrics.json with the same seed; the order of the file does not matter."""
    patients = dict.fromkeys(SCORES)
    found = read_result(
        run_folder(tmp_path / "run", SCORES), dataset=3, draw=3, seed=0, patients=patients, resamples=500
    )
    assert (found.auc, found.validation_auc, found.parameters) == (pytest.approx(5 / 6), 0.7, 1_124_819)
    assert found.compression_ratio == pytest.approx(229.5, abs=0.1)
    turned = run_folder(tmp_path / "turned", dict(reversed(SCORES.items())))
    np.testing.assert_array_equal(
        read_result(turned, dataset=3, draw=3, seed=1, patients=patients, resamples=500).resampled, found.resampled
    )
    labels, probabilities = zip(*((label, (1 - p, p)) for label, p in SCORES.values()), strict=True)
    expected = resampled_metrics(labels, [Run(probabilities, 0.5)], resamples=500, seed=3)
    np.testing.assert_array_equal(found.resampled, expected.spread["auc"])
    assert np.isnan(found.resampled).sum() == expected.degenerate > 0
    assert found.drawn == Drawn("slide", 5)


def test_patients_are_drawn_whole(tmp_path: Path) -> None:
    """With one patient of each class every resample orders the same pairs, or lacks a class."""
    patients = {"a": "p", "b": "q", "c": "p", "d": "q", "e": "q"}
    found = read_result(run_folder(tmp_path, SCORES), dataset=0, draw=0, seed=0, patients=patients)
    assert set(found.resampled[np.isfinite(found.resampled)].round(9)) == {round(5 / 6, 9)}


def test_compression_without_thumbnails(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, SCORES, thumbnail_stream=False)
    ratio = read_result(folder, dataset=0, draw=0, seed=0, patients=dict.fromkeys(SCORES)).compression_ratio
    assert ratio == pytest.approx(3 * 112**2 / 128)


def test_other_slides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="other slides than the test slides"):
        read_result(run_folder(tmp_path, SCORES), dataset=0, draw=0, seed=0, patients=dict.fromkeys("abcdx"))


def test_two_datasets_and_two_seeds_by_hand() -> None:
    results = {
        "full": [
            result(0, 0, 0.9, [0.9, 0.8, 0.85]),
            result(0, 1, 0.8, [0.8, 0.8, 0.9]),
            result(1, 0, 0.7, [0.7, 0.6, 0.7]),
            result(1, 1, 0.5, [0.6, 0.4, 0.5]),
        ],
        "no_thumbnail": [
            result(0, 0, 0.8, [0.7, 0.7, 0.75]),
            result(0, 1, 0.7, [0.7, 0.7, 0.7]),
            result(1, 0, 0.6, [0.6, 0.5, 0.6]),
            result(1, 1, 0.6, [0.5, 0.3, 0.5]),
        ],
    }
    full, row = summarise(results)
    assert (full["row"], full["runs"], full["auc"]) == ("full", 4, pytest.approx(0.725))
    # resamples of the mean: 0.75, 0.65, 0.7375
    assert (full["auc_low"], full["auc_high"]) == (pytest.approx(0.654375), pytest.approx(0.749375))
    # within dataset 0: 0.05^2 twice, within dataset 1: 0.1^2 twice; two degrees of freedom
    assert full["sd_over_seeds"] == pytest.approx((0.025 / 2) ** 0.5)
    assert full["validation_auc"] == pytest.approx(0.735)
    assert full["difference"] is full["sign"] is full["paper_difference_camelyon16"] is None
    # differences -0.1, -0.1, -0.1, +0.1; of the resamples (-0.2, -0.1, -0.1, -0.1), four times -0.1, (-0.1, -0.2, -0.1, 0)
    assert row["difference"] == pytest.approx(-0.05)
    assert (row["difference_low"], row["difference_high"]) == (pytest.approx(-0.12375), pytest.approx(-0.1))
    assert row["sd_of_difference"] == pytest.approx((0.02 / 2) ** 0.5)
    assert (row["paper_difference_camelyon16"], row["paper_difference_tcga_lusc"]) == (-0.074, -0.021)
    assert row["sign"] == "holds"


@pytest.mark.parametrize(
    ("shifts", "sign"),
    [
        ((0.1, 0.2), "opposite"),
        ((-0.1, 0.1), "open"),
        ((0.0, 0.0), "open"),
        ((3e-16, 3e-16), "open"),
        ((-3e-16, -3e-16), "open"),
    ],
)
def test_signs(shifts: tuple[float, float], sign: str) -> None:
    full = [result(0, 0, 0.5, [0.5, 0.5])]
    other = [result(0, 0, 0.5 + sum(shifts) / 2, [0.5 + shift for shift in shifts])]
    assert summarise({"full": full, "mixed": other})[1]["sign"] == sign


def test_pairs_that_are_missing() -> None:
    """A difference takes the seeds that both have; one seed has no deviation; without the full row there is no difference."""
    full = [result(0, 0, 0.5, [0.5, 0.5])]
    other = [result(0, 0, 0.6, [0.6, 0.7]), result(0, 1, 0.9, [0.9, 0.9])]
    both = summarise({"levels_1": other, "full": full})
    assert [record["row"] for record in both] == ["full", "levels_1"]
    assert both[0]["sd_over_seeds"] is None
    assert both[1]["difference"] == pytest.approx(0.1)
    assert both[1]["sd_of_difference"] is None
    assert summarise({"levels_1": other, "full": []})[0]["difference"] is None


def test_both_files(tmp_path: Path) -> None:
    full = [result(0, seed, 0.5, [0.5, 0.5]) for seed in (0, 1)]
    other = [result(0, seed, 0.25, [0.2, 0.3]) for seed in (0, 1)]
    records = summarise({"full": full, "levels_5": other})
    write_table(tmp_path, records, left_out={"mixed": "why not."}, title="What was run.", unit="slide")
    with open(tmp_path / "ablations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert (rows[0]["difference"], rows[1]["difference"], rows[1]["paper_tcga_lusc"]) == ("", "-0.25", "")
    lines = (tmp_path / "ablations.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "| IV | L = 5 | 2 | 0.250 (0.203 to 0.297) | 0.000 | -0.250 (-0.297 to -0.203) | 0.000 |" in table[-1]
    assert table[-1].endswith("| 100 | 229.5 | 0.737 (-0.023) |  | holds |")
    assert "- `mixed`: why not." in lines


def test_an_auc_that_cannot_be_had_is_none(tmp_path: Path) -> None:
    full, other = ([result(0, seed, auc, [auc]) for seed in (0, 1)] for auc in (np.nan, 0.7))
    records = summarise({"full": full, "levels_5": other})
    assert [records[0][name] for name in ("auc", "auc_low", "sd_over_seeds")] == [None] * 3
    assert [records[1][name] for name in ("auc", "difference", "sd_of_difference", "sign")] == [0.7, None, None, "open"]
    write_table(
        tmp_path, [{**record, "validation_auc": 0.5} for record in records], left_out={}, title="x", unit="slide"
    )
    for name in ("ablations.csv", "ablations.md"):
        assert "nan" not in (tmp_path / name).read_text()


@pytest.mark.parametrize(("lost", "slides"), [([np.nan], 40), ([], 9)])
def test_no_interval_of_few_slides_or_where_resamples_lack_a_class(
    lost: list[float], slides: int, tmp_path: Path
) -> None:
    full, other = (
        [replace(result(0, 0, auc, [auc, auc + 0.1, *lost]), drawn=Drawn("slide", slides))] for auc in (0.5, 0.7)
    )
    records = summarise({"full": full, "levels_5": other})
    assert [records[1][name] for name in ("auc_low", "auc_high", "difference_low", "sign")] == [
        None,
        None,
        None,
        "open",
    ]
    write_table(tmp_path, records, left_out={}, title="What was run.", unit="slide")
    text = " ".join((tmp_path / "ablations.md").read_text().split())
    assert "| 0.700 (no interval) |" in text and "| +0.200 (no interval) |" in text
    assert "No interval: fewer than 10 slides, or the AUC is undefined in more than 1% of the resamples" in text
