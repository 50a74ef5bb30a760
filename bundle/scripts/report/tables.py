"""What the plots show, in numbers: for those who do not see them, and for copying."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.curves import Curves
from .performance import Performance
from .words import class_label, interval, number

RATES = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class Table:
    """Head and rows of a table, all as text."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def roc_table(performance: Performance) -> Table:
    """Recall, with the band's ends, at false positive rates a tenth apart, for every class drawn."""
    rows = []
    for class_name, curves in performance.curves:
        recall = np.interp(RATES, curves.false_positive_rate, curves.recall)
        ends = ["none"] * len(RATES)
        if curves.band is not None:
            low, high = (np.interp(RATES, curves.band_at, end) for end in curves.band)
            ends = [interval(pair) for pair in zip(low, high, strict=True)]
        rows += [
            (class_label(class_name), number(rate, 1), number(value), of_rate)
            for rate, value, of_rate in zip(RATES, recall, ends, strict=True)
        ]
    return Table(("class", "false positive rate", "recall", "95 % interval"), tuple(rows))


def precision_recall_table(performance: Performance) -> Table:
    """Precision where the recall first reaches tenths, for every class drawn."""
    rows = [
        (class_label(class_name), number(rate, 1), number(_precision_at(curves, rate)))
        for class_name, curves in performance.curves
        for rate in RATES[1:]
    ]
    return Table(("class", "recall of at least", "precision"), tuple(rows))


def _precision_at(curves: Curves, recall: float) -> float:
    return float(curves.precision[int(np.argmax(curves.recall[1:] >= recall - 1e-9))])


def calibration_table(performance: Performance) -> Table:
    """Bins of the probability that hold a slide."""
    rows = tuple(
        (
            f"{one.low:.1f} to {one.high:.1f}",
            str(one.slides),
            number(one.mean_probability),
            number(one.observed),
            interval(one.ci95),
        )
        for one in performance.bins
        if one.slides
    )
    return Table(("probability", "slides", "mean probability", "share observed", "95 % interval"), rows)


def stream_table(groups: Sequence[tuple[str, Sequence[float]]]) -> Table:
    """Quartiles of the stream scores of each class."""
    rows = tuple(
        (name, str(len(scores)), *(number(float(end), 2) for end in np.percentile(scores, (0, 25, 50, 75, 100))))
        for name, scores in groups
        if len(scores)
    )
    return Table(("class", "slides", "least", "lower quartile", "median", "upper quartile", "most"), rows)
