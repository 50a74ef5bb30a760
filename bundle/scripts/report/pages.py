"""The pages: what a template is filled with, and the files that come out."""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.curves import rank_correlation
from ..evaluation.metrics import METRICS
from . import figures, tables, words
from .performance import Performance
from .pictures import Picture, colour_stops
from .remarks import remarks_on
from .results import Inference, SlideResult

FEWEST_POINTS = 3
"""Slides that a correlation needs."""

TEMPLATES = Path(__file__).parent / "templates"
METRIC_NAMES = {
    "auc": "AUC",
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall (sensitivity)",
    "f1": "F1",
    "specificity": "Specificity",
    "brier": "Brier score (0 is best)",
    "ece": "Calibration error (0 is best)",
}


class Median(NamedTuple):
    """A median, and of how many slides it is."""

    value: float
    slides: int


@dataclass(frozen=True)
class Report:
    """All that the pages are about.

    Attributes:
        inference: the run.
        performances: what labelled slides tell, the most trustworthy first; may be empty.
        notes: what a reader of the cohort should know first.
        seed: of the bootstrap of correlations.
    """

    inference: Inference
    performances: tuple[Performance, ...]
    notes: tuple[str, ...] = ()
    seed: int = 0

    @cached_property
    def median_stream(self) -> Median | None:
        """The median stream score, beside which that of one slide is shown; None with fewer slides than two."""
        scores = [slide.prediction.stream_score for slide in self.inference.counted]
        known = [score for score in scores if score is not None]
        return Median(median(known), len(known)) if len(known) > 1 else None


def slide_page(report: Report, slide: SlideResult, picture: Picture | None) -> str:
    """Return the page of one slide."""
    scores = sorted(slide.scores["channel_scores"]) if slide.scores else []
    return (
        templates()
        .get_template("slide.html")
        .render(
            **_common(report),
            slide=slide,
            picture=picture,
            remarks=remarks_on(slide, report.inference),
            bin=words.bin_of(slide, report.performances[0] if report.performances else None),
            quality=words.quality(slide),
            channel_scores=scores,
            channel_plot=figures.channel_score_plot(scores) if scores and scores[0] < scores[-1] else None,
            median_stream=report.median_stream,
        )
    )


def cohort_page(report: Report, pictures: Sequence[Picture | None]) -> str:
    """Return the page of all slides; ``pictures`` are in the order of the slides."""
    inference = report.inference
    rows = [
        {"slide": slide, "picture": picture, "remarks": remarks_on(slide, inference)}
        for slide, picture in zip(inference.slides, pictures, strict=True)
    ]
    return (
        templates()
        .get_template("cohort.html")
        .render(
            **_common(report),
            rows=rows,
            others=inference.others,
            notes=report.notes,
            called=[sum(slide.predicted == index for slide in inference.slides) for index in _classes(inference)],
            labelled=any(
                slide.prediction.label is not None or slide.prediction.other_label for slide in inference.slides
            ),
            plots={performance.name: _plots(performance) for performance in report.performances},
            streams=_streams(report),
        )
    )


def frame() -> dict[str, object]:
    """What ``base.html`` is filled with: style and script, and the script's hash."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    style = Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))
    return {"script": Markup(script), "script_sha256": digest, "style": style}


def _common(report: Report) -> dict[str, object]:
    inference = report.inference
    heat_map = words.heat_map(inference)
    return {
        **frame(),
        "card": words.model_card(inference),
        "class_names": [words.class_label(name) for name in inference.class_names],
        "colour_stops": colour_stops(),
        "heat_map": heat_map,
        "inference": inference,
        "limits": words.limits(heat_map),
        "metric_names": {name: METRIC_NAMES[name] for name in METRICS},
        "performances": report.performances,
        "settings": inference.run["settings"],
        "threshold_source": words.threshold_source(inference),
        "two_classes": len(inference.class_names) == 2,
    }


def _plots(performance: Performance) -> dict[str, object]:
    plots: dict[str, object] = {
        "calibration": figures.calibration_plot(performance),
        "calibration_table": tables.calibration_table(performance),
    }
    if performance.curves:
        plots["roc"] = figures.roc_plot(performance)
        plots["roc_table"] = tables.roc_table(performance)
        plots["precision_recall"] = figures.precision_recall_plot(performance)
        plots["precision_recall_table"] = tables.precision_recall_table(performance)
    scores = _by_class(
        [words.class_label(name) for name in performance.class_names],
        [(one.label, one.stream_score) for one in performance.predictions if one.stream_score is not None],
    )
    if any(values for _, values in scores):
        plots["streams"] = figures.stream_score_plot(scores, name=performance.name)
        plots["stream_table"] = tables.stream_table(scores)
    return plots


def _streams(report: Report) -> dict[str, object] | None:
    """Fig. 9 of the cohort: tissue area against stream score; None with too few slides whose area is known."""
    inference = report.inference
    points = [
        (slide, slide.area_mm2, slide.prediction.stream_score)
        for slide in inference.counted
        if slide.area_mm2 and slide.prediction.stream_score is not None
    ]
    if len(points) < FEWEST_POINTS:
        return None
    labelled = all(slide.prediction.label is not None for slide, _, _ in points)
    names = [words.class_label(name) for name in inference.class_names]
    groups = _by_class(
        names,
        [(slide.prediction.label if labelled else slide.predicted, (area, score)) for slide, area, score in points],
    )
    return {
        "plot": figures.area_plot(groups, name="cohort"),
        "labelled": labelled,
        "slides": len(points),
        "correlations": {
            name: rank_correlation(
                [slide.tissue[area] for slide, _, _ in points],
                [score for _, _, score in points],
                patients=[slide.patient for slide, _, _ in points],
                seed=report.seed,
            )
            for area, name in (("area_mm2", "tissue area"), ("box_mm2", "area of the tissue's box"))
        },
    }


def _by_class(names: Sequence[str], pairs: Sequence[tuple[int | None, Any]]) -> list[tuple[str, list[Any]]]:
    return [(name, [value for label, value in pairs if label == index]) for index, name in enumerate(names)]


def _classes(inference: Inference) -> range:
    return range(len(inference.class_names))


@cache
def templates() -> Environment:
    """Of the pages, with the words of :mod:`.words` as filters."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        label=words.class_label,
        number=words.number,
        interval=words.interval,
        with_interval=words.with_interval,
        percent=words.percent,
        count=words.count,
        code=words.code,
    )
    return environment
