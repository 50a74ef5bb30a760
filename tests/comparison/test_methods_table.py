import csv
from pathlib import Path

import numpy as np
import pytest

from scripts.comparison.cost import Cost
from scripts.comparison.methods import METHODS
from scripts.comparison.methods_summary import COLUMNS, record_of
from scripts.comparison.methods_table import MethodsTable, write_methods, write_page
from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.evaluation.curves import curves, mean_roc
from scripts.studies.outcomes import EvaluatedSlides, Outcome
from scripts.studies.runs import Spent
from scripts.training.model_card import ModelCard

LABELS = np.arange(40) % 2
SLIDES = EvaluatedSlides(LABELS, (None,) * 40, tuple(map(str, range(40))))
COST = Cost(parameters=1234, gflop=0.5)
CARD = ModelCard(
    class_names=("0", "1"),
    threshold=0.5,
    threshold_from="val",
    encoder=None,
    network={},
    validation={"auc": {"value": 0.9}},
)


def outcome(seed: int, noise: float) -> Outcome:
    p = np.clip(0.5 + 0.2 * (LABELS - 0.5) + np.random.default_rng(seed).normal(0, noise, 40), 0, 1)
    run = Run(np.stack([1 - p, p], axis=1), 0.5)
    return Outcome(seed, run, resampled_metrics(LABELS, [run], resamples=1), CARD)


def spent(runs: int) -> list[Spent]:
    return [Spent(10.0 + seed, 1.0, 500.0) for seed in range(runs)]


def test_methods_are_dsnet_and_the_overlays() -> None:
    assert list(METHODS)[:2] == ["dsnet", "recommended"] and len(METHODS) > 10
    assert METHODS["dsmil"].title == "DSMIL (Li et al. 2021)"
    assert METHODS["naive"].needs_thumbnail and not METHODS["dsmil"].needs_thumbnail
    assert not METHODS["dsnet"].needs_thumbnail
    assert [name for name, method in METHODS.items() if method.needs_masks] == ["wang", "wang_raw"]
    on_raw = [name for name, method in METHODS.items() if method.needs_raw_patches]
    assert on_raw == ["chen_raw", "hou_raw", "wang_raw"]
    assert METHODS["chen_raw"].title.endswith(": on raw patches")
    assert [Path(file).name for file in METHODS["recommended"].files] == ["train.yaml", "recommended.yaml"]


def test_figures_of_a_method() -> None:
    good, bad = [outcome(seed, 0.05) for seed in range(3)], [outcome(seed, 0.4) for seed in range(4)]
    record = record_of(bad, SLIDES, COST, spent(4), against=good, resamples=200)
    each = [resampled_metrics(LABELS, [one.run], resamples=1).values for one in bad]
    assert record["auc"] == pytest.approx(np.mean([values["auc"] for values in each]))
    balanced = np.mean([(values["recall"] + values["specificity"]) / 2 for values in each])
    assert record["balanced_accuracy"] == pytest.approx(balanced)
    assert record["auc_low"] < record["auc"] < record["auc_high"]
    differences = [
        each[seed]["auc"] - resampled_metrics(LABELS, [good[seed].run], resamples=1).values["auc"] for seed in range(3)
    ]
    assert record["difference"] == pytest.approx(np.mean(differences))
    assert record["difference_t_low"] < record["difference"] < record["difference_t_high"] < 0
    assert (record["difference_t_low"] + record["difference_t_high"]) / 2 == pytest.approx(np.mean(differences))
    assert record["difference_high"] < 0 and record["difference_p"] < 0.05
    assert (record["training_s"], record["runs"], record["parameters"]) == (11.5, 4, 1234)


def test_one_training_has_no_deviation() -> None:
    record = record_of([outcome(0, 0.1)], SLIDES, COST, spent(1), against=[outcome(1, 0.1)], resamples=50)
    assert record["sd_over_seeds"] is None and "difference" not in record  # no seed in common


def test_the_page(tmp_path: Path) -> None:
    found = record_of([outcome(0, 0.1), outcome(1, 0.1)], SLIDES, COST, spent(2), resamples=50)
    said = {"method": "dsnet", "title": "DSNet", "paper_camelyon16": 0.76}
    record = {column: (said | found).get(column) for column in COLUMNS}
    table = MethodsTable("Dataset: x.", [record], {"naive": "no <T>: encode with `encode.yaml`"}, "slide", "dsnet")
    text = write_methods(tmp_path, table)
    assert (
        "| `dsnet`: DSNet | 2 |" in text
        and "- `naive`: no <T>: encode with `encode.yaml`" in text
        and "| 0.760, - |" in text
    )
    with open(tmp_path / "methods.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["auc"]) == pytest.approx(found["auc"]) and row["difference"] == ""
    scores = [np.asarray(outcome(seed, 0.1).run.probabilities)[:, 1] for seed in range(2)]
    curve = mean_roc(LABELS, scores, resamples=50)
    assert curve is not None
    write_page(tmp_path, table, {f"method{index}": curve for index in range(7)})
    page = (tmp_path / "methods.html").read_text()
    for cell in ('<th scope="row">dsnet</th>', f"{found['auc']:.3f} (", "0.760, -", "no &lt;T&gt;", "method6", "<svg",
        "<code>encode.yaml</code>", "or with 0.5 where no threshold parted those",
        "AUC less that of <code>dsnet</code>, training"):  # fmt: skip
        assert cell in page, cell
    assert "`" not in page[page.index("<body") :].partition("<script")[0]
    assert "default-src 'none'" in page and 'src="roc' not in page
    write_page(tmp_path, table, {})
    assert "<svg" not in (tmp_path / "methods.html").read_text()
    for told in (text, page):
        assert "over bootstrap resamples of slides\nalone: the trainings stay the same" in told
        assert "each of slides and of the trainings, so that it holds the uncertainty of both. Difference" in told


def test_intervals_of_one_training_hold_that_of_the_slides_alone() -> None:
    once, twice = (MethodsTable("x", [{"runs": 1}, {"runs": runs}], {}, "slide", "dsnet") for runs in (1, 2))
    assert "each of slides. Difference" in once.notes and "of both" not in once.notes
    assert "resamples of slides. Numbers" in once.of_curves
    assert "of both" in twice.notes and "unlike those" in twice.of_curves


def test_the_mean_curve_of_one_network_is_its_own() -> None:
    scores = np.asarray(outcome(0, 0.2).run.probabilities)[:, 1]
    mean, own = mean_roc(LABELS, [scores], resamples=100), curves(LABELS, scores, resamples=100)
    assert mean is not None and own is not None and mean.band is not None and own.band is not None
    np.testing.assert_allclose(mean.recall, np.interp(mean.at, own.false_positive_rate, own.recall))
    for found, expected in zip(mean.band, own.band, strict=True):
        np.testing.assert_allclose(found, expected)
    twice = mean_roc(LABELS, [scores, scores], resamples=100)
    assert twice is not None
    np.testing.assert_allclose(twice.recall, mean.recall)
    assert mean_roc(np.ones(40), [scores]) is None


def test_the_mean_curve_has_no_band_where_the_auc_has_no_interval() -> None:
    """Three positive slides of twenty: one resample in thirty has none of them."""
    labels = np.arange(20) < 3
    scores = np.linspace(1, 0, 20)
    curve, one = mean_roc(labels, [scores]), curves(labels, scores)
    assert curve is not None and curve.band is None and one is not None and one.band is None
