"""The stage ``listing``: a data set's folder to ``slides.csv``."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..common.errors import RequestError
from ..common.files import relative_to, write_csv
from ..slides.table import SPLITS, SlideRow, with_unique_ids
from .found import Cohort
from .holdout import draw_slides, hold_out

_LOGGER = logging.getLogger(__name__)


def write_listing(
    cohort: str | None,
    slides: str | Path | None,
    output_dir: str | Path,
    *,
    builders: Mapping[str, Callable[[str | Path], Cohort]],
    test_share: float = 0.2,
    val_share: float = 0.2,
    slides_per_class: int | None = None,
    seed: int = 0,
) -> list[SlideRow]:
    """Write ``slides.csv`` (slide, label, patient, split and what the data set tells besides) and ``left_out.csv`` (slide, reason).

    Slides are not opened. Where the data set has no test slides of its own they are drawn, then validation slides where it has none,
    patient by patient and each class alike; the rest is for training.

    Args:
        cohort: name of the data set among ``builders``.
        slides: its folder (of "table": its CSV).
        output_dir: folder of the two tables; paths in them are relative to it.
        builders: what lists the slides, by data set.
        test_share: of the slides of each class, where the data set has no split.
        val_share: of the slides of each class, out of the training slides.
        slides_per_class: draw as many of each class first; None takes all.
        seed: of what is drawn.

    Returns:
        the slides as written.

    Raises:
        RequestError: the cohort is unknown, its files are not as expected, a patient is in two splits, or ``slides.csv`` is there.
    """
    if cohort is None or cohort not in builders:
        raise RequestError(f"cohort is {cohort!r}, expected one of {', '.join(builders)}: name it with --cohort")
    if slides is None:
        raise RequestError("no slides given: name the data set's folder, or its CSV, with --slides")
    table = Path(output_dir) / "slides.csv"
    if table.exists():
        raise RequestError(
            f"{table}: is there already, and may hold work of yours: remove it or name another --output_dir"
        )
    listed = builders[cohort](slides)
    if not listed.rows:
        raise RequestError(f"{slides}: no slide is left to list, expected one at least: check the options of {cohort}")
    rows = with_unique_ids(listed.rows)
    require_one_split(rows)
    split = {row.split for row in rows}
    if None in split and len(split) > 1:
        raise RequestError(f"{slides}: some slides have a split and some have none, expected all or none: complete it")
    if slides_per_class is not None:
        if None not in split:
            raise RequestError(
                "slides_per_class is given, and the data set has its own split, which is taken whole: leave it out"
            )
        rows = draw_slides(rows, slides_per_class, seed=seed)
    if "test" not in split:
        rows = hold_out(rows, test_share, split="test", of={None, "train"}, seed=seed)
    if "val" not in split:
        rows = hold_out(rows, val_share, split="val", of={None, "train"}, seed=seed)
    if {row.split for row in rows} != {None}:
        rows = [replace(row, split=row.split or "train") for row in rows]
    _write(rows, listed.left_out, table)
    _report(rows, listed.left_out)
    return rows


def require_one_split(rows: Iterable[SlideRow]) -> None:
    """Refuse a patient whose slides are in two splits.

    Raises:
        RequestError: names the first such patient.
    """
    first: dict[str, SlideRow] = {}
    for row in rows:
        other = first.setdefault(str(row.patient), row)
        if row.patient and other.split != row.split:
            raise RequestError(
                f"patient {row.patient}: {other.path} is in split {other.split} and {row.path} in {row.split}, which leaks from one to "
                "the other: put all slides of a patient in one split"
            )


def _write(rows: Sequence[SlideRow], left_out: Sequence[tuple[Path, str]], table: Path) -> None:
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    columns = ["slide", "label", "patient", "split", *(["mpp"] if any(row.mpp for row in rows) else []), *extra]
    lines = (
        {
            "slide": relative_to(row.path, table.parent),
            "label": row.label,
            "patient": row.patient,
            "split": row.split,
            "mpp": row.mpp,
            **row.extra,
        }
        for row in rows
    )
    write_csv(
        table.with_name("left_out.csv"),
        ("slide", "reason"),
        ({"slide": relative_to(path, table.parent), "reason": why} for path, why in left_out),
    )
    write_csv(table, columns, ({name: line.get(name) for name in columns} for line in lines))


def _report(rows: Sequence[SlideRow], left_out: Sequence[tuple[Path, str]]) -> None:
    """Log how many slides of each class are in each split, what is special about slides, and what was left out."""
    labels = sorted({str(row.label) for row in rows})
    patients = len({row.patient for row in rows})
    _LOGGER.info("listing: %d slides of %d patients", len(rows), patients)
    for split in (*SPLITS, None):
        counts = Counter(str(row.label) for row in rows if row.split == split)
        if counts:
            parts = ", ".join(f"{label} {counts[label]}" for label in labels)
            _LOGGER.info("  %s: %s", split or "no split", parts)
    for note, count in sorted(Counter(row.extra.get("note") for row in rows if row.extra.get("note")).items()):
        _LOGGER.info("  listed with a note: %d (%s)", count, note)
    for why, count in sorted(Counter(why for _, why in left_out).items()):
        _LOGGER.info("  left out: %d (%s)", count, why)
    if len(labels) < 2:
        _LOGGER.warning("all slides are of one class: training will refuse them")
