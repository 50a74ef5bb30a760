"""The stage ``listing``: a data set's folder to ``slides.csv``."""

import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ..common.errors import RequestError
from ..common.files import relative_to, write_csv
from ..common.outputs import HeldOutputs
from ..slides.slide_ids import stem_of
from ..slides.table import SPLITS, SlideRow, require_consistent, with_ids
from .found import Cohort
from .patients import named_by_slides, tell_patients

_LOGGER = logging.getLogger(__name__)


def write_listing(
    cohort: str | None,
    slides: str | Path | None,
    output_dir: str | Path,
    *,
    builders: Mapping[str, Callable[[str | Path], Cohort]],
    slides_per_class: int | None = None,
    seed: int = 0,
    replace: bool = False,
) -> list[SlideRow]:
    """Write ``slides.csv`` (slide, label, patient, split and what the data set tells besides) and ``left_out.csv`` (slide, reason).

    Slides are not opened. A split is that of the data set, if it has one; all others are made by the stage ``splitting``. Where a
    data set names no patient at all, each slide's is called by the slide's id.

    Args:
        cohort: name of the data set among ``builders``.
        slides: its folder (of "table": its CSV).
        output_dir: folder of the two tables; paths in them are relative to it.
        builders: what lists the slides, by data set.
        slides_per_class: draw as many of each class first; None takes all.
        seed: of that draw.
        replace: whether tables of another request may be replaced.

    Returns:
        the slides as written.

    Raises:
        RequestError: the cohort is unknown, its files are not as expected, or a patient is in two splits. Or the folder holds,
            under these names, tables of another request, or files of others (also a table of ours that was edited).
    """
    if cohort is None or cohort not in builders:
        raise RequestError(f"cohort {cohort!r}: expected one of {', '.join(builders)}: name it with --cohort")
    if slides is None:
        raise RequestError("no slides given: name the data set's folder, or its CSV, with --slides")
    table = Path(output_dir) / "slides.csv"
    request = {
        "cohort": cohort,
        "slides": str(Path(slides).absolute()),
        "slides_per_class": slides_per_class,
        "seed": seed,
        "options": builder_options(builders[cohort]),
    }
    outputs = HeldOutputs(output_dir, "listing", request, writes=("slides.csv", "left_out.csv"), replace=replace)
    outputs.check()
    listed = builders[cohort](slides)
    if not listed.rows:
        raise RequestError(f"{slides}: no slide is left to list, expected one at least: check the options of {cohort}")
    rows = named_by_slides(with_ids(listed.rows))
    require_consistent(rows, Path(slides))
    split = {row.split for row in rows}
    if None in split and len(split) > 1:
        raise RequestError(f"{slides}: some slides have a split and some have none, expected all or none: complete it")
    if slides_per_class is not None:
        if None not in split:
            raise RequestError(
                "slides_per_class is given, and the data set has its own split, which is taken whole: leave it out"
            )
        rows = draw_slides(rows, slides_per_class, seed=seed)
    with outputs:
        _write(rows, listed.left_out, table)
    _report(rows, listed.left_out, table, notes_are_ours=cohort != "table")
    return rows


def builder_options(builder: Callable[[str | Path], Cohort]) -> dict[str, object]:
    """The options that a config has given to a builder."""
    return dict(builder.keywords) if isinstance(builder, partial) else {}


def draw_slides(rows: Sequence[SlideRow], count: int, *, seed: int) -> list[SlideRow]:
    """Draw ``count`` slides of each class, whatever their patient; the others, and those without a label, are dropped.

    A draw depends on the seed and the slides' names, not on where they lie.

    Raises:
        RequestError: a class has fewer.
    """
    drawn: set[str] = set()
    for label in _labels(rows):
        members = sorted(row.slide_id for row in rows if row.label == label)
        if len(members) < count:
            raise RequestError(
                f"slides_per_class is {count}, and there are {len(members)} slides of class {label}: lower it, or leave it out"
            )
        drawn |= set(random.Random(f"{seed} {label}").sample(members, count))
    return [row for row in rows if row.slide_id in drawn]


def _write(rows: Sequence[SlideRow], left_out: Sequence[tuple[Path, str]], table: Path) -> None:
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    named = ["slide_id"] if any(row.slide_id != stem_of(row.path) for row in rows) else []
    further = [name for name in ("mpp", "mask") if any(getattr(row, name) for row in rows)]
    columns = ["slide", *named, "label", "patient", "split", *further, *extra]
    lines = (
        {
            "slide": relative_to(row.path, table.parent),
            "slide_id": row.slide_id,
            "label": row.label,
            "patient": row.patient,
            "split": row.split,
            "mpp": row.mpp,
            "mask": relative_to(row.mask, table.parent) if row.mask else None,
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


def _report(
    rows: Sequence[SlideRow], left_out: Sequence[tuple[Path, str]], table: Path, *, notes_are_ours: bool
) -> None:
    """Log how many slides of each class are in each split, what is special about slides, and what was left out."""
    labels = _labels(rows)
    tell_patients(rows, "listing", table)
    for split in (*SPLITS, None):
        counts = Counter(row.label for row in rows if row.split == split)
        if counts:
            parts = ", ".join(
                [
                    *(f"{label} {counts[label]}" for label in labels),
                    *([f"no label {counts[None]}"] if counts[None] else []),
                ]
            )
            _LOGGER.info("  %s: %s", split or "no split", parts)
    notes = Counter(row.extra["note"] for row in rows if row.extra.get("note")) if notes_are_ours else {}
    for note, count in sorted(notes.items()):
        _LOGGER.info("  listed with a note: %d (%s)", count, note)
    for why, count in sorted(Counter(why for _, why in left_out).items()):
        _LOGGER.info("  left out: %d (%s)", count, why)
    if len(labels) < 2:
        _LOGGER.warning(
            "%s: training will refuse them", "all slides are of one class" if labels else "no slide has a label"
        )


def _labels(rows: Sequence[SlideRow]) -> list[str]:
    """The classes of the slides that have one."""
    return sorted({row.label for row in rows if row.label is not None})
