"""The slides of a request: a slide file, a folder or a CSV table."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..common.errors import RequestError
from ..common.files import relative_to, write_csv
from ..common.names import require_plain_name
from ..common.option_words import Split, words
from .columns import COLUMNS, require_slide_columns
from .labels import parse_word, require_one_spelling, sorted_words
from .slide_ids import NOTHING_KNOWN, KnownIds, distinct_ids, stem_of
from .slide_search import SLIDE_SUFFIXES, find_slides

SPLITS: tuple[Split, ...] = words(Split)
TABLE_SUFFIXES = frozenset({".tsv", ".tab", ".txt", ".xls", ".xlsx", ".ods"})
"""Of tables that are no CSV."""


@dataclass(frozen=True)
class SlideRow:
    """One slide of a request.

    Attributes:
        slide_id: Names the slide's outputs; unique in the request, whatever the case of its letters.
        path: Slide file; it need not exist (that is this slide's failure, later).
        label: Integer or class name; ``None`` where the cell is empty or says that there is none.
        patient: Whose slide it is; ``None`` as for the label.
        split: ``"train"``, ``"val"`` or ``"test"``.
        mpp: Micrometres per level-0 pixel, before what the metadata say.
        mask: File of its lesions; it need not exist either.
        extra: The other columns.
    """

    slide_id: str
    path: Path
    label: str | None = None
    patient: str | None = None
    split: Split | None = None
    mpp: float | None = None
    mask: Path | None = None
    extra: dict[str, str] = field(default_factory=dict)


def read_slides(slides: str | Path, *, known: KnownIds = NOTHING_KNOWN) -> list[SlideRow]:
    """List the slides of a request.

    Args:
        slides: a slide file; a folder, searched as :func:`.slide_search.find_slides` says; or a CSV with the column ``slide``
            (path, relative to the CSV) and any of ``slide_id``, ``label``, ``patient``, ``split``, ``mpp``, ``mask`` (a path).
        known: what the folder of their embeddings knows (:func:`.slide_ids.known_ids`): a slide that has an id there keeps it.

    Returns:
        The slides in order, with ids as :func:`.slide_ids.distinct_ids` gives them.

    Raises:
        RequestError: Nothing is there, the table is malformed, or a column or a word of it may be meant as another. Or a slide is
            listed twice, an id is none or is given twice, or a patient is in two splits.
    """
    slides = Path(slides)
    if slides.is_dir():
        rows = [SlideRow(slide_id="", path=path) for path in find_slides(slides)]
    elif not slides.is_file():
        raise RequestError(f"{slides}: no such file, expected a slide, a folder of slides or a CSV: correct the path")
    elif slides.suffix.lower() == ".csv":
        rows = _read_table(slides)
    elif slides.suffix.lower() in TABLE_SUFFIXES:
        raise RequestError(
            f"{slides}: neither a slide nor a CSV, expected a table as comma-separated UTF-8 text: save it as .csv, with the "
            "column slide"
        )
    else:
        rows = [SlideRow(slide_id="", path=slides)]
    if not rows:
        raise RequestError(
            f"{slides}: no slides, expected at least one: list slides in it, or put files there that end in "
            f"{', '.join(sorted(SLIDE_SUFFIXES))}"
        )
    return with_ids(rows, known)


def with_ids(rows: Sequence[SlideRow], known: KnownIds = NOTHING_KNOWN) -> list[SlideRow]:
    """Return the rows, each with the id that it has already or, where that is empty, one of its own.

    Raises:
        RequestError: see :func:`.slide_ids.distinct_ids`.
    """
    ids = distinct_ids([row.path for row in rows], [row.slide_id or None for row in rows], known)
    return [replace(row, slide_id=slide_id) for row, slide_id in zip(rows, ids, strict=True)]


def class_names(rows: Sequence[SlideRow], classes: Sequence[str] | None = None) -> list[str]:
    """Return the names of the classes in the order of the network's outputs.

    Args:
        rows: slides; those without a label do not count.
        classes: the order, where it is given. Otherwise numbers are sorted by value and names by the alphabet.

    Raises:
        RequestError: A label is not in ``classes``, or ``classes`` names one twice or one that stands for no label.
    """
    if classes is None:
        return sorted_words({row.label for row in rows if row.label is not None})
    names = [str(name) for name in classes]
    words = [parse_word(name) for name in names]
    if None in words:
        raise RequestError(
            f"classes {names}: {names[words.index(None)]!r} stands for a missing label, expected names of classes: rename that "
            "class, in the table too"
        )
    if len(set(words)) != len(names):
        raise RequestError(f"classes {names}: a class is named twice, expected each once")
    for row in rows:
        if row.label is not None:
            label_index(row, names)
    return names


def label_index(row: SlideRow, names: Sequence[str]) -> int:
    """Return the place of the slide's label among the class names.

    Raises:
        RequestError: The slide has no label, or one that is not among ``names``.
    """
    index = find_label(row, names)
    if index is None:
        what = "no label" if row.label is None else f"label {row.label!r}"
        raise RequestError(f"{row.path}: {what}, expected one of {', '.join(names)}: correct the column label")
    return index


def find_label(row: SlideRow, names: Sequence[str]) -> int | None:
    """Return the place of the slide's label among the class names; None where it has none, or one that is not among them."""
    words = [parse_word(name) for name in names]  # a model of an earlier version may have a class 1.0
    return words.index(row.label) if row.label is not None and row.label in words else None


def copy_table(
    source: Path, target: Path, cells: Mapping[str, Sequence[str]] | None = None, known: KnownIds = NOTHING_KNOWN
) -> None:
    """Write the CSV ``source`` as ``target`` with all its columns; paths of slides and masks are made relative to the new place.

    Where an id is not the stem of the slide's path, the column ``slide_id`` says so in the copy, so that it stays.

    Args:
        source: a table that `read_slides` takes.
        target: the copy; where it is ``source`` itself and no cells are given, nothing is done.
        cells: columns to set, or to add behind the others: one cell per row.
        known: as of `read_slides`.
    """
    if not cells and target.exists() and source.samefile(target):
        return
    with open(source, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(filled_lines(reader))
    listed = read_slides(source, known=known)
    for row, read in zip(rows, listed, strict=True):
        row["slide"] = relative_to(read.path, target.parent)
        if read.mask:
            row["mask"] = relative_to(read.mask, target.parent)
    ids = [row.slide_id for row in listed] if any(row.slide_id != stem_of(row.path) for row in listed) else None
    for name, column in {**({"slide_id": ids} if ids else {}), **(cells or {})}.items():
        columns += [] if name in columns else [name]
        for row, cell in zip(rows, column, strict=True):
            row[name] = cell
    write_csv(target, columns, rows)


def _read_table(table: Path) -> list[SlideRow]:
    """Read and check a CSV; slides are found relative to it."""
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            require_slide_columns(columns, f"{table}, line 1")
            rows = []
            lines: dict[str, int] = {}
            for cells in filled_lines(reader):
                where = f"{table}, line {reader.line_num}"
                row = parse_row(cells, table.parent, where)
                identity = os.path.realpath(row.path)  # a link to a slide of the table is that slide
                if identity in lines:
                    raise RequestError(
                        f"{where}: slide {row.path} stands in line {lines[identity]} already, expected once: "
                        "remove a line"
                    )
                lines[identity] = reader.line_num
                rows.append(row)
    except (csv.Error, UnicodeDecodeError) as error:
        raise RequestError(f"{table}: not a CSV in UTF-8 ({error}): save it as comma-separated UTF-8 text") from error
    require_consistent(rows, table)
    return rows


def require_consistent(rows: Sequence[SlideRow], source: Path) -> None:
    """Refuse a patient whose slides are in two splits, and labels or patients that differ in spelling alone.

    Args:
        rows: the slides.
        source: names what they come from.

    Raises:
        RequestError: Names the first such patient, or the first two spellings.
    """
    require_one_spelling((row.label for row in rows if row.label), "label", source, numbers=True)
    require_one_spelling((row.patient for row in rows if row.patient), "patient", source, numbers=False)
    first: dict[str, SlideRow] = {}
    for row in (row for row in rows if row.patient and row.split):
        other = first.setdefault(without_zeros(str(row.patient)), row)
        if other.split != row.split and other.patient == row.patient:
            raise RequestError(
                f"{source}: patient {row.patient} is in split {other.split} with {other.path} and in {row.split} with "
                f"{row.path}, which leaks from one to the other: put all slides of a patient in one split"
            )
        if other.split != row.split:
            raise RequestError(
                f"{source}: patients {other.patient} and {row.patient} are in splits {other.split} and {row.split}, expected one "
                "split, as they look like one patient whose zeros a spreadsheet took away: write both alike, or tell them apart by "
                "a letter"
            )


def without_zeros(patient: str) -> str:
    """Return a patient's number without the zeros before it, which a spreadsheet takes away; any other name as it is."""
    return patient.lstrip("0") if patient.isdecimal() else patient


def filled_lines(reader: Iterable[dict[str, str]]) -> Iterator[dict[str, str]]:
    """Yield the lines of a table that hold something: spreadsheets leave lines of commas, people lines of spaces."""
    for cells in reader:
        words = (word for cell in cells.values() for word in (cell if isinstance(cell, list) else [cell]))
        if any(word and word.strip() for word in words):
            yield cells


def parse_row(cells: dict[str, str], folder: Path, where: str) -> SlideRow:
    """Check the cells of one line by column; paths are relative to ``folder``, and ``where`` names the line in errors.

    ``slide_id`` is empty where no column gives it: `with_ids` fills it in.

    Raises:
        RequestError: a cell is missing or is not what its column holds.
    """
    if None in cells or None in cells.values():
        raise RequestError(f"{where}: more or fewer cells than the header has columns: quote cells that hold a comma")
    values = {name: value.strip() for name, value in cells.items()}
    for name, value in values.items():
        if "\0" in value:
            raise RequestError(f"{where}: the column {name} holds a NUL, expected text: save the table anew")
    if not values["slide"]:
        raise RequestError(f"{where}: the column slide is empty, expected a path: fill it or remove the line")
    split = next((one for one in SPLITS if one == values.get("split")), None)
    if split is None and values.get("split"):
        raise RequestError(
            f"{where}: split {values['split']!r}, expected one of {', '.join(SPLITS)} or nothing: correct it"
        )
    slide_id, mask = values.get("slide_id", ""), parse_word(values.get("mask", ""))
    return SlideRow(
        slide_id=require_plain_name(slide_id, where) if slide_id else "",
        path=folder / values["slide"],
        label=parse_word(values.get("label", "")),
        patient=parse_word(values.get("patient", "")),
        split=split,
        mpp=_parse_mpp(values.get("mpp", ""), where),
        mask=folder / mask if mask else None,
        extra={name: value for name, value in values.items() if name not in COLUMNS},
    )


def _parse_mpp(text: str, where: str) -> float | None:
    if not text:
        return None
    try:
        mpp = float(text)
    except ValueError:
        mpp = 0.0
    if not 0 < mpp < float("inf"):
        raise RequestError(
            f"{where}: mpp {text!r}, expected micrometres per pixel, such as 0.25, or nothing: correct it (decimal point)"
        )
    return mpp
