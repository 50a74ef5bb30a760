"""The stage ``comparing``: two methods on the same slides, with intervals of the difference."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ..common.errors import RequestError
from ..common.files import write_json
from ..common.markdown import number, write_markdown
from ..common.outputs import HeldOutputs
from .bootstrap import RESAMPLES, Run, resampled_metrics
from .delong import DeLong, delong
from .interval import FEWEST_UNITS, TIE, Bootstrap, Estimate, estimate, missing_in_words
from .metrics import METRICS, ranks
from .predictions import read_predictions
from .same_slides import aligned, patients_of, require_same_slides

_LOGGER = logging.getLogger(__name__)

Paths = str | Path | Sequence[str | Path]

PAGE = Path(__file__).parent / "templates" / "comparison.md.jinja"


@dataclass(frozen=True)
class Compared:
    """A figure of two methods, and what differs.

    Attributes:
        first: of the first method.
        second: of the second.
        difference: second - first.
        p: two-sided bootstrap p of the difference; None where it has no interval.
    """

    first: Estimate
    second: Estimate
    difference: Estimate
    p: float | None

    def to_json(self) -> dict[str, object]:
        """As it stands in ``comparison.json``."""
        return {
            "first": self.first.to_json(),
            "second": self.second.to_json(),
            "difference": {**self.difference.to_json(), "p": self.p},
        }


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same slides.

    Attributes:
        metrics: by the names of `METRICS`.
        bootstrap: what their intervals were drawn from.
        seed: of the bootstrap.
    """

    metrics: Mapping[str, Compared]
    bootstrap: Bootstrap
    seed: int

    @property
    def differences(self) -> dict[str, Estimate]:
        """Second - first, by the name of the metric."""
        return {name: one.difference for name, one in self.metrics.items()}

    def to_json(self) -> dict[str, object]:
        """As it stands in ``comparison.json``."""
        return {
            **{name: one.to_json() for name, one in self.metrics.items()},
            "seed": self.seed,
            "bootstrap": self.bootstrap.to_json(self.differences),
        }


@dataclass(frozen=True)
class ComparedFiles:
    """The comparison of two lists of ``predictions.csv``.

    Attributes:
        first_files: of the first method, one per seed.
        second_files: of the second.
        slides: number of slides.
        patients: number of patients; None where they are not known.
        comparison: the figures.
        delong: DeLong's test of the two AUC; None where it cannot be made.
    """

    first_files: tuple[str, ...]
    second_files: tuple[str, ...]
    slides: int
    patients: int | None
    comparison: Comparison
    delong: DeLong | None

    def to_json(self) -> dict[str, object]:
        """The content of ``comparison.json``."""
        return {
            "first_files": list(self.first_files),
            "second_files": list(self.second_files),
            "slides": self.slides,
            "patients": self.patients,
            **self.comparison.to_json(),
            "delong": self.delong and asdict(self.delong),
        }


