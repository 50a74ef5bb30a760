"""The report's plots, as SVG inside the page."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from ..common.figure_words import shortened
from ..evaluation.curves import MeanRoc
from .performance import Performance
from .svg import CLASSES, INK, MUTED, SERIES, inline_svg, page_style
from .words import class_label

SQUARE_IN = (3.7, 3.5)
WIDE_IN = (4.2, 3.3)
TALL_IN = (5.6, 6.4)
DASHES = ("-", "--", "-.", ":")
MARKERS = "os^Dvp"
SCORE_BINS = np.linspace(0, 1, 21)
BAND_OPACITY = 0.18
_DECADE = 10.0


def roc_plot(performance: Performance) -> Markup:
    """ROC curve of class 1 with its pointwise band; of more than two classes one curve per class, without bands."""
    with page_style():
        figure, axes = _figure(SQUARE_IN)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for index, (class_name, curves) in enumerate(performance.curves):
            colour = _colour(index if len(performance.curves) > 1 else 1)
            if len(performance.curves) == 1 and curves.band is not None:
                axes.fill_between(curves.band_at, *curves.band, color=colour, alpha=BAND_OPACITY, linewidth=0)
            axes.plot(
                curves.false_positive_rate,
                curves.recall,
                color=colour,
                linewidth=1.8,
                linestyle=_dashes(index),
                label=_shown(class_label(class_name)),
            )
        _unit_square(axes, "false positive rate (1 - specificity)", "recall (sensitivity)")
        _legend(axes, len(performance.curves), loc="lower right")
        return inline_svg(figure, name=f"{performance.name}-roc", title="ROC curve")


def mean_roc_plot(curves: Mapping[str, MeanRoc]) -> Markup:
    """Mean ROC curves of several methods, each with its band; lines after the first `CLASSES` are dashed."""
    with page_style():
        figure, axes = _figure(TALL_IN)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for index, (name, curve) in enumerate(curves.items()):
            if curve.band is not None:
                axes.fill_between(curve.at, *curve.band, color=_colour(index), alpha=BAND_OPACITY / 3, linewidth=0)
            axes.plot(
                curve.at,
                curve.recall,
                color=_colour(index),
                linewidth=1.6,
                linestyle=_dashes(index),
                label=_shown(name),
            )
        _unit_square(axes, "false positive rate", "recall")
        if curves:
            figure.legend(loc="outside lower center", ncols=3, handlelength=2.4)
        return inline_svg(figure, name="methods-roc", title="ROC curves of the methods")


def precision_recall_plot(performance: Performance) -> Markup:
    """Precision against recall, and the share of the class among the slides, which is the precision of calling all."""
    labels = np.array([prediction.label for prediction in performance.predictions])
    with page_style():
        figure, axes = _figure(SQUARE_IN)
        for index, (class_name, curves) in enumerate(performance.curves):
            colour = _colour(index if len(performance.curves) > 1 else 1)
            prevalence = float((labels == performance.class_names.index(class_name)).mean())
            axes.axhline(prevalence, color=colour, linewidth=0.8, linestyle=(0, (3, 3)))
            axes.plot(
                curves.recall[1:],
                curves.precision,
                color=colour,
                linewidth=1.8,
                linestyle=_dashes(index),
                label=_shown(class_label(class_name)),
            )
        _unit_square(axes, "recall (sensitivity)", "precision")
        _legend(axes, len(performance.curves), loc="lower left")
        return inline_svg(figure, name=f"{performance.name}-pr", title="Precision-recall curve")


def calibration_plot(performance: Performance) -> Markup:
    """Reliability diagram: the observed share in each bin of the probability with Wilson's interval, and slides per bin below."""
    two_classes = len(performance.class_names) == 2
    bins = [one for one in performance.bins if one.slides]
    with page_style():
        figure = Figure(figsize=(SQUARE_IN[0], SQUARE_IN[1] + 0.6), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        above.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)))
        for one in bins:
            above.vlines(
                [one.mean_probability], *([end] for end in one.ci95 or (0, 1)), color=_colour(1), linewidth=1.4
            )
        means, observed = [one.mean_probability for one in bins], [one.observed for one in bins]
        above.plot(means, observed, "o", color=_colour(1), markersize=5.5, clip_on=False, zorder=3)
        above.set(xlim=(0, 1), ylim=(0, 1))
        above.set_ylabel(
            f"share that was {_shown(class_label(performance.class_names[1]))}"
            if two_classes
            else "share that was right"
        )
        centres = [(one.low + one.high) / 2 for one in bins]
        bars = below.bar(centres, [one.slides for one in bins], width=0.08, color=MUTED)
        below.bar_label(bars, fontsize=8, color=INK)
        below.set(yticks=[], ylabel="slides")
        below.margins(y=0.45)
        below.grid(False)
        below.set_xlabel(
            f"probability of {_shown(class_label(performance.class_names[1]))}"
            if two_classes
            else "highest probability"
        )
        return inline_svg(figure, name=f"{performance.name}-calibration", title="Calibration plot")


