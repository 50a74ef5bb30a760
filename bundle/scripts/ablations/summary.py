"""One table of all rows: mean test AUC, its interval, the difference to the full network, and the paper's figures beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import RequestError
from ..common.files import write_csv
from ..common.markdown import write_markdown
from ..encoding.embed import compression_ratio
from ..evaluation.bootstrap import RESAMPLES, drawn_from, resample_weights
from ..evaluation.interval import FEWEST_UNITS, LEAST_USED, TIE, Drawn, estimate
from ..evaluation.metrics import FALLBACK_THRESHOLD, Floats, weighted_metrics
from ..evaluation.predictions import read_predictions
from ..training.card import network_from_card, read_card
from .rows import FULL, ROWS, Row

TABLES = ("ablations.csv", "ablations.md")
COLUMNS = (
    "row", "table", "title", "runs", "auc", "auc_low", "auc_high", "sd_over_seeds", "difference", "difference_low",
    "difference_high", "sd_of_difference", "validation_auc", "parameters", "compression_ratio", "paper_camelyon16",
    "paper_difference_camelyon16", "paper_tcga_lusc", "paper_difference_tcga_lusc", "sign",
)  # fmt: skip
HEAD = (
    "table", "row", "runs", "AUC (95 % interval)", "sd over seeds", "difference to full (95 % interval)", "its sd",
    "validation AUC", "parameters", "compression", "paper: Camelyon16", "paper: TCGA-LUSC", "paper's sign",
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What one run left: AUC on the test slides and on their resamples, and its model card.

    Attributes:
        dataset: index of the dataset.
        seed: of the training.
        auc: of the test slides.
        resampled: (resamples,) AUC of each resample, NaN where it lacks a class.
        validation_auc: of the validation slides, at the epoch that was chosen on them.
        parameters: trainable ones of the network.
        compression_ratio: of the matrices that it sees.
        drawn: what each resample drew.
    """

    dataset: int
    seed: int
    auc: float
    resampled: Floats
    validation_auc: float
    parameters: int
    compression_ratio: float
    drawn: Drawn


def read_result(
    folder: Path, *, dataset: int, draw: int, seed: int, patients: Mapping[str, str | None], resamples: int = RESAMPLES
) -> Result:
    """Read what a run left in ``folder``.

    Args:
        folder: of the run.
        dataset: index of its dataset.
        draw: seeds the resampling; all runs on a dataset share it, and datasets of the same test slides do.
        seed: of the training.
        patients: patient of each test slide by its id, in the order that all runs on the dataset share.
        resamples: how many.

    Raises:
        RequestError: the predictions are of other slides.
    """
    table = read_predictions(folder / "predictions.csv")
    by_id = {prediction.slide_id: prediction for prediction in table.predictions}
    if set(by_id) != set(patients):
        raise RequestError(
            f"{folder / 'predictions.csv'}: other slides than the test slides of the dataset, expected the same for every row: "
            "give the datasets of one set of slides"
        )
    ordered = [by_id[slide_id] for slide_id in patients]
    labels = np.array([prediction.label for prediction in ordered], dtype=np.int64)
    probabilities = np.array([prediction.probabilities for prediction in ordered])
    threshold = FALLBACK_THRESHOLD if probabilities.shape[1] == 2 else None  # without effect on the AUC
    weights = resample_weights(len(labels), patients=list(patients.values()), resamples=resamples, seed=draw)
    every = np.concatenate([np.ones((1, len(labels))), weights])
    auc = weighted_metrics(labels, probabilities, every, threshold=threshold)["auc"]
    card = read_card(folder / "model.pt")
    return Result(
        dataset=dataset,
        seed=seed,
        auc=float(auc[0]),
        resampled=auc[1:],
        validation_auc=float(card.validation["auc"]["value"]),
        parameters=sum(p.numel() for p in network_from_card(card).parameters() if p.requires_grad),
        compression_ratio=compression_ratio(card.network["embedding_channels"], card.thumbnail_levels),
        drawn=drawn_from(len(labels), list(patients.values())),
    )