def compare(
    labels: ArrayLike,
    first: Sequence[Run],
    second: Sequence[Run],
    *,
    patients: Sequence[str | None] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same N slides by the paired bootstrap: each resample is drawn once and serves both.

    The figures of a method with one run have the intervals of :func:`.bootstrap.evaluate`.

    Args:
        labels: (N,) class indices.
        first: what the first method says, one run or one per seed.
        second: what the second says. Of as many runs, run i is paired with run i of the first.
        patients: (N,) patient of each slide; all slides of a drawn patient enter together.
        resamples: number of resamples.
        seed: seed of the resampling.

    Returns:
        for each metric ``first`` and ``second`` (the mean over the runs), and ``difference`` (second - first) with its
        interval and two-sided bootstrap p. That is twice the smaller share of resamples on one side of 0, counting one more of
        each; one in which both are equal counts on both sides. ``bootstrap`` says what was drawn and, of the differences, how many
        resamples each has and why one has no interval and no p. More than two classes: auc is the mean of one class against the
        rest.

    Raises:
        RequestError: there is no slide.
    """
    results = [
        resampled_metrics(labels, runs, patients=patients, resamples=resamples, seed=seed) for runs in (first, second)
    ]
    drawn = results[0].drawn
    metrics = {}
    for name in METRICS:
        (before, spread_before), (after, spread_after) = ((found.values[name], found.spread[name]) for found in results)
        difference = estimate(after - before, spread_after - spread_before, drawn)
        metrics[name] = Compared(
            first=results[0].estimate(name),
            second=results[1].estimate(name),
            difference=difference,
            p=None if difference.ci95 is None else _two_sided(spread_after - spread_before),
        )
    return Comparison(metrics, Bootstrap(drawn, resamples, results[0].degenerate), seed)


def _two_sided(spread: np.ndarray) -> float:
    spread = spread[np.isfinite(spread)]
    tail = min((spread < TIE).sum(), (spread > -TIE).sum())
    return float(min(1.0, 2 * (tail + 1) / (len(spread) + 1)))


def compare_files(
    first: Paths,
    second: Paths,
    output_dir: str | Path,
    *,
    slides: str | Path | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    replace: bool = False,
) -> ComparedFiles:
    """Compare two ``predictions.csv``, or two lists of them (one per seed); write ``comparison.json`` and ``comparison.md``.

    Args:
        first: predictions of the first method.
        second: predictions of the second, for the same slides.
        output_dir: folder of both files.
        slides: table with the column ``patient``; without it each slide stands for itself.
        resamples: number of resamples.
        seed: seed of the resampling.
        replace: whether a comparison of other files may be replaced.

    Raises:
        RequestError: the files do not hold the same slides with the same labels and classes, a slide has no label, or see
            :class:`..common.outputs.HeldOutputs`.
    """
    names = [[str(path) for path in ([given] if isinstance(given, str | Path) else given)] for given in (first, second)]
    tables = [[(path, read_predictions(path)) for path in group] for group in names]
    if not all(tables):
        raise RequestError(
            "nothing to compare: name a predictions.csv, or a list of them, with --first and with --second"
        )
    reference_path, reference = tables[0][0]
    for path, table in (pair for group in tables for pair in group):
        require_same_slides(reference_path, reference, path, table)
    request = {
        "first": [str(Path(name).absolute()) for name in names[0]],
        "second": [str(Path(name).absolute()) for name in names[1]],
        "slides": None if slides is None else str(Path(slides).absolute()),
        "resamples": resamples,
        "seed": seed,
    }
    outputs = HeldOutputs(
        output_dir, "comparing", request, writes=("comparison.json", "comparison.md"), replace=replace
    )
    outputs.check()
    ids = [prediction.slide_id for prediction in reference.predictions]
    labels = np.array([prediction.label for prediction in reference.predictions])
    runs = [[aligned(table, ids) for _, table in group] for group in tables]
    patients = None if slides is None else patients_of(slides, ids)
    comparison = compare(labels, *runs, patients=patients, resamples=resamples, seed=seed)
    pair = len(reference.class_names) == 2 and len(runs[0]) == len(runs[1]) == 1
    drawn = comparison.bootstrap.drawn
    tested = pair and drawn.units >= FEWEST_UNITS
    found = ComparedFiles(
        first_files=tuple(names[0]),
        second_files=tuple(names[1]),
        slides=len(ids),
        patients=drawn.units if drawn.unit == "patient" else None,
        comparison=comparison,
        delong=delong(labels, *(ranks(group[0].probabilities)[:, 1] for group in runs)) if tested else None,
    )
    with outputs:
        write_json(Path(output_dir) / "comparison.json", found.to_json())
        _write_summary(Path(output_dir) / "comparison.md", found)
    _LOGGER.info("AUC second - first: %s", comparison.metrics["auc"].difference.in_words(sign="+"))
    return found


def _write_summary(path: Path, found: ComparedFiles) -> None:
    """Write the comparison as one page of Markdown."""
    comparison = found.comparison
    write_markdown(
        path,
        PAGE,
        found=found,
        comparison=comparison,
        drawn=comparison.bootstrap.drawn,
        runs=(len(found.first_files), len(found.second_files)),
        missing=missing_in_words(comparison.differences),
        text=_text,
        p=_p,
    )


def _text(figure: Estimate, sign: str = "") -> str:
    if figure.value is None:
        return "undefined"
    return f"{figure.value:{sign}.3f} ({figure.ends_in_words(sign=sign) or 'no interval'})"


def _p(value: float | None) -> str:
    return number(value, form=".3f" if value is None or value >= 0.001 else ".1e")
