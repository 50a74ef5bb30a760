"""Draws slides of a cohort: a number of each class, and parts held out by patient."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import replace

from ..common.errors import RequestError
from ..slides.table import SlideRow

DRAWS = 100


def draw_slides(rows: Sequence[SlideRow], count: int, *, seed: int) -> list[SlideRow]:
    """Draw ``count`` slides of each class, whatever their patient; the others are dropped.

    Raises:
        RequestError: a class has fewer.
    """
    by_label = _by(rows, [str(row.label) for row in rows])
    drawn: set[str] = set()
    for label, members in sorted(by_label.items()):
        if len(members) < count:
            raise RequestError(
                f"slides_per_class is {count}, and there are {len(members)} slides of class {label}: lower it, or leave it out"
            )
        drawn |= {row.slide_id for row in random.Random(f"{seed} {label}").sample(members, count)}
    return [row for row in rows if row.slide_id in drawn]


def hold_out(
    rows: Sequence[SlideRow], share: float, *, split: str, of: Collection[str | None], seed: int
) -> list[SlideRow]:
    """Give ``split`` to ``share`` of the slides of every class, patient by patient.

    Patients are gone through in a drawn order, and one is taken where all its slides fit into what is missing of each class; of
    ``DRAWS`` orders the first that comes closest counts. Classes come out exact where patients with few slides allow it, and no
    patient stands in two splits.

    Args:
        rows: the slides; ``slide_id`` is unique.
        share: of the slides in ``of``, 0 to below 1; 0 changes nothing.
        split: what they are given.
        of: splits that slides are taken from.
        seed: of the order.

    Raises:
        RequestError: the share lies outside its range, or leaves a class of several patients without a slide on either side.
    """
    if not 0 <= share < 1:
        raise RequestError(f"{split}_share is {share}, expected 0 to below 1")
    free = [row for row in rows if row.split in of]
    if not share or not free:
        return list(rows)
    patients = _by(free, [str(row.patient) for row in free])
    of_class = Counter(row.label for row in free)
    wanted = Counter({label: max(1, round(share * count)) for label, count in of_class.items()})
    generator = random.Random(f"{seed} {split}")
    draws = (_fill(patients, wanted, generator) for _ in range(DRAWS))
    held = max(draws, key=len)
    drawn = [replace(row, split=split) if row.slide_id in held else row for row in rows]
    for label in of_class:
        sides = {row.slide_id in held for row in free if row.label == label}
        if len(sides) < 2:
            raise RequestError(
                f"{split}_share is {share}, which leaves no slide of class {label} in {split} or none outside it: there are "
                f"{of_class[label]} of {len({row.patient for row in free if row.label == label})} patients; set {split}_share to 0"
            )
    return drawn


def _fill(patients: dict[str, list[SlideRow]], wanted: Counter[str | None], generator: random.Random) -> set[str]:
    """Take patients in a drawn order while they fit; return the ids of their slides."""
    order = sorted(patients)
    generator.shuffle(order)
    missing, held = Counter(wanted), set()
    for patient in order:
        theirs = Counter(row.label for row in patients[patient])
        if theirs <= missing:
            missing -= theirs
            held |= {row.slide_id for row in patients[patient]}
    return held


def _by(rows: Sequence[SlideRow], keys: Sequence[str]) -> dict[str, list[SlideRow]]:
    """Group by key; in a group by name, so that a draw does not depend on where the files lie."""
    groups: defaultdict[str, list[SlideRow]] = defaultdict(list)
    for key, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[1].slide_id):
        groups[key].append(row)
    return groups
