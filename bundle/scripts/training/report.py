"""Files that an evaluation leaves: ``predictions.csv`` and ``metrics.json``."""

import logging
from pathlib import Path
from typing import Any

from ..common.files import write_json
from ..evaluation.bootstrap import evaluate
from ..evaluation.predictions import write_predictions
from .evaluation import PredictionCollector

_LOGGER = logging.getLogger(__name__)


def write_evaluation(
    collector: PredictionCollector, card: dict[str, Any], output_dir: str | Path, *, seed: int = 0
) -> dict[str, Any]:
    """Write the predictions that ``collector`` holds and their metrics; return the metrics.

    Args:
        collector: attached to an evaluator that has run.
        card: the model card, which holds the classes and the threshold from validation.
        output_dir: folder of both files.
        seed: of the bootstrap.
    """
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
    auc = metrics["auc"]
    if auc["value"] is not None:
        _LOGGER.info("AUC %.3f (95 %% interval %.3f to %.3f), %d slides", auc["value"], *auc["ci95"], len(predictions))
    return metrics
