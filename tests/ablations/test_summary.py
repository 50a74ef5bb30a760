"""The table's arithmetic against figures computed by hand."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.ablations.summary import COLUMNS, records_of, write_ablations
from scripts.dsnet.network import DSNet
from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.studies.outcomes import Outcome
from scripts.training.model_card import ModelCard


def outcome(dataset: int, seed: int, auc: float, resampled: list[float], *, slides: int = 40) -> Outcome:
    card = ModelCard(
        class_names=("0", "1"),
        threshold=0.5,
        threshold_from="val",
        encoder=None,
        network=DSNet().arguments,
        validation={"auc": {"value": auc + 0.01}},
    )
    run = Run(np.full((slides, 2), 0.5), 0.5)
    alone = resampled_metrics(np.arange(slides) % 2, [run], resamples=1)
    alone = replace(alone, values={"auc": auc}, spread={"auc": np.array(resampled)})
    return Outcome(seed, run, alone, card, dataset)


def test_two_datasets_and_two_seeds_by_hand() -> None:
    results = {
        "full": [
            outcome(0, 0, 0.9, [0.9, 0.8, 0.85]),
            outcome(0, 1, 0.8, [0.8, 0.8, 0.9]),
            outcome(1, 0, 0.7, [0.7, 0.6, 0.7]),
            outcome(1, 1, 0.5, [0.6, 0.4, 0.5]),
        ],
        "no_thumbnail": [
            outcome(0, 0, 0.8, [0.7, 0.7, 0.75]),
            outcome(0, 1, 0.7, [0.7, 0.7, 0.7]),
            outcome(1, 0, 0.6, [0.6, 0.5, 0.6]),
            outcome(1, 1, 0.6, [0.5, 0.3, 0.5]),
        ],
    }
    full, row = records_of(results)
    assert (full["row"], full["runs"], full["auc"]) == ("full", 4, pytest.approx(0.725))
    # resamples of the mean: 0.75, 0.65, 0.7375
    assert (full["auc_low"], full["auc_high"]) == (pytest.approx(0.654375), pytest.approx(0.749375))
    # within dataset 0: 0.05^2 twice, within dataset 1: 0.1^2 twice; two degrees of freedom
    assert full["sd_over_seeds"] == pytest.approx((0.025 / 2) ** 0.5)
    assert full["validation_auc"] == pytest.approx(0.735)
    assert (full["parameters"], full["compression_ratio"]) == (1_124_819, pytest.approx(229.5, abs=0.1))
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
    full = [outcome(0, 0, 0.5, [0.5, 0.5])]
    other = [outcome(0, 0, 0.5 + sum(shifts) / 2, [0.5 + shift for shift in shifts])]
    assert records_of({"full": full, "mixed": other})[1]["sign"] == sign


def test_pairs_that_are_missing() -> None:
    """A difference takes the seeds that both have; one seed has no deviation; without the full row there is no difference."""
    full = [outcome(0, 0, 0.5, [0.5, 0.5])]
    other = [outcome(0, 0, 0.6, [0.6, 0.7]), outcome(0, 1, 0.9, [0.9, 0.9])]
    both = records_of({"levels_1": other, "full": full})
    assert [record["row"] for record in both] == ["full", "levels_1"]
    assert both[0]["sd_over_seeds"] is None
    assert both[1]["difference"] == pytest.approx(0.1)
    assert both[1]["sd_of_difference"] is None
    assert records_of({"levels_1": other, "full": []})[0]["difference"] is None


def test_both_files(tmp_path: Path) -> None:
    full = [outcome(0, seed, 0.5, [0.5, 0.5]) for seed in (0, 1)]
    other = [outcome(0, seed, 0.25, [0.2, 0.3]) for seed in (0, 1)]
    records = records_of({"full": full, "levels_5": other})
    write_ablations(tmp_path, records, left_out={"mixed": "why not."}, title="What was run.", unit="slide")
    with open(tmp_path / "ablations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(COLUMNS)
    assert (rows[0]["difference"], rows[1]["difference"], rows[1]["paper_tcga_lusc"]) == ("", "-0.25", "")
    lines = (tmp_path / "ablations.md").read_text().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert "| IV | L = 5 | 2 | 0.250 (0.203 to 0.297) | 0.000 | -0.250 (-0.297 to -0.203) | 0.000 |" in table[-1]
    assert table[-1].endswith("| 1,124,819 | 229.5 | 0.737 (-0.023) |  | holds |")
    assert "- `mixed`: why not." in lines


def test_an_auc_that_cannot_be_had_is_none(tmp_path: Path) -> None:
    full, other = ([outcome(0, seed, auc, [auc]) for seed in (0, 1)] for auc in (np.nan, 0.7))
    records = records_of({"full": full, "levels_5": other})
    assert [records[0][name] for name in ("auc", "auc_low", "sd_over_seeds")] == [None] * 3
    assert [records[1][name] for name in ("auc", "difference", "sd_of_difference", "sign")] == [0.7, None, None, "open"]
    write_ablations(
        tmp_path, [{**record, "validation_auc": 0.5} for record in records], left_out={}, title="x", unit="slide"
    )
    for name in ("ablations.csv", "ablations.md"):
        assert "nan" not in (tmp_path / name).read_text()


@pytest.mark.parametrize(("lost", "slides"), [([np.nan], 40), ([], 9)])
def test_no_interval_of_few_slides_or_where_resamples_lack_a_class(
    lost: list[float], slides: int, tmp_path: Path
) -> None:
    full, other = ([outcome(0, 0, auc, [auc, auc + 0.1, *lost], slides=slides)] for auc in (0.5, 0.7))
    records = records_of({"full": full, "levels_5": other})
    assert [records[1][name] for name in ("auc_low", "auc_high", "difference_low", "sign")] == [
        None,
        None,
        None,
        "open",
    ]
    write_ablations(tmp_path, records, left_out={}, title="What was run.", unit="slide")
    text = " ".join((tmp_path / "ablations.md").read_text().split())
    assert "| 0.700 (no interval) |" in text and "| +0.200 (no interval) |" in text
    assert "No interval: fewer than 10 slides, or the AUC is undefined in more than 1% of the resamples" in text