def stream_score_plot(groups: Sequence[tuple[str, Sequence[float]]], *, name: str) -> Markup:
    """Histogram of the stream scores by class (Fig. 8), with the median of each."""
    with page_style():
        figure, axes = _figure(WIDE_IN)
        filled = [(index, label, scores) for index, (label, scores) in enumerate(groups) if len(scores)]
        axes.hist(
            [scores for _, _, scores in filled],
            bins=SCORE_BINS.tolist(),
            color=[_colour(index) for index, _, _ in filled],
            label=[_shown(label) for _, label, _ in filled],
            rwidth=0.9,
        )
        for index, _, scores in filled:
            axes.axvline(float(np.median(scores)), color=_colour(index), linewidth=1.4, linestyle=(0, (4, 2)))
        axes.set(xlim=(0, 1))
        axes.set_xlabel("stream score: 0 thumbnail alone, 1 patches alone")
        axes.set_ylabel("slides")
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(axis="x", visible=False)
        _legend(axes, len(groups), loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.14))
        return inline_svg(figure, name=f"{name}-streams", title="Histogram of the stream scores by class")


def area_plot(groups: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, name: str) -> Markup:
    """Tissue area against stream score (Fig. 9), one point per slide, a group (class, its (area in mm2, score) pairs) a marker."""
    with page_style():
        figure, axes = _figure(WIDE_IN)
        for index, (label, pairs) in enumerate(groups):
            if pairs:
                axes.plot(
                    *np.array(pairs).T,
                    MARKERS[(index + index // CLASSES) % len(MARKERS)],
                    color=_colour(index),
                    markersize=5,
                    alpha=0.85,
                    markeredgewidth=0,
                    label=_shown(label),
                )
        areas = [area for _, pairs in groups for area, _ in pairs]
        if max(areas) > _DECADE * min(areas):
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(ylim=(0, 1))
        axes.set_xlabel("tissue area (mm²)")
        axes.set_ylabel("stream score")
        _legend(axes, len(groups), loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.14))
        return inline_svg(figure, name=f"{name}-areas", title="Tissue area against stream score")


def channel_score_plot(scores: ArrayLike) -> Markup:
    """Histogram of the channel scores of one slide: one shape and a fixed layout, since every slide's page draws it."""
    with page_style():
        figure, axes = _figure((4.6, 2.3), layout=None)
        figure.subplots_adjust(left=0.12, right=0.98, bottom=0.22, top=0.96)
        axes.stairs(*np.histogram(scores, bins=np.linspace(0, 1, 41)), fill=True, color=_colour(0))
        axes.set(xlim=(0, 1))
        axes.set_xlabel("channel score: how much of a feature map passes")
        axes.set_ylabel("channels")
        axes.grid(axis="x", visible=False)
        return inline_svg(figure, name="channels", title="Histogram of the channel scores")


def _shown(label: str) -> str:
    """A class's label as Matplotlib is given it: short, and not begun by an underscore, which would keep it out of a legend."""
    label = shortened(label, most=24)
    return f"\N{ZERO WIDTH SPACE}{label}" if label.startswith("_") else label


def _figure(size_in: tuple[float, float], layout: Literal["constrained"] | None = "constrained") -> tuple[Figure, Axes]:
    figure = Figure(figsize=size_in, layout=layout)
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    return figure, axes


def _unit_square(axes: Axes, x: str, y: str) -> None:
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _legend(axes: Axes, entries: int, **place: Any) -> None:
    if entries > 1:
        axes.legend(handlelength=1.2 if entries <= CLASSES else 2.4, columnspacing=1.2, **place)


def _colour(index: int) -> str:
    return SERIES[index % CLASSES]


def _dashes(index: int) -> str:
    """Style of a line, solid for the first `CLASSES`: those that take a colour again differ by it."""
    return DASHES[index // CLASSES % len(DASHES)]
