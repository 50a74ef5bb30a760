"""What lies in a data set's folder: slides that are listed, files that are left out, tables of labels."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..common.errors import RequestError
from ..slides.columns import require_commas
from ..slides.slide_search import SLIDE_SUFFIXES, find_slides
from ..slides.table import SlideRow


@dataclass
class Cohort:
    """The slides of a data set.

    Attributes:
        rows: what is listed; ``extra`` says what is special about a slide. A slide without ``patient`` is a patient of its own.
        left_out: slide files that are not, each with the reason.
    """

    rows: list[SlideRow] = field(default_factory=list)
    left_out: list[tuple[Path, str]] = field(default_factory=list)

    def leave_out(self, path: Path, why: str) -> None:
        """Note that a file is not listed."""
        self.left_out.append((path, why))


def slide_files(folder: str | Path) -> list[Path]:
    """Return the slides that :func:`..slides.slide_search.find_slides` finds in ``folder``.

    Raises:
        RequestError: there is no such folder, or no slide in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RequestError(f"{folder}: no such folder, expected the data set's: correct --slides")
    paths = find_slides(folder)
    if not paths:
        raise RequestError(f"{folder}: no slides, expected files that end in {', '.join(sorted(SLIDE_SUFFIXES))}")
    return paths


def label_file(folder: str | Path, names: Iterable[str], given: str | Path | None) -> Path | None:
    """Return the table of labels: ``given``, else the one file of these names at any depth of ``folder``, else None.

    Raises:
        RequestError: ``given`` is not there, or several files have such a name.
    """
    if given is not None:
        if not Path(given).is_file():
            raise RequestError(f"{given}: no such file, expected the data set's table of labels: correct --reference")
        return Path(given)
    wanted = {name.lower() for name in names}
    found = sorted(path for path in Path(folder).rglob("*.csv") if path.name.lower() in wanted)
    if len(found) > 1:
        raise RequestError(
            f"{folder}: {len(found)} tables of labels ({found[0]}, {found[1]}), expected one: name it with --reference"
        )
    return found[0] if found else None


def read_cells(table: Path) -> list[list[str]]:
    """Return the cells of a CSV line by line, the header among them; empty lines do not count.

    Raises:
        RequestError: it is not a CSV, or not separated by commas.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            lines = [
                [cell.strip() for cell in line] for line in csv.reader(file, strict=True) if any(map(str.strip, line))
            ]
    except (csv.Error, UnicodeDecodeError) as error:
        raise RequestError(f"{table}: not a CSV in UTF-8 ({error}): save it as comma-separated UTF-8 text") from error
    require_commas(lines[0] if lines else [], str(table))
    return lines
