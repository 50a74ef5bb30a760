"""Damage to tables of slides, drawn from a seeded generator."""

import csv
import io
from pathlib import Path
from random import Random

ODD_WORDS = (
    "", "NA", "nan", "1.0", "01", " a ", "Tumor", "0 ", "x" * 200_000,
    "ü", "片段", "a,b", 'a"b', "a\nb", "a\x00b", "../../x", "/", "~", "$x",
    "-", "=1+1", "a\tb", "\ufeff", "con", "%s", "train", "1e999", "-0.5", "0,25", "0.25", "nan um",
)  # fmt: skip
COLUMNS = ("slide", "label", "patient", "split", "mpp", "slide_id", "mask")
NAMES = (
    "Slide",
    "Label",
    "lable",
    "slide",
    "label",
    "",
    "patient_id",
    "class",
    "mpp_x",
    "note",
    "split",
    "slide_id",
    "x" * 500,
)


def table_part(path: Path, rng: Random) -> str:
    """Change a table: a cell, a line, a column, a sign between cells, the header, the encoding."""
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    how = rng.choice(
        (
            "cell",
            "cell",
            "cell",
            "row twice",
            "no row",
            "header",
            "no header",
            "column",
            "no column",
            "comma",
            "quote",
            "encoding",
            "ends",
            "separator",
            "sign",
        )
    )
    row, column = rng.randrange(1, len(rows)), rng.randrange(len(rows[0]))
    if how == "cell":
        rows[row][column] = rng.choice(ODD_WORDS)
    elif how == "row twice":
        rows.append(list(rows[row]))
    elif how == "no row":
        del rows[row : rng.choice((row + 1, len(rows)))]
    elif how == "header":
        rows[0][column] = rng.choice(NAMES)
    elif how == "no header":
        del rows[0]
    elif how == "column":
        for number, cells in enumerate(rows):
            cells.insert(
                column, rng.choice((*COLUMNS, "note")) if number == 0 else rng.choice(("1", "x", "0.25", "train", ""))
            )
    elif how == "no column":
        for cells in rows:
            del cells[column]
    text = io.StringIO()
    csv.writer(text, delimiter=rng.choice(";\t|") if how == "separator" else ",", lineterminator="\n").writerows(rows)
    content = text.getvalue()
    place = rng.randrange(len(content))
    signs = {"comma": ",", "quote": '"', "sign": rng.choice(["\0", "\n", "\r", ";", "\x1a", "é", "\u2028"])}
    content = content[:place] + signs.get(how, "") + content[place:]
    content = content.replace("\n", rng.choice(("\r\n", "\r", "\n\n"))) if how == "ends" else content
    encoding = rng.choice(("utf-8-sig", "utf-16", "latin-1", "utf-32", "utf-7")) if how == "encoding" else "utf-8"
    path.write_bytes(content.encode(encoding, errors="replace"))
    return f"other {how}" + (f" {rows[row][column][:20]!r}" if how == "cell" else "")
