"""Any data set: one folder per class, or a table with other column names."""

import re
import unicodedata
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from ..common.errors import RequestError
from ..common.option_words import Split
from ..slides.columns import COLUMNS, near_misses, require_header
from ..slides.labels import parse_word
from ..slides.table import SPLITS, SlideRow, parse_row
from .found import Cohort, read_cells, slide_files

_MEANT: dict[str, Split] = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "testing": "test",
    **{name: name for name in SPLITS},
}
"""Names of folders that may be meant as a split, small."""


def list_folder(slides: str | Path, *, patient_pattern: str | None = None) -> Cohort:
    """List a folder with a sub-folder per class, or with sub-folders train, val and test that hold those.

    Args:
        slides: the folder.
        patient_pattern: regular expression, searched in a file's name without suffix, whose first group (or whole match) is the
            patient; by default the rows name none.

    Raises:
        RequestError: a slide lies in no class's folder, such a folder's name stands for no label, or the pattern is none or does
            not fit a name.
    """
    try:
        pattern = None if patient_pattern is None else re.compile(patient_pattern)
    except re.error as error:
        raise RequestError(f"patient_pattern {patient_pattern!r}: not a regular expression ({error})") from error
    cohort = Cohort()
    for path in slide_files(slides):
        *folders, _name = path.relative_to(slides).parts
        split = next((one for one in SPLITS if folders[:1] == [one]), None)
        folders = folders if split is None else folders[1:]
        if not folders:
            raise RequestError(
                f"{path}: lies in no class's folder, expected {slides}/CLASS/{path.name}: move it, or use --cohort table"
            )
        patient = None
        if pattern is not None:
            match = pattern.search(path.stem)
            if match is None:
                raise RequestError(f"{path}: patient_pattern {patient_pattern!r} is not found in its name: correct it")
            patient = match[1] if pattern.groups else match[0]
            if parse_word(patient or "") is None:
                raise RequestError(
                    f"{path}: patient_pattern {patient_pattern!r} finds no patient in its name (its first group holds "
                    f"{patient!r}), expected one for every slide: correct it; groups that only join, as in A(?:1|2), begin with ?:"
                )
        cohort.rows.append(SlideRow("", path, _class_of(folders, path), patient=patient, split=split))
    return cohort


def _class_of(folders: list[str], path: Path) -> str:
    """Return the class that a slide's folder is of, or raise a RequestError."""
    if len(folders) > 1 and folders[0].casefold() in _MEANT:
        meant = _MEANT[folders[0].casefold()]
        raise RequestError(
            f"{path}: folder {folders[0]} would be a class, expected a split to be called {meant}: rename it"
        )
    label = parse_word(folders[0])
    if label is None:
        raise RequestError(
            f"{path}: the folder's name {folders[0]!r} stands for a missing label, expected that of a class: rename the folder"
        )
    return label


def list_table(
    slides: str | Path, *, columns: dict[str, str] | None = None, slide_folder: str | Path | None = None
) -> Cohort:
    """List a CSV whose columns have other names.

    Args:
        slides: the CSV.
        columns: its name of any of slide, slide_id, label, patient, split, mpp and mask; other columns are kept as they are.
        slide_folder: folder with the files, at any depth, that the slide column names by file name, with or without suffix; by
            default the column holds paths relative to the CSV.

    Raises:
        RequestError: the table is malformed, lacks a column, or has one that may be meant as one of ours; or a slide that it names
            is not there, or may be several files.
    """
    table = Path(slides)
    if not table.is_file():
        raise RequestError(f"{table}: no such file, expected a CSV: correct --slides")
    theirs = {"slide": "slide", **(columns or {})}
    if unknown := sorted(set(theirs) - set(COLUMNS)):
        raise RequestError(f"columns name {', '.join(unknown)}, expected any of {', '.join(COLUMNS)}")
    header, *lines = read_cells(table) or [[]]
    if missing := [name for name in theirs.values() if name not in header]:
        raise RequestError(
            f"{table}: no column {', '.join(missing)} (it has {', '.join(header) or 'none'}), expected it: name its columns with "
            "--columns \"{'slide': ..., 'label': ...}\""
        )
    require_header(header, str(table))
    if twice := [our for our, name in theirs.items() if our != name and our in header]:
        raise RequestError(
            f"{table}: columns {theirs[twice[0]]} and {twice[0]} would both be {twice[0]}: rename the latter"
        )
    ours = {name: our for our, name in theirs.items()}
    renamed = [ours.get(name, name) for name in header]
    for name, our in near_misses(renamed):
        raise RequestError(
            f"{table}: column {name}, expected {our}, the name that is read: rename it, or where it is something else call it "
            "otherwise" + (f"; --columns \"{{'{our}': '{name}'}}\" takes it as it is" if our in COLUMNS else "")
        )
    place = None if slide_folder is None else _Places(slide_folder)
    cohort = Cohort()
    for number, cells in enumerate(lines, 1):
        where = f"{table}, slide {number}"
        if len(cells) != len(header):
            raise RequestError(f"{where}: {len(cells)} cells, expected {len(header)}: quote cells that hold a comma")
        row = parse_row(dict(zip(renamed, cells, strict=True)), table.parent, where)
        if place is not None:
            row = replace(row, path=place.of(row.path.name))
        cohort.rows.append(row)
    return cohort


class _Places:
    """Finds slide files by name below a folder, whatever the Unicode form of an umlaut."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = folder
        self._paths: defaultdict[str, list[Path]] = defaultdict(list)
        for path in slide_files(folder):
            for name in {path.name, path.stem, path.stem.removesuffix(".ome")}:
                self._paths[unicodedata.normalize("NFC", name)].append(path)

    def of(self, name: str) -> Path:
        """Return the file of that name, with or without suffix; of a Windows path, of what follows the last backslash.

        Raises:
            RequestError: there is none, or there are several.
        """
        name = unicodedata.normalize("NFC", name)
        found = self._paths[name] or self._paths[name.rpartition("\\")[2]]
        if len(found) != 1:
            raise RequestError(
                f"{self._folder}: {len(found)} files for slide {name}, expected one: correct the table or --slide_folder"
            )
        return found[0]
