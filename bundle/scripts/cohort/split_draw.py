"""Which slides are drawn for train, val and test: by label and patient, the same draw on every machine."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import Split
from ..slides.table import SlideRow, class_names, label_index
from .patients import patients_in

_LOGGER = logging.getLogger(__name__)

MAX_PARTS = 20  # a share is rounded to parts of at most this many: 0.15 is 3 of 20

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Division:
    """What is asked of a draw.

    Attributes:
        folds: number of folds; None makes one split.
        test_share: share of the slides, of one split; 0 leaves the test split empty. With folds it is 1 / folds.
        val_share: share of all slides that chooses epoch and threshold; with ``keep_test`` of those that are divided.
        keep_test: slides that are in the split ``test`` already stay there (an official test set); the others are divided.
        seed: of the draw.

    Raises:
        RequestError: a value is out of its range, or the values contradict each other.
    """

    folds: int | None = None
    test_share: float = 0.2
    val_share: float = 0.2
    keep_test: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("folds", "test_share", "val_share"):
            checked(name, getattr(self, name), null=name == "folds")
        if self.folds is not None and self.keep_test:
            raise RequestError(
                f"folds {self.folds} with keep_test: expected every slide tested once: leave one of them out"
            )
        if self.drawn_test_share + self.val_share >= 1:
            raise RequestError(
                f"test_share {self.drawn_test_share:g} and val_share {self.val_share:g}: expected shares of all slides that leave "
                "some to train on: correct --test_share or --val_share"
            )

    @property
    def drawn_test_share(self) -> float:
        """Share of the divided slides that is drawn for the test split."""
        return 1 / self.folds if self.folds else 0.0 if self.keep_test else self.test_share

    @property
    def shares(self) -> dict[str, float | None]:
        """Share of the divided slides per split; None for a test split that stays as it is."""
        test = self.drawn_test_share
        return {"train": 1 - test - self.val_share, "val": self.val_share, "test": None if self.keep_test else test}

    def keeps(self, row: SlideRow) -> bool:
        """Whether a slide stays in the test split that it is in."""
        return self.keep_test and row.split == "test"


class _Slides(NamedTuple):
    """The slides that are divided.

    Attributes:
        places: in the table, (n,).
        labels: number of the class, (n,).
        patients: number of the patient, (n,).
        classes: their names.
    """

    places: Indices
    labels: Indices
    patients: Indices
    classes: Sequence[str]


def assign_splits(rows: Sequence[SlideRow], asked: Division) -> list[list[str]]:
    """Return, for every fold (or once), the split of every slide; "" for slides without a label.

    scikit-learn's ``StratifiedGroupKFold`` draws: all slides of a patient go together, whatever their classes, and each class is
    spread evenly. A class with too few patients for that is drawn from by itself (`_draw`). A slide without a patient stands for
    itself.

    Raises:
        RequestError: too few patients or classes, or a patient of a kept test split has other slides.
    """
    _require_whole_test(rows, asked)
    slides = _divided(rows, asked)
    everything = np.arange(len(slides.places))
    val_share = asked.val_share / (1 - asked.drawn_test_share)
    splits = []
    for test in _tests(slides, asked):
        rest = np.setdiff1d(everything, test)
        val = _draw(slides, rest, val_share, asked.seed, leave=1)
        chosen: dict[Split, Indices] = {"train": np.setdiff1d(rest, val), "val": val, "test": test}
        _require_all_classes(slides, chosen)
        split_of = ["test" if asked.keeps(row) else "" for row in rows]
        for split, indices in chosen.items():
            for place in slides.places[indices]:
                split_of[place] = split
        splits.append(split_of)
    return splits


def _require_whole_test(rows: Sequence[SlideRow], asked: Division) -> None:
    """Refuse a test split to be kept that holds no slide, or some slides of a patient alone."""
    patients = {row.patient for row in rows if asked.keeps(row)}
    if asked.keep_test and not patients:
        raise RequestError(
            "keep_test: no slide is in split test; expected some: fill the column split, or leave --keep_test out"
        )
    for row in rows:
        if row.patient and row.patient in patients and row.split != "test":
            raise RequestError(
                f"{row.path}: patient {row.patient} is in split test with other slides, which leaks; expected all slides of a "
                "patient in it: put them into split test too"
            )


def _divided(rows: Sequence[SlideRow], asked: Division) -> _Slides:
    """Return the slides that have a label and do not stay where they are."""
    classes = class_names(rows)
    places = np.array([i for i, row in enumerate(rows) if row.label is not None and not asked.keeps(row)])
    if len(classes) < 2 or not len(places):
        raise RequestError(f"{len(classes)} classes in {len(rows)} slides, expected two or more: fill the column label")
    labels = np.array([label_index(rows[place], classes) for place in places])
    patients = patients_in([rows[place] for place in places])
    mixed = sum(len(set(labels[patients == patient])) > 1 for patient in set(patients))
    if mixed:
        _LOGGER.info("%d patients have slides of several classes; they stay together", mixed)
    return _Slides(places, labels, patients, classes)


def _tests(slides: _Slides, asked: Division) -> list[Indices]:
    """Return the test slides of each fold, or of the one split."""
    everything = np.arange(len(slides.places))
    if asked.folds is not None:
        _require_patients(slides, everything, asked.folds, remedy="ask for fewer --folds, or ")
        folds = StratifiedGroupKFold(asked.folds, shuffle=True, random_state=asked.seed)
        return [test for _, test in folds.split(everything, slides.labels, slides.patients)]
    share = asked.drawn_test_share
    return [_draw(slides, everything, share, asked.seed, leave=2) if share else everything[:0]]


def _draw(slides: _Slides, among: Indices, share: float, seed: int, *, leave: int) -> Indices:
    """Draw about ``share`` of the slides ``among``, of each class: some of n equal parts, of which m / n is near the share.

    A share under one part is one of the most parts that there can be. From a class with fewer than two patients per part that
    share of its patients is drawn first, by itself. So it does not round the share of the others. One patient at least is drawn,
    and ``leave`` stay.
    """
    labels, groups, classes = slides.labels, slides.patients, len(slides.classes)
    patients = _require_patients(slides, among, leave + 1)
    most = min(MAX_PARTS, max(patients))
    rounded = Fraction(share).limit_denominator(most)
    parts = rounded.denominator if 0 < rounded < 1 else max(2, most)
    drawn, rest = [among[:0]], among
    while len(rest):
        left = _patients(labels[rest], groups[rest], classes)
        rarest = min((index for index in range(classes) if left[index]), key=left.__getitem__)
        if left[rarest] >= 2 * parts:
            folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
            found = [test for _, test in folds.split(rest, labels[rest], groups[rest])]
            count = _nearest([len(part) for part in found], share, least=1, most=parts - 1)
            drawn.append(rest[np.concatenate(found[:count])])
            break
        pool = np.random.default_rng((seed, rarest)).permutation(np.unique(groups[rest][labels[rest] == rarest]))
        whole = left[rarest] == patients[rarest]
        sizes = [int((groups[rest] == patient).sum()) for patient in pool]
        count = _nearest(sizes, share, least=int(whole), most=len(pool) - leave * whole)
        drawn.append(rest[np.isin(groups[rest], pool[:count])])
        rest = rest[~np.isin(groups[rest], pool)]
    return np.sort(np.concatenate(drawn))


def _nearest(sizes: Sequence[int], share: float, *, least: int, most: int) -> int:
    """Return how many of the first pieces, ``least`` to ``most``, together come nearest to ``share`` of all."""
    sums = np.concatenate([[0], np.cumsum(sizes)])
    return least + int(np.abs(sums[least : most + 1] - share * sums[-1]).argmin())


def _require_patients(slides: _Slides, among: Indices, needed: int, *, remedy: str = "") -> list[int]:
    """Return how many patients each class has, or raise; what may be done besides adding patients ends with "or "."""
    counts = _patients(slides.labels[among], slides.patients[among], len(slides.classes))
    fewest = min(range(len(counts)), key=counts.__getitem__)
    if counts[fewest] < needed:
        raise RequestError(
            f"class {slides.classes[fewest]}: slides of {counts[fewest]} patients to divide, expected {needed} or more, one per "
            f"part at least: {remedy}add patients"
        )
    return counts


def _require_all_classes(slides: _Slides, chosen: Mapping[Split, Indices]) -> None:
    for split, indices in chosen.items():
        absent = [name for index, name in enumerate(slides.classes) if index not in slides.labels[indices]]
        if absent and len(indices):
            raise RequestError(
                f"split {split} would hold no slide of class {', '.join(absent)}: too few patients; expected every class in "
                "every split: ask for fewer --folds, for larger shares, or for another --seed"
            )


def _patients(labels: Indices, patients: Indices, classes: int) -> list[int]:
    """Count the patients that have a slide of each class."""
    return [len(np.unique(patients[labels == index])) for index in range(classes)]
