"""What k folds say together: figures of each, their mean and deviation, and the pooled out-of-fold predictions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import RequestError
from ..common.files import atomic_path, write_json
from ..common.json_files import NONE, NUMBER, Kind, read_json
from .bootstrap import evaluate
from .interval import ends_in_words, missing_in_words
from .metrics import METRICS
from .predictions import read_predictions, write_predictions

SUMMARY = ("predictions.csv", "metrics.json", "folds.json", "report.md")


def summarise_folds(
    folders: Sequence[Path], output_dir: str | Path, *, patient_of: dict[str, str | None], seed: int = 0
) -> dict[str, Any]:
    """Write ``predictions.csv`` (each slide by the network that never saw it), its ``metrics.json``, ``folds.json``, ``report.md``.

    Args:
        folders: of each fold, with the ``predictions.csv`` and ``metrics.json`` of its evaluation.
        output_dir: folder of the files.
        patient_of: patient of every slide, for the intervals.
        seed: of the bootstrap.

    Returns:
        the content of ``folds.json``: the figures of each fold, and ``mean`` and ``sd`` over the folds. That deviation is no
        standard error of the mean: the folds share training slides.

    Raises:
        RequestError: a slide was tested in two folds, or the folds have other classes.
    """
    output = Path(output_dir)
    tables = [read_predictions(folder / "predictions.csv") for folder in folders]
    fields: dict[str, Kind] = {"threshold": (*NUMBER, NONE), **{f"{name}.value": (*NUMBER, NONE) for name in METRICS}}
    expected = "what evaluating writes: remove that fold's folder and run the same command again"
    metrics = [read_json(folder / "metrics.json", expected=expected, fields=fields) for folder in folders]
    names = tables[0].class_names
    rows = [prediction for table in tables for prediction in table.predictions]
    ids = [prediction.slide_id for prediction in rows]
    twice = [name for name in set(ids) if ids.count(name) > 1]
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
        threshold_from="val of each fold",
        patients=[patient_of[name] for name in ids],
        seed=seed,
    )
    write_json(output / "metrics.json", pooled)
    report: dict[str, Any] = {
        "folds": [
            {
                "fold": folder.name,
                "slides": len(table.predictions),
                "threshold": figures["threshold"],
                **{name: figures[name]["value"] for name in METRICS},
            }
            for folder, table, figures in zip(folders, tables, metrics, strict=True)
        ]
    }
    for name in METRICS:
        values = [fold[name] for fold in report["folds"]]
        defined = None not in values
        report[name] = {
            "mean": float(np.mean(values)) if defined else None,
            "sd": float(np.std(values, ddof=1)) if defined and len(values) > 1 else None,
        }
    write_json(output / "folds.json", report)
    _write_summary(output / "report.md", report, pooled, slides=len(rows))
    return report


def _write_summary(path: Path, report: dict[str, Any], pooled: dict[str, Any], *, slides: int) -> None:
    folds, drawn = report["folds"], pooled["bootstrap"]
    missing = missing_in_words(drawn["no_interval"])
    lines = [
        f"# {len(folds)} folds",
        "",
        f"{slides} slides, each tested once by a network that never saw it; research only, not for diagnosis.",
        "",
        f"| metric | {' | '.join(fold['fold'] for fold in folds)} | mean (sd) | pooled (95 % interval) | resamples |",
        f"|---|{'---|' * len(folds)}---|---|---|",
    ]
    for name in METRICS:
        mean, deviation = report[name]["mean"], report[name]["sd"]
        cells = [
            *(_text(fold[name]) for fold in folds),
            f"{_text(mean)} ({_text(deviation)})",
            f"{_text(pooled[name]['value'])} ({ends_in_words(pooled[name]['ci95']) or 'no interval'})",
            f"{drawn['used'][name]:,}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += [
        "",
        "Epoch, temperature and threshold of each fold come from its own validation slides. The deviation over folds is no "
        "standard error: folds share training slides. Pooled: all out-of-fold predictions together, each decided by its fold's "
        f"threshold; percentile bootstrap over {drawn['unit']}s, {drawn['resamples']} resamples, seed {pooled['seed']}, of "
        f"{drawn['units']} {drawn['unit']}s; the last column counts the resamples in which a metric is defined.",
        *(["", f"Without an interval: {missing}."] if missing else []),
        "",
    ]
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
