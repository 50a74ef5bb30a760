"""Files that an evaluation leaves: predictions, metrics, calibration with its plot, and a page that sums them up."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..common.figure_words import shortened
from ..common.files import atomic_path, write_json
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..common.ranks import is_first
from ..evaluation.bootstrap import Run, evaluate, resampled_metrics
from ..evaluation.calibration import calibrated_predictions, reliability
from ..evaluation.interval import ends_in_words, estimate, in_words, missing_in_words
from ..evaluation.metrics import METRICS
from ..evaluation.predictions import write_predictions
from ..evaluation.reliability import write_reliability_plot
from .evaluation import PredictionCollector
from .model_card import ModelCard

EVALUATION_FILES = ("predictions.csv", "metrics.json", "calibration.json", "reliability.png", "report.md")
"""In the order in which they are written."""

_LOGGER = logging.getLogger(__name__)


def write_evaluation(
    collector: PredictionCollector,
    card: ModelCard,
    output_dir: str | Path,
    *,
    split: str = "test",
    seed: int = 0,
    names: Names = AS_THEY_ARE,
) -> dict[str, Any]:
    """Write what the model of ``card`` says of the slides in ``collector``, and how good that is; of several processes one writes.

    ``predictions.csv`` and ``metrics.json`` are about the calibrated probabilities, whose scale the card's threshold is on;
    ``calibration.json`` and ``reliability.png`` compare them with those before calibration; ``report.md`` is a page to read.

    Args:
        collector: attached to an evaluator that has run.
        card: the model card, which holds the classes, and threshold and temperature from validation.
        output_dir: folder of the files.
        split: Which slides those are.
        seed: of the bootstrap.
        names: what slides are called in predictions.csv.

    Returns:
        the metrics.
    """
    if not is_first():
        return {}
    names.keep()
    output = Path(output_dir)
    temperature, threshold, classes = card.temperature, card.threshold, card.class_names
    labels, raw = collector.labels, collector.probabilities
    predictions = calibrated_predictions(collector.predictions, temperature)
    probabilities = [prediction.probabilities for prediction in predictions]
    told = [replace(one, slide_id=names.slide(one.slide_id)) for one in predictions]
    write_predictions(output / "predictions.csv", told, class_names=classes, threshold=threshold)
    metrics = evaluate(
        labels,
        probabilities,
        threshold=threshold,
        threshold_from=card.threshold_from,
        patients=collector.patients,
        seed=seed,
    )
    write_json(output / "metrics.json", metrics)
    before = resampled_metrics(labels, [Run(raw, threshold)], patients=collector.patients, seed=seed)
    bins = {"before": reliability(labels, raw), "after": reliability(labels, probabilities)}
    calibration: dict[str, Any] = {"split": split, "temperature": temperature, "fitted_on": card.temperature_from}
    for when in ("before", "after"):
        calibration[when] = {"bins": [asdict(one) for one in bins[when]]}
    for name in ("brier", "ece"):
        calibration["before"][name] = estimate(before.values[name], before.spread[name], before.drawn).as_json()
        calibration["after"][name] = metrics[name]
    write_json(output / "calibration.json", calibration)
    titles = {"before": "as trained", "after": f"temperature {temperature:.2f}"}
    write_reliability_plot(
        output / "reliability.png",
        [(title, bins[when]) for when, title in titles.items() if when == "before" or temperature != 1],
        probability=f"P({shortened(classes[1])})" if len(classes) == 2 else "highest probability",
        event=f"share of {shortened(classes[1])}" if len(classes) == 2 else "share of right ones",
    )
    _write_summary(output / "report.md", metrics, calibration, card, slides=len(predictions))
    _LOGGER.info("%s, %d slides of the split %s", _auc_in_words(metrics), len(predictions), split)
    return metrics


def _remark(split: str) -> list[str]:
    """What a reader must know of slides that the model has met; empty lines part paragraphs of Markdown."""
    if split == "test":
        return []
    met = "trained on" if split == "train" else "chosen on, with its threshold and temperature"
    return ["", f"These are slides that the model was {met}: the figures are no estimate for new slides."]


def _write_summary(
    path: Path, metrics: dict[str, Any], calibration: dict[str, Any], card: ModelCard, *, slides: int
) -> None:
    """Write the metrics and where the model comes from as one page of Markdown."""
    drawn = metrics["bootstrap"]
    missing = missing_in_words(drawn["no_interval"])
    rows = []
    for name in METRICS:
        value, ends = metrics[name]["value"], ends_in_words(metrics[name]["ci95"])
        figure = "undefined" if value is None else f"{value:.3f}"
        rows.append(f"| {name} | {figure} | {ends or 'none'} | {drawn['used'][name]:,} |")
    threshold = "highest probability" if card.threshold is None else f"P({card.class_names[1]}) >= {card.threshold:.3f}"
    lines = [
        "# Evaluation",
        "",
        f"{_auc_in_words(metrics)} on {slides} slides of the split {calibration['split']}; research only, not for diagnosis.",
        *_remark(calibration["split"]),
        "",
        "| metric | value | 95 % interval | resamples |",
        "|---|---|---|---|",
        *rows,
        "",
        f"Decision: {threshold}, chosen on the split {card.threshold_from!r}. Intervals: percentile bootstrap over "
        f"{drawn['unit']}s, {drawn['resamples']} resamples, seed {metrics['seed']}, of {drawn['units']} {drawn['unit']}s; the "
        "last column counts the resamples in which a metric is defined.",
        "",
        *([f"Without an interval: {missing}.", ""] if missing else []),
        f"Calibration: temperature {card.temperature:.3f} ({card.temperature_from or 'not fitted'}); "
        + "; ".join(
            f"{name} {calibration['before'][name]['value']:.3f} before, {calibration['after'][name]['value']:.3f} after"
            for name in ("brier", "ece")
        )
        + ".",
        "",
        "![Reliability diagram](reliability.png)",
        "",
        f"Weights sha256 `{card.weights_sha256 or 'unknown'}`; patch encoder `{card.encoder}`.",
        "",
    ]
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")


def _auc_in_words(metrics: dict[str, Any]) -> str:
    return f"AUC {in_words(metrics['auc'], metrics['bootstrap']['no_interval'].get('auc'))}"
