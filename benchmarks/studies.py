"""Several studies of `make ablations` side by side, as one table in Markdown.

    python benchmarks/studies.py "S-CAE, large lesions=runs/a/ablations.csv" "S-CAE, small lesions=runs/b/ablations.csv"

A study is ``NAME=FILE``. The full network has its AUC, every other row its difference to it, each with its 95 % interval over the test
slides and, behind it, its deviation over the trainings. Bold, and counted below as a sign that holds or is the opposite of the paper's, is
a difference that is clear of both: its interval excludes zero, and so does the 95 % t interval of its mean over the trainings.
"""

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from scipy.stats import t as student

from scripts.ablations.rows import FULL, ROWS
from scripts.ablations.summary import COLUMNS
from scripts.common.errors import RequestError

Study = Mapping[str, Mapping[str, str]]


def read_study(path: Path) -> Study:
    """Return the records of an ``ablations.csv`` by row.

    Raises:
        RequestError: no such file, or another table.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file; expected the ablations.csv that make ablations writes")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if set(reader.fieldnames or ()) != set(COLUMNS):
            raise RequestError(f"{path}: other columns than those of ablations.csv; make ablations writes it anew")
        return {record["row"]: record for record in reader}


def table_of(studies: Mapping[str, Study]) -> list[str]:
    """Return the lines of the table: rows in the paper's order, one column per study."""
    lines = [f"| | {' | '.join(studies)} | paper |", "|---|" + "---|" * (len(studies) + 1)]
    for name, row in ROWS.items():
        if any(name in study for study in studies.values()):
            cells = [_cell(study[name]) if name in study else "-" for study in studies.values()]
            of_paper = row.camelyon16 if name == FULL else row.camelyon16 - ROWS[FULL].camelyon16
            lines.append(f"| {row.title} | {' | '.join(cells)} | {of_paper:{'.3f' if name == FULL else '+.3f'}} |")
    return lines


def _cell(record: Mapping[str, str]) -> str:
    name, pattern = ("auc", ".3f") if record["row"] == FULL else ("difference", "+.3f")
    if not record[name]:
        return "-"  # without the full network there is nothing to differ from
    value, low, high = (f"{float(record[key]):{pattern}}" for key in (name, f"{name}_low", f"{name}_high"))
    value = f"**{value}**" if _sign(record) in ("holds", "opposite") else value
    deviation = record["sd_over_seeds" if record["row"] == FULL else "sd_of_difference"]
    return f"{value} ({low} to {high})" + (f", {float(deviation):.3f}" if deviation else "")


def _sign(record: Mapping[str, str]) -> str:
    """The sign in the record, or "open" where the mean over the trainings may as well be zero, or no seed was repeated."""
    if record["sign"] not in ("holds", "opposite"):
        return record["sign"]
    runs = int(record["runs"])
    if runs < 2 or not record["sd_of_difference"]:
        return "open"
    margin = float(student.ppf(0.975, runs - 1)) * float(record["sd_of_difference"]) / runs**0.5
    return record["sign"] if abs(float(record["difference"])) > margin else "open"


def signs_of(study: Study) -> str:
    """Say in which rows the paper's sign holds, and in which it is the opposite."""
    found = {
        sign: [ROWS[name].title for name, record in study.items() if _sign(record) == sign]
        for sign in ("holds", "opposite")
    }
    rest = sum(_sign(record) == "open" for record in study.values())
    said = [f"{sign}: {', '.join(titles)}" for sign, titles in found.items() if titles]
    return "; ".join([*said, f"open: {rest} of {sum(bool(record['sign']) for record in study.values())}"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the signs; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "studies", nargs="+", metavar="NAME=FILE", help="an ablations.csv and what its column is called"
    )
    try:
        studies = {}
        for word in parser.parse_args(arguments).studies:
            name, equals, path = word.partition("=")
            if not (name and equals and path) or name in studies:
                raise RequestError(f"{word}: expected NAME=FILE, every name once")
            studies[name] = read_study(Path(path))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(table_of(studies)), end="\n\n")
    for name, study in studies.items():
        print(f"- {name}: {signs_of(study)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
