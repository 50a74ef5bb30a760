"""The table of a comparison: as CSV, as a page of Markdown, and as a page of the report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.files import atomic_path, write_csv
from ..common.markdown import number, write_markdown
from ..evaluation.bootstrap import RESAMPLES
from ..evaluation.curves import MeanRoc
from ..report.figures import mean_roc_plot
from ..report.pages import frame, templates
from ..studies.outcomes import estimate_cell, interval_cell
from .methods_summary import COLUMNS

TABLES = ("methods.csv", "methods.md", "methods.html", "roc.csv", "roc.png")
NOTES = """\
AUC and balanced accuracy: mean over the trainings, on the test slides, each training with the threshold of its own validation
slides, or with 0.5 where no threshold parted those. Interval: 2.5 to 97.5 percentiles over {resamples} bootstrap resamples,
each of {unit}s{of_trainings}. Difference:
AUC less that of `{reference}`, training by training of the same seed, on the same resamples, with its two-sided p (corrected for
nothing); behind it the 95 % t interval of its mean over the trainings.
Operations: convolutions and matrix products on one test slide, an addition and a multiplication are two. Memory is the largest
of the process, libraries and slides included; time is that of one process of one thread, from start to weights, and of reading
and judging the test slides. The paper's AUC are those of its Table II, whose patch-wise methods see raw patches."""
OF_CURVES = """\
Mean of the trainings' ROC curves at each false positive rate, with its pointwise 95 % interval
over bootstrap resamples of {unit}s{alone}. Numbers: roc.csv."""
OF_TRAININGS = " and of the trainings, so that it holds the uncertainty of both"
ALONE = "\nalone: the trainings stay the same, unlike those of the AUC's interval"
HEAD = (
    "method", "runs", "AUC (95 % interval)", "sd over seeds", "balanced accuracy", "difference (95 % interval)", "p", "t interval",
    "validation AUC", "parameters", "GFLOP", "MiB", "training, s", "test, s", "paper: Camelyon16, TCGA-LUSC",
)  # fmt: skip


@dataclass(frozen=True)
class MethodsTable:
    """What the tables show.

    Attributes:
        title: says what was run.
        records: one of `COLUMNS` per method.
        left_out: methods without a row, and why.
        unit: what was resampled, "slide" or "patient".
        reference: what the others differ from.
    """

    title: str
    records: Sequence[Mapping[str, Any]]
    left_out: Mapping[str, str]
    unit: str
    reference: str

    @property
    def repeated(self) -> bool:
        """Whether some method was trained more than once, so that a resample draws trainings, too."""
        return any(record["runs"] > 1 for record in self.records)

    @property
    def notes(self) -> str:
        """What the figures are."""
        of_trainings = OF_TRAININGS if self.repeated else ""
        return NOTES.format(resamples=RESAMPLES, unit=self.unit, reference=self.reference, of_trainings=of_trainings)

    @property
    def of_curves(self) -> str:
        """What the curves are."""
        return OF_CURVES.format(unit=self.unit, alone=ALONE if self.repeated else "")


def write_methods(output_dir: Path, table: MethodsTable) -> str:
    """Write ``methods.csv`` and ``methods.md`` into a folder, and return the text of the second."""
    write_csv(output_dir / TABLES[0], COLUMNS, table.records)
    return write_markdown(
        output_dir / TABLES[1],
        Path(__file__).parent / "templates" / "methods.md.jinja",
        table=table,
        head=HEAD,
        rows=_rows(table),
        of_curves=table.of_curves,
    )


def write_page(output_dir: Path, table: MethodsTable, curves: Mapping[str, MeanRoc]) -> None:
    """Write ``methods.html`` into a folder: table and ROC curves by method, in one file that needs nothing else."""
    page = (
        templates()
        .get_template("comparison.html")
        .render(
            **frame(),
            table=table,
            head=HEAD,
            rows=_rows(table),
            plot=mean_roc_plot(curves) if curves else None,
            of_curves=table.of_curves,
        )
    )
    with atomic_path(output_dir / TABLES[2]) as partial:
        partial.write_text(page, encoding="utf-8")


def _rows(table: MethodsTable) -> list[tuple[str, str, list[str]]]:
    """Name, title and cells of every method."""
    return [(record["method"], record["title"], _cells(record)) for record in table.records]


def _cells(record: Mapping[str, Any]) -> list[str]:
    paper = [number(record[f"paper_{data}"], "") or "-" for data in ("camelyon16", "tcga_lusc")]
    return [
        str(record["runs"]),
        estimate_cell(record, "auc"),
        number(record["sd_over_seeds"], ""),
        estimate_cell(record, "balanced_accuracy"),
        estimate_cell(record, "difference", "+.3f"),
        number(record["difference_p"], ""),
        interval_cell(record, "difference_t", "+.3f"),
        number(record["validation_auc"], ""),
        f"{record['parameters']:,}",
        number(record["gflop"], ""),
        number(record["peak_mib"], "", form=",.0f"),
        number(record["training_s"], "", form=".0f"),
        number(record["evaluating_s"], "", form=".1f"),
        ", ".join(paper) if any(word != "-" for word in paper) else "",
    ]
