import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.common.errors import RequestError
from scripts.evaluation.bootstrap import Run, resampled_metrics
from scripts.evaluation.compare import compare, compare_files
from scripts.evaluation.delong import delong
from scripts.evaluation.metrics import METRICS
from scripts.evaluation.predictions import Prediction, write_predictions


def compared(*arguments: Any, **options: Any) -> dict[str, Any]:
    return compare(*arguments, **options).to_json()


def files_compared(*arguments: Any, **options: Any) -> dict[str, Any]:
    return compare_files(*arguments, **options).to_json()


def two_classes(score: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-score))
    return np.stack([1 - p, p], axis=1)


def scored(count: int, seed: int, gain: float = 0.0) -> tuple[np.ndarray, Run, Run]:
    """Labels and two correlated runs; ``gain`` widens the gap between the classes in the second."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    common = labels + rng.normal(size=count)
    first = common + rng.normal(size=count)
    second = common + gain * labels + rng.normal(size=count)
    return labels, Run(two_classes(first), 0.5), Run(two_classes(second), 0.5)


def p_of(run: Run) -> np.ndarray:
    return np.asarray(run.probabilities)[:, 1]


def write(path: Path, labels: np.ndarray, run: Run, names: tuple[str, ...] = ("0", "1"), order: int = 1) -> Path:
    rows = [
        Prediction(f"s{index}", int(label), tuple(map(float, p)), None)
        for index, (label, p) in enumerate(zip(labels, np.asarray(run.probabilities), strict=True))
    ]
    write_predictions(path, rows[::order], class_names=names, threshold=run.threshold)  # type: ignore[arg-type]
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    labels, first, second = scored(60, 0, gain=2.0)
    return write(tmp_path / "a.csv", labels, first), write(tmp_path / "b.csv", labels, second)


def test_a_resample_serves_both() -> None:
    """The same run twice differs by exactly nothing; two that share most of their noise by less than either varies."""
    labels, first, second = scored(80, 1)
    same = compared(labels, [first], [first])
    for name in METRICS:
        assert same[name]["difference"] == {"value": 0.0, "ci95": [0.0, 0.0], "p": 1.0}
    found = compared(labels, [first], [second])["auc"]
    width = {name: np.ptp(found[name]["ci95"]) for name in ("first", "second", "difference")}
    assert width["difference"] < np.hypot(width["first"], width["second"])
    assert found["difference"]["value"] == pytest.approx(
        roc_auc_score(labels, p_of(second)) - roc_auc_score(labels, p_of(first))
    )


def test_ties_count_on_both_sides() -> None:
    """Three runs of either method are wrong on a few slides each: in many resamples their means differ by rounding alone."""
    rng = np.random.default_rng(5)
    labels = np.arange(20) % 2

    def wrong_on(*slides: int) -> Run:
        p = np.where(labels == 1, 0.9, 0.1)
        p[list(slides)] = 1 - p[list(slides)]
        return Run(np.stack([1 - p, p], axis=1), 0.5)

    first, second = (
        [wrong_on(*rng.choice(20, many, replace=False)) for many in rng.integers(1, 6, 3)] for _ in range(2)
    )
    spread = np.subtract(*(resampled_metrics(labels, runs).spread["accuracy"] for runs in (second, first)))
    by_rounding = (spread != 0) & (np.abs(spread) < 1e-12)
    assert by_rounding.any()
    exact = spread.round(9)
    tail = min((exact <= 0).sum(), (exact >= 0).sum())
    expected = min(1.0, 2 * (tail + 1) / (len(exact) + 1))
    assert compared(labels, first, second)["accuracy"]["difference"]["p"] == expected


def test_interval_agrees_with_delong() -> None:
    """One slide per patient, many slides: two methods of which neither knows the other."""
    labels, first, second = scored(600, 2, gain=0.5)
    boot, exact = compared(labels, [first], [second])["auc"]["difference"], delong(labels, p_of(first), p_of(second))
    assert exact is not None
    assert boot["ci95"] == pytest.approx(exact.ci95, abs=0.006)


def test_the_interval_covers() -> None:
    """Of 200 experiments the interval holds the true difference, 0, in about 95 %."""
    inside = 0
    for seed in range(200):
        low, high = compared(*((x := scored(80, seed))[0], [x[1]], [x[2]]), resamples=200)["auc"]["difference"]["ci95"]
        inside += low <= 0 <= high
    assert 0.90 <= inside / 200 <= 0.985


def test_copies_of_a_slide_do_not_narrow_the_interval() -> None:
    labels, first, second = scored(60, 3)
    copies = np.repeat(np.arange(60), 3)
    patients = [f"p{index}" for index in copies]
    many = [Run(np.asarray(run.probabilities)[copies], 0.5) for run in (first, second)]
    single = compared(labels, [first], [second])["auc"]["difference"]["ci95"]
    together = compared(labels[copies], many[:1], many[1:], patients=patients)
    assert together["auc"]["difference"]["ci95"] == pytest.approx(single)
    assert together["bootstrap"]["unit"] == "patient"
    apart = compared(labels[copies], many[:1], many[1:])["auc"]["difference"]["ci95"]
    assert np.ptp(apart) < 0.7 * np.ptp(single)


def test_more_seeds() -> None:
    """The value is the mean over seeds; the spread of the seeds widens the interval, and their number narrows it."""
    labels, base, other = scored(100, 4)
    rng = np.random.default_rng(0)

    def seeds(spread: float, count: int) -> list[Run]:
        logits = np.log(p_of(other) / (1 - p_of(other)))
        return [Run(two_classes(logits + spread * rng.normal() * (2 * labels - 1)), 0.5) for _ in range(count)]

    steady, varied = seeds(0.0, 5), seeds(1.0, 5)
    widths = {}
    for name, runs in (("steady", steady), ("varied", varied)):
        found = resampled_metrics(labels, runs)
        assert found.values["auc"] == pytest.approx(np.mean([roc_auc_score(labels, p_of(run)) for run in runs]))
        widths[name] = np.ptp(np.percentile(found.spread["auc"], (2.5, 97.5)))
    one = resampled_metrics(labels, [other])
    assert widths["steady"] == pytest.approx(np.ptp(np.percentile(one.spread["auc"], (2.5, 97.5))))
    assert widths["varied"] > 1.2 * widths["steady"]
    difference = compared(labels, [base] * 5, varied)["auc"]
    assert difference["second"]["value"] == pytest.approx(np.mean([roc_auc_score(labels, p_of(run)) for run in varied]))


def test_more_than_two_classes() -> None:
    labels = np.arange(90) % 3
    rng = np.random.default_rng(0)
    runs = []
    for strength in (0.5, 2.0):
        logits = strength * np.eye(3)[labels] + rng.normal(size=(90, 3))
        runs.append(Run(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), None))
    found = compared(labels, runs[:1], runs[1:])["auc"]
    for name, run in zip(("first", "second"), runs, strict=True):
        assert found[name]["value"] == pytest.approx(roc_auc_score(labels, run.probabilities, multi_class="ovr"))
    assert found["difference"]["ci95"][0] > 0 and found["difference"]["p"] < 0.05


def test_files(pair: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = pair
    report = files_compared(first, second, tmp_path / "out", seed=3)
    assert json.loads(json.dumps(report)) == json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (report["slides"], report["patients"], report["seed"]) == (60, None, 3)
    assert report["bootstrap"]["unit"] == "slide"
    assert report["delong"]["difference"] == pytest.approx(report["auc"]["difference"]["value"])
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| auc |" in text and "DeLong's test" in text and "over slides, 2000 resamples, seed 3" in text


def test_sure_slides_that_are_1_after_rounding_keep_their_order(tmp_path: Path) -> None:
    """All of class 1 are called surely, in an order that the probability of class 0 alone tells."""
    labels, p0 = np.arange(40) % 2, 10.0 ** -np.arange(20, 60)
    sure, turned = Run(np.stack([p0, 1 - p0], axis=1), 0.5), Run(np.stack([p0, 1 - p0], axis=1)[::-1], 0.5)
    paths = [write(tmp_path / f"{name}.csv", labels, run) for name, run in (("a", sure), ("b", turned))]
    report = files_compared(*paths, tmp_path / "out")
    for which, run in (("first", sure), ("second", turned)):
        expected = roc_auc_score(labels, -np.log(np.asarray(run.probabilities)[:, 0]))
        assert [report["auc"][which]["value"], report["delong"][which]] == pytest.approx([expected, expected])


def test_order_of_the_rows_does_not_matter(pair: tuple[Path, Path], tmp_path: Path) -> None:
    labels, _, second = scored(60, 0, gain=2.0)
    turned = write(tmp_path / "turned.csv", labels, second, order=-1)
    one, other = (files_compared(pair[0], path, tmp_path / path.stem) for path in (pair[1], turned))
    assert one["auc"] == other["auc"]


def test_patients_come_from_a_table(pair: tuple[Path, Path], tmp_path: Path) -> None:
    table = tmp_path / "slides.csv"
    table.write_text("slide,patient\n" + "".join(f"s{index}.tif,p{index // 3}\n" for index in range(60)))
    report = files_compared(*pair, tmp_path / "out", slides=table)
    assert (report["patients"], report["bootstrap"]["unit"]) == (20, "patient")
    table.write_text("slide,patient\ns0.tif,p0\n")
    with pytest.raises(
        RequestError, match=r"slides\.csv: does not list 59 of the 60 predicted slides \(the first is s1\)"
    ):
        files_compared(*pair, tmp_path / "other", slides=table)


def test_a_file_a_seed(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = files_compared([pair[0], pair[0]], list(pair), tmp_path)
    assert report["delong"] is None
    assert report["second_files"] == [str(path) for path in pair]
    assert "over 2 and 2 runs" in (tmp_path / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\ns7,", "\nx7,", r"a\.csv: lacks 1 slides that the other file has \(the first is x7\)"),
        ("\ns8,0", "\ns8,1", r"b\.csv: slide s8 has the label 1, in .*a\.csv 0"),
        ("\ns8,0", "\ns8,", r"b\.csv: slide s8 has the label none, in .*a\.csv 0"),
        ("p_0,p_1", "p_1,p_0", r"b\.csv: classes 1, 0, but .*a\.csv has 0, 1"),
    ],
)
def test_other_slides_are_refused(pair: tuple[Path, Path], tmp_path: Path, old: str, new: str, message: str) -> None:
    first, second = pair
    text = second.read_text()
    assert text.count(old) == 1
    second.write_text(text.replace(old, new))
    with pytest.raises(RequestError, match=message):
        files_compared(first, second, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_to_compare(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="nothing to compare"):
        files_compared([], pair[1], tmp_path)


def test_few_slides_are_compared_without_intervals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    labels, first, second = scored(8, 0)
    paths = [write(tmp_path / f"{name}.csv", labels, run) for name, run in (("a", first), ("b", second))]
    report = files_compared(*paths, tmp_path / "out")
    assert report["auc"]["difference"]["ci95"] == [None, None] and report["auc"]["difference"]["p"] is None
    assert report["delong"] is None
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "(no interval) | undefined |" in text and "(8 slides, expected 10 or more)." in text
    assert "(no interval: 8 slides, expected 10 or more)" in caplog.text


def test_the_resamples_that_are_used_stand_beside_each_metric(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = files_compared(*pair, tmp_path / "out")
    assert report["bootstrap"]["used"]["accuracy"] == 2000
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert "| p | resamples |" in text and text.count("| 2,000 |") == 8
