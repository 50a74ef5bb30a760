"""One table of all rows: mean test AUC, its interval, the difference to the full network, and the paper's figures beside it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import write_csv
from ..common.markdown import number, write_markdown
from ..common.networks import trainable_parameters
from ..encoding.embed import compression_ratio
from ..evaluation.bootstrap import RESAMPLES
from ..evaluation.interval import FEWEST_UNITS, LEAST_USED, TIE, estimate
from ..evaluation.metrics import Floats
from ..studies.outcomes import Outcome, columns_of, estimate_cell, paired
from ..training.card import network_from_card
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


def records_of(outcomes: Mapping[str, Sequence[Outcome]]) -> list[dict[str, object]]:
    """Return one record of `COLUMNS` per row, in the paper's order; figures that cannot be had are None."""
    records = []
    for name in (name for name in ROWS if outcomes.get(name)):
        runs = outcomes[name]
        card = runs[0].card
        record: dict[str, object] = {
            "row": name,
            "table": ROWS[name].table,
            "title": ROWS[name].title,
            "runs": len(runs),
            **_mean_of("auc", [(run.auc, run.alone.spread["auc"]) for run in runs], runs),
            "sd_over_seeds": _deviation([(run.dataset, run.auc) for run in runs]),
            "validation_auc": float(np.mean([run.validation_auc for run in runs])),
            "parameters": trainable_parameters(network_from_card(card)),
            "compression_ratio": compression_ratio(card.network["embedding_channels"], card.thumbnail_levels),
            **_of_paper(ROWS[name]),
        }
        if name != FULL and (pairs := paired(runs, outcomes.get(FULL, ()))):
            record |= _difference(pairs, runs)
            record["sign"] = _sign(record)
        records.append({column: record.get(column) for column in COLUMNS})
    return records


def _difference(pairs: Sequence[tuple[Outcome, Outcome]], runs: Sequence[Outcome]) -> dict[str, float | None]:
    """Of the AUC, first less second; ``runs`` are all of the row."""
    found = [(run.auc - full.auc, run.alone.spread["auc"] - full.alone.spread["auc"]) for run, full in pairs]
    deviation = _deviation([(run.dataset, run.auc - full.auc) for run, full in pairs])
    return {**_mean_of("difference", found, runs), "sd_of_difference": deviation}


def _mean_of(name: str, found: Sequence[tuple[float, Floats]], runs: Sequence[Outcome]) -> dict[str, float | None]:
    """Mean of figures, each of a run's slides and of their resamples; the smallest dataset decides whether there is an interval.

    Resamples that lack a class in some dataset are left out.
    """
    values, spreads = zip(*found, strict=True)
    fewest = min((run.alone.drawn for run in runs), key=lambda drawn: drawn.units)
    return columns_of(name, estimate(float(np.mean(values)), np.mean(spreads, axis=0), fewest))


def _deviation(values: Sequence[tuple[int, float]]) -> float | None:
    """Deviation over seeds within the datasets, n - 1 each; None with one seed, or where a value is not finite."""
    by_dataset: dict[int, list[float]] = {}
    for dataset, value in values:
        by_dataset.setdefault(dataset, []).append(value)
    squares = sum(float(np.sum((np.array(group) - np.mean(group)) ** 2)) for group in by_dataset.values())
    freedom = len(values) - len(by_dataset)
    return (squares / freedom) ** 0.5 if freedom and np.isfinite(squares) else None


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


def write_ablations(
    output_dir: Path, records: Sequence[Mapping[str, Any]], *, left_out: Mapping[str, str], title: str, unit: str
) -> str:
    """Write ``ablations.csv`` and ``ablations.md``, and return the text of the second.

    Args:
        output_dir: their folder.
        records: of :func:`records_of`.
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
        estimate_cell(record, "auc"),
        number(record["sd_over_seeds"], ""),
        estimate_cell(record, "difference", "+.3f"),
        number(record["sd_of_difference"], ""),
        number(record["validation_auc"], ""),
        f"{record['parameters']:,}",
        f"{record['compression_ratio']:.1f}",
        _printed(record, "camelyon16"),
        _printed(record, "tcga_lusc"),
        record["sign"] or "",
    )
    return [str(cell) for cell in cells]


def _printed(record: Mapping[str, Any], data: str) -> str:
    """The paper's AUC, with its difference."""
    if record[f"paper_{data}"] is None:
        return ""
    difference = record[f"paper_difference_{data}"]
    return f"{record[f'paper_{data}']:.3f}" + ("" if difference is None else f" ({difference:+.3f})")
