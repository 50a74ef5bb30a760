"""The header of a table: other separators than commas, names given twice and near misses of our columns are refused."""

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from itertools import product

from ..common.errors import RequestError

COLUMNS = ("slide", "slide_id", "label", "patient", "split", "mpp", "mask")

_PERSONS = ("patient", "pat", "pt", "case", "subject", "participant", "person", "individual", "donor")
_NUMBERED = ("id", "no", "nr", "number", "code", "name")

SYNONYMS = {
    "slide": (
        "slides", "slide_path", "slide_file", "slide_name", "path", "file", "file_name", "file_path", "wsi", "wsi_path", "wsi_file",
        "image", "image_path", "image_file", "slide_id",
    ),
    "label": (
        "labels", "label_name", "label_id", "slide_label", "class", "classes", "class_name", "class_label", "class_id", "category",
        "target", "targets", "ground_truth", "gt",
    ),
    "patient": (
        *(f"{person}_{number}" for person, number in product(_PERSONS, _NUMBERED)),
        "case", "subject", "participant", "person", "individual", "donor", "patient_barcode", "bcr_patient_barcode", "pid",
        "case_submitter_id", "submitter_id", "study_id", "record_id", "mrn", "medical_record_number", "hospital_number",
        "hospital_no", "nhs_number", "nhs_no", "patientenid", "patientennummer", "patientennr", "fallnummer", "fallnr",
    ),
    "split": ("splits", "split_name", "data_split", "dataset_split", "set", "subset", "partition", "train_test", "train_val_test"),
    "mpp": (
        "mpp_x", "mpp_y", "mpp_um", "mpp_0", "level0_mpp", "mpp_level0", "base_mpp", "slide_mpp", "um_per_pixel", "um_per_px",
        "um_px", "um_pixel", "microns_per_pixel", "micron_per_pixel", "micrometres_per_pixel", "micrometers_per_pixel",
        "pixel_size",
        "pixel_size_um", "pixel_spacing", "spacing",
    ),
}  # fmt: skip
"""What others call our columns. Such a column is kept as it is where ours is there, too."""

_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}
_BRACKETS = re.compile(r"[(\[{\uff08]")
_CLOSE = 0.8
_SHORTEST = 5
"""Letters of a name of ours from which on a slip of the pen can be told from another word."""


def require_header(cells: Sequence[str], where: str) -> None:
    """Refuse a first line that is not separated by commas, or in which a name stands twice.

    Args:
        cells: of the line, without surrounding space.
        where: names the file in the error.

    Raises:
        RequestError: it is such a line.
    """
    require_commas(cells, where)
    name, times = max(Counter(cells).items(), key=lambda item: item[1], default=("", 0))
    if times > 1:
        what = f"column {name} is there {times} times" if name else f"{times} columns have no name"
        raise RequestError(f"{where}: {what}, expected each name once: rename or remove all but one")


def require_commas(cells: Sequence[str], where: str) -> None:
    """Refuse a line whose cells are separated by something else.

    Raises:
        RequestError: the one cell of the line holds another separator.
    """
    found = [name for character, name in _SEPARATORS.items() if len(cells) == 1 and character in cells[0]]
    if found:
        raise RequestError(
            f"{where}: separated by {found[0]}, expected commas: save the table as comma-separated text (CSV)"
        )


def require_slide_columns(header: Sequence[str], where: str) -> None:
    """Refuse the header of a table of slides that lacks the column slide, or has one that may be meant as one of ours.

    Raises:
        RequestError: names the column, and ours.
    """
    require_commas(header, where)
    if "slide" not in header:
        meant = next((name for name, own in near_misses(header) if own == "slide"), None)
        remedy = "add a header with the column slide" if meant is None else f"rename {meant} to slide"
        named = ", ".join(filter(None, header)) or "none"
        raise RequestError(f"{where}: columns {named}, expected slide among them: {remedy}")
    require_header(header, where)
    for name, own in near_misses(header):
        raise RequestError(
            f"{where}: column {name}, expected {own}, the name that is read: rename it, or where it is something else call it "
            "otherwise"
        )


def near_misses(header: Sequence[str]) -> list[tuple[str, str]]:
    """Return the columns that may be meant as one of ours but are not called so, each with our name.

    The same letters and digits always count. A synonym, or a slip of the pen, counts where the column itself is not there, whatever
    stands behind it in brackets.
    """
    absent = [own for own in COLUMNS if own not in header]
    meant = [(name, _meant(name, absent)) for name in header]
    return [(name, own) for name, own in meant if own is not None]


def _meant(name: str, absent: Sequence[str]) -> str | None:
    word = _letters(_BRACKETS.split(name)[0])
    for own in absent:
        if word in map(_letters, (own, *SYNONYMS.get(own, ()))):
            return own
    if name in COLUMNS:
        return None
    ours, letters = {_letters(own): own for own in COLUMNS}, _letters(name)
    if letters in ours:
        return ours[letters]
    long = {_letters(own): own for own in absent if len(own) >= _SHORTEST}
    close = difflib.get_close_matches(word, long, n=1, cutoff=_CLOSE)
    return long[close[0]] if close and abs(len(close[0]) - len(word)) <= 1 else None


def _letters(name: str) -> str:
    """Letters and digits of a name, small; the micro sign counts as u."""
    plain = unicodedata.normalize("NFKC", name).casefold().replace("\N{GREEK SMALL LETTER MU}", "u")
    return re.sub(r"[\W_]+", "", plain)
