"""Files that an evaluation leaves: predictions, metrics, calibration with its plot, and a page that sums them up."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..common.figure_words import shortened
from ..common.files import write_json
from ..common.markdown import write_markdown
from ..common.option_words import Split
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..common.ranks import is_first
from ..evaluation.bootstrap import Run, evaluate, resampled_metrics
from ..evaluation.calibration import ReliabilityBin, calibrated_predictions, reliability
from ..evaluation.interval import Estimate, estimate, missing_in_words
from ..evaluation.measured import Metrics
from ..evaluation.predictions import write_predictions
from ..evaluation.reliability import write_reliability_plot
from .model_card import THRESHOLD_FROM, ModelCard
from .predicting import PredictionCollector

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
        split: which slides those are.
        seed: of the bootstrap.
        names: what slides are called in predictions.csv.

    Returns:
        the metrics, in the process that has written them.
    """
    if not is_first():
        return None
    names.keep()
    output = Path(output_dir)
    labels, raw = collector.labels, collector.probabilities
    predictions = calibrated_predictions(collector.predictions, card.temperature)
    probabilities = [prediction.probabilities for prediction in predictions]
    told = [replace(one, slide_id=names.slide(one.slide_id)) for one in predictions]
    write_predictions(output / "predictions.csv", told, class_names=card.class_names, threshold=card.threshold)
    metrics = evaluate(
        labels,
        probabilities,
        threshold=card.threshold,
        threshold_from=card.threshold_from,
        patients=collector.patients,
        seed=seed,
    )
    write_json(output / "metrics.json", metrics.to_json())
    before = _before_calibration(labels, raw, threshold=card.threshold, patients=collector.patients, seed=seed)
    after = _Reliability(reliability(labels, probabilities), {name: metrics[name] for name in CALIBRATED})
    compared = {"before": before, "after": after}
    write_json(
        output / "calibration.json",
        {
            "split": split,
            "weights_sha256": card.weights_sha256,
            "temperature": card.temperature,
            "fitted_on": card.temperature_from,
            **{when: one.to_json() for when, one in compared.items()},
        },
    )
    _write_plot(output / "reliability.png", compared, card)
    write_markdown(
        output / "report.md",
        PAGE,
        metrics=metrics,
        drawn=metrics.bootstrap.drawn,
        missing=missing_in_words(metrics.figures),
        calibration={name: (before.figures[name], after.figures[name]) for name in CALIBRATED},
        card=card,
        threshold_from=THRESHOLD_FROM[card.threshold_from],
        slides=len(predictions),
        split=split,
    )
    _LOGGER.info("AUC %s, %d slides of the split %s", metrics["auc"].in_words(), len(predictions), split)
    return metrics


@dataclass(frozen=True)
class _Reliability:
    """Reliability of some probabilities: stated against observed by bin, and the metrics of `CALIBRATED`."""

    bins: list[ReliabilityBin]
    figures: dict[str, Estimate]

    def to_json(self) -> dict[str, object]:
        """Its part of ``calibration.json``."""
        figures = {name: figure.to_json() for name, figure in self.figures.items()}
        return {"bins": [asdict(one) for one in self.bins], **figures}


def _before_calibration(
    labels: Sequence[int],
    raw: Sequence[tuple[float, ...]],
    *,
    threshold: float | None,
    patients: Sequence[str | None],
    seed: int,
) -> _Reliability:
    """Reliability of the network's own probabilities."""
    found = resampled_metrics(labels, [Run(raw, threshold)], patients=patients, seed=seed)
    figures = {name: estimate(found.values[name], found.spread[name], found.drawn) for name in CALIBRATED}
    return _Reliability(reliability(labels, raw), figures)


def _write_plot(path: Path, compared: Mapping[str, _Reliability], card: ModelCard) -> None:
    """Write ``reliability.png``: the bins before calibration and, unless the temperature is 1, those after."""
    titles = {"before": "as trained", "after": f"temperature {card.temperature:.2f}"}
    positive = shortened(card.class_names[1])
    two_classes = len(card.class_names) == 2
    write_reliability_plot(
        path,
        [(title, compared[when].bins) for when, title in titles.items() if when == "before" or card.temperature != 1],
        probability=f"P({positive})" if two_classes else "highest probability",
        event=f"share of {positive}" if two_classes else "share of right ones",
    )