def summarise(results: Mapping[str, Sequence[Result]]) -> list[dict[str, object]]:
    """Return one record of `COLUMNS` per row, in the paper's order; figures that cannot be had are None."""
    full = {(result.dataset, result.seed): result for result in results.get(FULL, ())}
    records = []
    for name in (name for name in ROWS if results.get(name)):
        row, runs = ROWS[name], results[name]
        pairs = [(run, full[run.dataset, run.seed]) for run in runs if (run.dataset, run.seed) in full]
        fewest = min((run.drawn for run in runs), key=lambda drawn: drawn.units)
        record: dict[str, object] = {
            "row": name,
            "table": row.table,
            "title": row.title,
            "runs": len(runs),
            "auc": _finite(float(np.mean([run.auc for run in runs]))),
            **_interval("auc", [run.resampled for run in runs], fewest),
            "sd_over_seeds": _deviation([(run.dataset, run.auc) for run in runs]),
            "validation_auc": float(np.mean([run.validation_auc for run in runs])),
            "parameters": runs[0].parameters,
            "compression_ratio": runs[0].compression_ratio,
            **_of_paper(row),
        }
        if name != FULL and pairs:
            record["difference"] = _finite(float(np.mean([run.auc - of_full.auc for run, of_full in pairs])))
            record |= _interval("difference", [run.resampled - of_full.resampled for run, of_full in pairs], fewest)
            record["sd_of_difference"] = _deviation([(run.dataset, run.auc - of_full.auc) for run, of_full in pairs])
            record["sign"] = _sign(record)
        records.append({column: record.get(column) for column in COLUMNS})
    return records


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _interval(name: str, resampled: Sequence[Floats], drawn: Drawn) -> dict[str, float | None]:
    """Interval of the mean over runs; resamples that lack a class in some dataset are left out. ``drawn``: of the smallest."""
    low, high = estimate(0.0, np.mean(resampled, axis=0), drawn).ci95 or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _deviation(values: Sequence[tuple[int, float]]) -> float | None:
    """Deviation over seeds within the datasets, n - 1 each; None with one seed, or where a value is not finite."""
    by_dataset: dict[int, list[float]] = {}
    for dataset, value in values:
        by_dataset.setdefault(dataset, []).append(value)
    squares = sum(float(np.sum((np.array(group) - np.mean(group)) ** 2)) for group in by_dataset.values())
    freedom = len(values) - len(by_dataset)
    return _finite((squares / freedom) ** 0.5) if freedom else None


def _of_paper(row: Row) -> dict[str, float | None]:
    """The paper's AUC and its difference to the paper's full network."""
    full = ROWS[FULL]
    record: dict[str, float | None] = {"paper_camelyon16": row.camelyon16, "paper_tcga_lusc": row.tcga_lusc}
    if row.name != FULL:
        record["paper_difference_camelyon16"] = round(row.camelyon16 - full.camelyon16, 3)
        if row.tcga_lusc is not None and full.tcga_lusc is not None:
            record["paper_difference_tcga_lusc"] = round(row.tcga_lusc - full.tcga_lusc, 3)
    return record


def _sign(record: Mapping[str, Any]) -> str:
    """Compare the sign of the difference with the paper's on Camelyon16; those of TCGA-LUSC are the same. Open without interval."""
    if record["difference_low"] is None or (record["difference_low"] < TIE and record["difference_high"] > -TIE):
        return "open"
    return "holds" if record["difference"] * record["paper_difference_camelyon16"] > 0 else "opposite"


def write_table(
    output_dir: Path, records: Sequence[Mapping[str, Any]], *, left_out: Mapping[str, str], title: str, unit: str
) -> str:
    """Write ``ablations.csv`` and ``ablations.md``, and return the text of the second.

    Args:
        output_dir: their folder.
        records: of :func:`summarise`.
        left_out: rows that were not run, and why.
        title: says what was run.
        unit: what was resampled, "slide" or "patient".
    """
    write_csv(output_dir / TABLES[0], COLUMNS, records)
    return write_markdown(
        output_dir / TABLES[1],
        Path(__file__).parent / "templates" / "ablations.md.jinja",
        title=title,
        head=HEAD,
        rows=[_cells(record) for record in records],
        left_out=left_out,
        resamples=f"{RESAMPLES}",
        unit=unit,
        fewest=FEWEST_UNITS,
        lost=f"{1 - LEAST_USED:.0%}",
    )


def _cells(record: Mapping[str, Any]) -> list[str]:
    cells = (
        record["table"],
        record["title"],
        record["runs"],
        _estimate(record, "auc", "{:.3f}"),
        _number(record["sd_over_seeds"], "{:.3f}"),
        _estimate(record, "difference", "{:+.3f}"),
        _number(record["sd_of_difference"], "{:.3f}"),
        _number(record["validation_auc"], "{:.3f}"),
        f"{record['parameters']:,}",
        f"{record['compression_ratio']:.1f}",
        _printed(record, "camelyon16"),
        _printed(record, "tcga_lusc"),
        record["sign"] or "",
    )
    return [str(cell) for cell in cells]


def _number(value: float | None, pattern: str) -> str:
    return "" if value is None else pattern.format(value)


def _estimate(record: Mapping[str, Any], name: str, pattern: str) -> str:
    """A figure with its interval."""
    if record[name] is None:
        return ""
    value, *ends = (record[key] for key in (name, f"{name}_low", f"{name}_high"))
    interval = "no interval" if None in ends else " to ".join(map(pattern.format, ends))
    return f"{pattern.format(value)} ({interval})"


def _printed(record: Mapping[str, Any], data: str) -> str:
    """The paper's AUC, with its difference."""
    if record[f"paper_{data}"] is None:
        return ""
    difference = record[f"paper_difference_{data}"]
    return f"{record[f'paper_{data}']:.3f}" + ("" if difference is None else f" ({difference:+.3f})")
