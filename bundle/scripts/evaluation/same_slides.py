"""Predictions of several models on the same slides: whether they are, in one order, and whose the slides are."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..common.errors import RequestError
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..slides.slide_ids import KnownIds
from ..slides.table import read_slides
from .bootstrap import Run
from .predictions import PredictionTable


def require_same_slides(reference_path: str, reference: PredictionTable, path: str, table: PredictionTable) -> None:
    """Refuse tables that are not about the same slides with the same labels.

    Args:
        reference_path: file of the table that the other is compared with.
        reference: its content.
        path: file of the other.
        table: its content.

    Raises:
        RequestError: names what differs.
    """
    if table.class_names != reference.class_names:
        raise RequestError(
            f"{path}: classes {', '.join(table.class_names)}, but {reference_path} has {', '.join(reference.class_names)}; "
            "expected the same in the same order: evaluate both models on one data set"
        )
    mine, theirs = ({p.slide_id: p.label for p in t.predictions} for t in (table, reference))
    for here, there, lacking in ((mine, theirs, reference_path), (theirs, mine, path)):
        missing = [name for name in here if name not in there]
        if missing:
            raise RequestError(
                f"{lacking}: lacks {len(missing)} slides that the other file has (the first is {missing[0]}); expected the same "
                "slides in both: evaluate both models on one split"
            )
    for name, label in mine.items():
        if label is None or label != theirs[name]:
            labels = ("none" if of[name] is None else table.class_names[of[name] or 0] for of in (mine, theirs))
            raise RequestError(
                f"{path}: slide {name} has the label {next(labels)}, in {reference_path} {next(labels)}; expected one label, the "
                "same in both: correct slides.csv and evaluate again"
            )


def aligned(table: PredictionTable, ids: Sequence[str]) -> Run:
    """Put the rows of a table in the order of ``ids``."""
    place = {prediction.slide_id: index for index, prediction in enumerate(table.predictions)}
    order = [place[name] for name in ids]
    thresholds = None if table.thresholds is None else [table.thresholds[index] for index in order]
    return Run(np.array([table.predictions[index].probabilities for index in order]), thresholds)


def patients_of(slides: str | Path, ids: Sequence[str], names: Names = AS_THEY_ARE) -> list[str | None]:
    """Return the patient of every slide, from a table; ``ids`` are as the table has them, or as ``names`` calls them.

    Raises:
        RequestError: the table lacks a slide.
    """
    rows = read_slides(slides, known=KnownIds(frozenset(ids)))
    patient_of = {name: row.patient for row in rows for name in (row.slide_id, names.slide(row.slide_id))}
    missing = [name for name in ids if name not in patient_of]
    if missing:
        raise RequestError(
            f"{slides}: does not list {len(missing)} of the {len(ids)} predicted slides (the first is {missing[0]}); expected "
            "the table that they were predicted from: name it with --slides"
        )
    return [patient_of[name] for name in ids]
