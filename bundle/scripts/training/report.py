"""Files that an evaluation leaves: predictions, metrics, calibration with its plot, and a page that sums them up."""

import logging
from dataclasses import asdict, replace
from pathlib import Path

from ..common.figure_words import shortened
from ..common.files import write_json
from ..common.markdown import write_markdown
from ..common.option_words import Split
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..common.ranks import is_first
from ..evaluation.bootstrap import Run, evaluate, resampled_metrics
from ..evaluation.calibration import calibrated_predictions, reliability
from ..evaluation.interval import estimate, missing_in_words
from ..evaluation.measured import Metrics
from ..evaluation.predictions import write_predictions
from ..evaluation.reliability import write_reliability_plot
from .evaluation import PredictionCollector
from .model_card import THRESHOLD_FROM, ModelCard

EVALUATION_FILES = ("predictions.csv", "metrics.json", "calibration.json", "reliability.png", "report.md")
"""In the order in which they are written."""

PAGE = Path(__file__).parent / "templates" / "evaluation.md.jinja"

CALIBRATED = ("brier", "ece")
"""Metrics that a calibration changes."""

_LOGGER = logging.getLogger(__name__)


def write_evaluation(
    collector: PredictionCollector,
    card: ModelCard,
    output_dir: str | Path,
    *,
    split: Split = "test",
    seed: int = 0,
    names: Names = AS_THEY_ARE,
) -> Metrics | None:
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
        the metrics, in the process that has written them.
    """
    if not is_first():
        return None
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
    write_json(output / "metrics.json", metrics.to_json())
    before = resampled_metrics(labels, [Run(raw, threshold)], patients=collector.patients, seed=seed)
    bins = {"before": reliability(labels, raw), "after": reliability(labels, probabilities)}
    figures = {
        "before": {name: estimate(before.values[name], before.spread[name], before.drawn) for name in CALIBRATED},
        "after": {name: metrics[name] for name in CALIBRATED},
    }
    write_json(
        output / "calibration.json",
        {
            "split": split,
            "temperature": temperature,
            "fitted_on": card.temperature_from,
            **{
                when: {
                    "bins": [asdict(one) for one in bins[when]],
                    **{name: figure.to_json() for name, figure in figures[when].items()},
                }
                for when in ("before", "after")
            },
        },
    )
    titles = {"before": "as trained", "after": f"temperature {temperature:.2f}"}
    write_reliability_plot(
        output / "reliability.png",
        [(title, bins[when]) for when, title in titles.items() if when == "before" or temperature != 1],
        probability=f"P({shortened(classes[1])})" if len(classes) == 2 else "highest probability",
        event=f"share of {shortened(classes[1])}" if len(classes) == 2 else "share of right ones",
    )
    write_markdown(
        output / "report.md",
        PAGE,
        metrics=metrics,
        drawn=metrics.bootstrap.drawn,
        missing=missing_in_words(metrics.figures),
        calibration={name: (figures["before"][name], figures["after"][name]) for name in CALIBRATED},
        card=card,
        threshold_from=THRESHOLD_FROM[card.threshold_from],
        slides=len(predictions),
        split=split,
    )
    _LOGGER.info("AUC %s, %d slides of the split %s", metrics["auc"].in_words(), len(predictions), split)
    return metrics
