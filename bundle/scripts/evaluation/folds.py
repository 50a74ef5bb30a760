"""What k folds say together: figures of each, their mean and deviation, and the pooled out-of-fold predictions."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..common.errors import RequestError
from ..common.files import write_json
from ..common.json_files import NONE, Kind, read_json
from ..common.markdown import write_markdown
from .bootstrap import evaluate
from .interval import missing_in_words
from .measured import Metrics, read_metrics
from .metrics import METRICS
from .predictions import read_predictions, write_predictions

SUMMARY = ("predictions.csv", "metrics.json", "folds.json", "report.md")
PAGE = Path(__file__).parent / "templates" / "folds.md.jinja"


@dataclass(frozen=True)
class Fold:
    """The evaluation of one fold.

    Attributes:
        fold: its name.
        slides: that it tested.
        threshold: of its decisions; None for more than two classes.
        threshold_from: "val", or "default" where no threshold parted its validation slides; None where that is not known.
        temperature_from: "val"; None where no temperature was fitted.
        values: of its metrics, by the names of `METRICS`; None where undefined.
    """

    fold: str
    slides: int
    threshold: float | None
    threshold_from: str | None
    temperature_from: str | None
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class OverFolds:
    """A metric over the folds; None where it is undefined in one of them.

    Attributes:
        mean: of the folds' values.
        sd: their deviation, which is no standard error of the mean: the folds share training slides.
    """

    mean: float | None
    sd: float | None


@dataclass(frozen=True)
class FoldSummary:
    """What k folds say together: ``folds`` in order, and ``over_folds`` by the names of `METRICS`."""

    folds: tuple[Fold, ...]
    over_folds: Mapping[str, OverFolds]

    def to_json(self) -> dict[str, object]:
        """The content of ``folds.json``."""
        folds = [
            {
                "fold": one.fold,
                "slides": one.slides,
                "threshold": one.threshold,
                "threshold_from": one.threshold_from,
                "temperature_from": one.temperature_from,
                **one.values,
            }
            for one in self.folds
        ]
        return {"folds": folds, **{name: asdict(one) for name, one in self.over_folds.items()}}


def summarise_folds(
    folders: Sequence[Path], output_dir: str | Path, *, patient_of: dict[str, str | None], seed: int = 0
) -> FoldSummary:
    """Write ``predictions.csv`` (each slide by the network that never saw it), its ``metrics.json``, ``folds.json``, ``report.md``.

    Args:
        folders: of each fold, with ``predictions.csv``, ``metrics.json`` and ``calibration.json`` of its evaluation.
        output_dir: folder of the files.
        patient_of: patient of every slide, for the intervals.
        seed: of the bootstrap.

    Returns:
        each fold's figures, and those over the folds; ``folds.json`` holds the same.

    Raises:
        RequestError: a file of a fold is missing or is not what evaluating writes. Or a slide was tested in two folds, the folds
            have other classes, or there is no slide.
    """
    output = Path(output_dir)
    tables = [read_predictions(folder / "predictions.csv") for folder in folders]
    expected = "what evaluating writes: remove that fold's folder and run the same command again"
    metrics = [read_metrics(folder / "metrics.json", expected=expected) for folder in folders]
    fields: dict[str, Kind] = {"fitted_on": (str, NONE)}
    calibrations = [read_json(folder / "calibration.json", expected=expected, fields=fields) for folder in folders]
    names = tables[0].class_names
    rows = [prediction for table in tables for prediction in table.predictions]
    ids = [prediction.slide_id for prediction in rows]
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice or any(table.class_names != names for table in tables):
        raise RequestError(
            f"{output}: {f'slide {min(twice)} was tested in two folds' if twice else 'folds of different classes'}; expected "
            "folds of one splitting: name the folder that split.yaml wrote"
        )
    thresholds = None if tables[0].thresholds is None else [t for table in tables for t in table.thresholds or ()]
    write_predictions(output / "predictions.csv", rows, class_names=names, threshold=thresholds)
    pooled = evaluate(
        np.array([prediction.label for prediction in rows]),
        [prediction.probabilities for prediction in rows],
        threshold=thresholds,
        threshold_from=None if thresholds is None else f"{_origins(metrics)} of each fold",
        patients=[patient_of[name] for name in ids],
        seed=seed,
    )
    write_json(output / "metrics.json", pooled.to_json())
    summary = FoldSummary(
        folds=tuple(
            Fold(
                fold=folder.name,
                slides=len(table.predictions),
                threshold=found.threshold,
                threshold_from=found.threshold_from,
                temperature_from=calibration["fitted_on"],
                values={name: found[name].value for name in METRICS},
            )
            for folder, table, found, calibration in zip(folders, tables, metrics, calibrations, strict=True)
        ),
        over_folds={name: _over_folds([found[name].value for found in metrics]) for name in METRICS},
    )
    write_json(output / "folds.json", summary.to_json())
    _write_page(output / "report.md", summary, pooled, slides=len(rows))
    return summary


def _origins(metrics: Sequence[Metrics]) -> str:
    """Where the folds' thresholds come from: "val", "default", or "val or default"."""
    return " or ".join(sorted({found.threshold_from or "default" for found in metrics}, reverse=True))


def _over_folds(values: Sequence[float | None]) -> OverFolds:
    defined = [value for value in values if value is not None]
    if len(defined) < len(values):
        return OverFolds(None, None)
    return OverFolds(float(np.mean(defined)), float(np.std(defined, ddof=1)) if len(defined) > 1 else None)


def _write_page(path: Path, summary: FoldSummary, pooled: Metrics, *, slides: int) -> None:
    write_markdown(
        path,
        PAGE,
        folds=summary.folds,
        at_default=[one for one in summary.folds if one.threshold_from == "default"],
        not_fitted=[one for one in summary.folds if one.temperature_from is None],
        over_folds=summary.over_folds,
        pooled=pooled,
        drawn=pooled.bootstrap.drawn,
        missing=missing_in_words(pooled.figures),
        slides=slides,
    )
