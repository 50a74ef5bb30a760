"""Camelyon16: labels from file names and ``reference.csv``, the official split, and the traps that its organisers name.

Sources: the data set's README (https://camelyon17.grand-challenge.org/Data/, file ``camelyon16_readme.md``); Litjens et al.,
GigaScience 7(6), 2018. Slides are named ``normal_001``, ``tumor_001`` and ``test_001`` (first release: ``Normal_001``).
"""

import re
from pathlib import Path

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import DropOrKeep, Normal086, Split
from ..slides.table import SlideRow
from .found import Cohort, label_file, read_cells, slide_files

_NAME = re.compile(r"(normal|tumor|test)_(\d{2,3})", re.IGNORECASE)
_LABELS = dict.fromkeys(("normal", "negative"), "normal") | dict.fromkeys(
    ("tumor", "tumour", "positive", "macro", "micro", "itc"), "tumor"
)
PARTLY_ANNOTATED = frozenset({10, 15, 18, 20, 25, 29, 33, 34, 44, 46, 51, 54, 55, 56, 67, 79, 85, 92, 95, 110})
"""Numbers of the training tumour slides whose outlines are not exhaustive (README): their slide labels hold."""

SlideName = tuple[str, int]
"""Kind and number, such as ("tumor", 111)."""


def list_camelyon16(
    slides: str | Path,
    *,
    reference: str | Path | None = None,
    normal_086: Normal086 = "relabel",
    test_049: DropOrKeep = "drop",
    test_114: DropOrKeep = "keep",
) -> Cohort:
    """List the slides below ``slides``, in any of the layouts in which the set is handed out.

    Every slide is its own patient: the set names none, and is understood to have one slide per patient.

    Args:
        slides: the data set's folder.
        reference: labels of the test slides; by default ``reference.csv`` (or ``GT.csv``) somewhere below ``slides``.
        normal_086: "relabel": found to hold tumour and released again as ``tumor_111``, so its label is tumor, and it is left out
            where ``tumor_111`` is there; "drop"; "keep": normal, as in the first release and as the paper counts (160 normal, 110
            tumor).
        test_049: "drop": a duplicate of another slide (which one, the organisers do not say), removed by them; "keep".
        test_114: "keep": its outlines are not exhaustive, its slide label holds; "drop".

    Returns:
        rows of split train or test; column ``note`` says what was done with a slide, and why.

    Raises:
        RequestError: an option is unknown, there is no slide of the set, or a test slide has no label.
    """
    checked("normal_086", normal_086)
    checked("test_049", test_049)
    checked("test_114", test_114)
    cohort = Cohort()
    files = _by_name(slide_files(slides), cohort)
    if not files:
        raise RequestError(
            f"{slides}: no slide of Camelyon16, expected files such as normal_001.tif, tumor_001.tif or test_001.tif"
        )
    table = label_file(slides, ("reference.csv", "gt.csv"), reference)
    labels = {} if table is None else _read_reference(table)
    released_again = ("tumor", 111) in files
    traps = {
        ("normal", 86): {
            "relabel": (None if released_again else "tumor", "holds tumour; released again as tumor_111"),
            "drop": (None, "holds tumour; released again as tumor_111"),
            "keep": ("normal", "holds tumour, label of the first release kept"),
        }[normal_086],
        ("test", 49): (None if test_049 == "drop" else "", "duplicate of another slide"),
        ("test", 114): (None if test_114 == "drop" else "", "outlines not exhaustive"),
        **{("tumor", number): ("", "outlines not exhaustive") for number in PARTLY_ANNOTATED},
    }
    for slide, path in files.items():
        kind, number = slide
        label, note = traps.get(slide, ("", ""))
        if label is None:
            cohort.leave_out(path, note)
            continue
        if not label:
            label = _test_label(path, number, labels, table) if kind == "test" else kind
        split: Split = "test" if kind == "test" else "train"
        name = f"{kind}_{number:03d}"
        cohort.rows.append(SlideRow("", path, label, patient=name, split=split, extra={"note": note}))
    return cohort


def _by_name(paths: list[Path], cohort: Cohort) -> dict[SlideName, Path]:
    """Return the first file of each slide; masks and second copies are left out."""
    files: dict[SlideName, Path] = {}
    for path in paths:
        match = _NAME.fullmatch(path.stem)
        if match is None:
            cohort.leave_out(path, "not named as a slide of the set")
        elif (slide := (match[1].lower(), int(match[2]))) in files:
            cohort.leave_out(path, "second file of one slide")
        else:
            files[slide] = path
    return files


def _read_reference(table: Path) -> dict[int, str]:
    """Return the label of every test slide by number.

    Two layouts are handed out: without header, ``test_001,Tumor,IDC,Macro``, and with a header that has the columns ``image`` and
    ``class``, ``test_001.tif,...``. Both name the slide first, and one cell at least after it says which class.
    """
    labels: dict[int, str] = {}
    for cells in read_cells(table):
        match = re.fullmatch(r"test_(\d{2,3})(\.tif)?", cells[0], re.IGNORECASE)
        if match is None:
            continue
        said = {_LABELS[cell.lower()] for cell in cells[1:] if cell.lower() in _LABELS}
        if len(said) != 1:
            raise RequestError(
                f"{table}: says {' and '.join(sorted(said)) or 'nothing'} of {cells[0]}, expected one of normal and tumor: fetch "
                "it anew"
            )
        labels[int(match[1])] = said.pop()
    if not labels:
        raise RequestError(
            f"{table}: no test slide in it, expected lines such as test_001,Tumor: name another --reference"
        )
    return labels


def _test_label(path: Path, number: int, labels: dict[int, str], table: Path | None) -> str:
    if number not in labels:
        raise RequestError(
            f"{path}: no label, expected a line in {table or 'reference.csv'}: put the set's reference.csv below --slides, or "
            "name it with --reference"
        )
    return labels[number]
