"""Files that an evaluation leaves: ``predictions.csv``, ``metrics.json`` and ``report.md``."""

import logging
from pathlib import Path
from typing import Any

from ..common.files import atomic_path, write_json
from ..common.ranks import is_first
from ..evaluation.bootstrap import evaluate
from ..evaluation.metrics import METRICS
from ..evaluation.predictions import write_predictions
from .evaluation import PredictionCollector

_LOGGER = logging.getLogger(__name__)


def write_evaluation(
    collector: PredictionCollector, card: dict[str, Any], output_dir: str | Path, *, seed: int = 0
) -> dict[str, Any]:
    """Write the predictions that ``collector`` holds and their metrics; return the metrics (of several processes the first does).

    Args:
        collector: attached to an evaluator that has run.
        card: the model card, which holds the classes and the threshold from validation.
        output_dir: folder of both files.
        seed: of the bootstrap.
    """
    if not is_first():
        return {}
    output = Path(output_dir)
    predictions = collector.predictions
    threshold = card["threshold"]
    write_predictions(output / "predictions.csv", predictions, class_names=card["class_names"], threshold=threshold)
    metrics = evaluate(
        collector.labels,
        collector.probabilities,
        threshold=threshold,
        threshold_from=card["threshold_from"],
        patients=collector.patients,
        seed=seed,
    )
    write_json(output / "metrics.json", metrics)
    _write_summary(output / "report.md", metrics, card, slides=len(predictions))
    auc = metrics["auc"]
    if auc["value"] is not None:
        _LOGGER.info("AUC %.3f (95 %% interval %.3f to %.3f), %d slides", auc["value"], *auc["ci95"], len(predictions))
    return metrics


def _write_summary(path: Path, metrics: dict[str, Any], card: dict[str, Any], *, slides: int) -> None:
    """Write the metrics and where the model comes from as one page of Markdown."""
    rows = []
    for name in METRICS:
        value, (low, high) = metrics[name]["value"], metrics[name]["ci95"]
        rows.append(
            f"| {name} | undefined | |" if value is None else f"| {name} | {value:.3f} | {low:.3f} to {high:.3f} |"
        )
    auc = metrics["auc"]
    headline = (
        "AUC undefined"
        if auc["value"] is None
        else "AUC {:.3f} (95 % interval {:.3f} to {:.3f})".format(auc["value"], *auc["ci95"])
    )
    threshold = (
        "highest probability"
        if card["threshold"] is None
        else f"P({card['class_names'][1]}) >= {card['threshold']:.3f}"
    )
    lines = [
        "# Evaluation",
        "",
        f"{headline} on {slides} slides; research only, not for diagnosis.",
        "",
        "| metric | value | 95 % interval |",
        "|---|---|---|",
        *rows,
        "",
        f"Decision: {threshold}, chosen on the split {card['threshold_from']!r}. Intervals: percentile bootstrap over "
        f"{metrics['bootstrap']['unit']}s, {metrics['bootstrap']['resamples']} resamples, seed {metrics['seed']}.",
        "",
        f"Weights sha256 `{card.get('weights_sha256', 'unknown')}`; patch encoder `{card['encoder']}`.",
        "",
    ]
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")
