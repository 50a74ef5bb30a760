"""Which slides are of one patient. A slide that names none stands for a patient of its own."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..slides.labels import spelling_of
from ..slides.table import SlideRow, without_zeros

_LOGGER = logging.getLogger(__name__)


def patients_in(rows: Sequence[SlideRow]) -> NDArray[np.int64]:
    """Number of each slide's patient, in which 007 and 7 are one; a pair cannot collide with a patient's name."""
    keys = [("patient", without_zeros(row.patient)) if row.patient else ("slide", row.slide_id) for row in rows]
    number = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    return np.array([number[key] for key in keys])


def named_by_slides(rows: Sequence[SlideRow]) -> list[SlideRow]:
    """Call each slide's patient by the slide's id, where no slide names a patient and no two ids are spellings of one name."""
    names = {spelling_of(row.slide_id) for row in rows}
    if any(row.patient for row in rows) or len(names) < len(rows):
        return list(rows)
    return [replace(row, patient=row.slide_id) for row in rows]


def tell_patients(rows: Sequence[SlideRow], stage: str, table: Path) -> None:
    """Log how many patients ``table`` has, and warn where some slides name none, or one number is written in several ways."""
    named = sum(row.patient is not None for row in rows)
    note = "" if named else " (no slide names a patient, so each counts as one: see the column patient)"
    _LOGGER.info("%s: %d slides of %d patients%s", stage, len(rows), len(set(patients_in(rows))), note)
    if 0 < named < len(rows):
        _LOGGER.warning(
            "%d of %d slides name no patient, and each of them counts as a patient of its own: where a spreadsheet had merged "
            "cells, fill all of them in, or slides of one patient may come into several splits", len(rows) - named, len(rows),
        )  # fmt: skip
    spellings: dict[str, set[str]] = {}
    for patient in (row.patient for row in rows if row.patient):
        spellings.setdefault(without_zeros(patient), set()).add(patient)
    if several := [sorted(patients) for patients in spellings.values() if len(patients) > 1]:
        _LOGGER.warning(
            "the numbers of %d patients are written with and without leading zeros, as 007 and 7, and count as one each: write "
            "them alike, or tell them apart by a letter; to find them, sort %s by the number in its column patient",
            len(several), table,
        )  # fmt: skip
        for patients in several:
            _LOGGER.debug("one patient: %s", ", ".join(patients))
