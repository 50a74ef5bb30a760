"""The stage ``splitting``: train, validation and test, or k folds, by label and patient; made once and kept."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from ..common.errors import RequestError
from ..common.files import relative_to, sha256_of, write_json
from ..common.option_table import checked
from ..common.option_words import Split
from ..common.outputs import HeldOutputs
from ..slides.slide_ids import place_of
from ..slides.table import SPLITS, SlideRow, class_names, copy_table, label_index, read_slides
from .patients import patients_in, tell_patients
from .split_counts import SplitCount, deviations_of, in_words, split_counts

_LOGGER = logging.getLogger(__name__)

FORMAT = "dsnet-split/1"
MAX_PARTS = 20  # a share is rounded to parts of at most this many: 0.15 is 3 of 20

Indices = NDArray[np.int64]


def split_slides(
    slides: str | Path | None,
    output_dir: str | Path,
    *,
    folds: int | None = None,
    test_share: float = 0.2,
    val_share: float = 0.2,
    keep_test: bool = False,
    seed: int = 0,
    replace: bool = False,
) -> list[Path]:
    """Write ``split.csv``, or ``fold0.csv`` ... ``fold<k-1>.csv``, and ``split.json``; keep what the same request made before.

    Each file is the table with the column ``split`` set (slide paths are made relative to it), as ``train.yaml --slides``
    takes it. A slide without a label is in no split. ``split.json`` has the shares that came out, of all slides and of each class;
    a warning names those that are off by more than `TOLERANCE`.

    Args:
        slides: CSV with the columns ``slide``, ``label`` and, where a patient has several slides, ``patient``.
        output_dir: folder of the files.
        folds: number of folds; None makes one split.
        test_share: share of the slides, of one split; 0 leaves the test split empty. With folds it is 1 / folds.
        val_share: share of all slides that chooses epoch and threshold; with ``keep_test`` of those that are divided.
        keep_test: slides that are in the split ``test`` already stay there (an official test set); the others are divided.
        seed: of the draw.
        replace: whether splits of another request may be replaced.

    Returns:
        the files.

    Raises:
        RequestError: shares or folds that cannot be, too few patients of a class, or splits of another request. Or files of others
            lie under their names (also splits of ours that were edited).
    """
    if slides is None or Path(slides).suffix.lower() != ".csv":
        raise RequestError(
            f"slides is {slides}, expected a CSV with the columns slide and label: name it with --slides"
        )
    source, output = Path(slides), Path(output_dir)
    rows = read_slides(source)
    request = {
        "table": _digest(rows, source.parent, keep_test=keep_test),
        "folds": folds,
        "test_share": None if folds or keep_test else test_share,
        "val_share": val_share,
        "keep_test": keep_test,
        "seed": seed,
    }
    splits = assign_splits(
        rows, folds=folds, test_share=test_share, val_share=val_share, keep_test=keep_test, seed=seed
    )
    names = ["split.csv"] if folds is None else [f"fold{index}.csv" for index in range(len(splits))]
    written = [*names, "split.json"]
    outputs = HeldOutputs(output, "splitting", request, writes=written, replace=replace)
    outputs.check()
    if outputs.made_before(written) and all(_lead_as(read_slides(output / name), rows) for name in names):
        _LOGGER.info("%s: made with the same request before, kept", output)
        return [output / name for name in names]
    share = _test_share(test_share, folds=folds, keep_test=keep_test)
    asked = {"train": 1 - share - val_share, "val": val_share, "test": None if keep_test else share}
    tell_patients(rows, "splitting")
    if unlabelled := sum(row.label is None for row in rows):
        _LOGGER.warning("%d of %d slides have no label and are in no split", unlabelled, len(rows))
    lost = {"val"} if keep_test else set(SPLITS)  # of train slides some become val then, as asked for
    if given := sum(row.label is not None and row.split in lost for row in rows):
        _LOGGER.warning(
            "%d slides of %s are in a split, which is drawn anew: where theirs is to stay, train on that table itself%s",
            given, source, "" if folds or keep_test else ", or keep its test slides with --keep_test true",
        )  # fmt: skip
    files, counts, deviations = dict[str, str](), dict[str, dict[Split, SplitCount]](), dict[str, list[str]]()
    with outputs:
        for name, split_of in zip(names, splits, strict=True):
            copy_table(source, output / name, {"split": split_of})
            read_slides(output / name)  # checks once more that no patient is in two splits
            files[name] = sha256_of(output / name)
            counts[name] = split_counts(rows, split_of, asked)
            deviations[name] = deviations_of(counts[name])
            if deviations[name]:
                _LOGGER.warning("%s: shares that whole patients cannot meet: %s", name, "; ".join(deviations[name]))
            _LOGGER.info("%s: %s", name, ", ".join(in_words(split, count) for split, count in counts[name].items()))
        splits_said = {name: {split: asdict(count) for split, count in own.items()} for name, own in counts.items()}
        write_json(
            output / "split.json",
            {"format": FORMAT, "request": request, "files": files, "splits": splits_said, "deviations": deviations},
        )
    return [output / name for name in names]


def assign_splits(
    rows: Sequence[SlideRow],
    *,
    folds: int | None = None,
    test_share: float = 0.2,
    val_share: float = 0.2,
    keep_test: bool = False,
    seed: int = 0,
) -> list[list[str]]:
    """Return, for every fold (or once), the split of every slide; "" for slides without a label.

    scikit-learn's ``StratifiedGroupKFold`` draws: all slides of a patient go together, whatever their classes, and each class is
    spread evenly. A class with too few patients for that is drawn from by itself (`_draw`). A slide without a patient stands for
    itself.

    Raises:
        RequestError: as for `split_slides`.
    """
    for name, value in (("folds", folds), ("test_share", test_share), ("val_share", val_share)):
        checked(name, value, null=name == "folds")
    if folds is not None and keep_test:
        raise RequestError(f"folds {folds} with keep_test: expected every slide tested once: leave one of them out")
    test_share = _test_share(test_share, folds=folds, keep_test=keep_test)
    if test_share + val_share >= 1:
        raise RequestError(
            f"test_share {test_share:g} and val_share {val_share:g}: expected shares of all slides that leave some to train on: "
            "correct --test_share or --val_share"
        )
    names = class_names(rows)
    kept = {row.patient for row in rows if keep_test and row.split == "test"}
    if keep_test and not kept:
        raise RequestError(
            "keep_test: no slide is in split test; expected some: fill the column split, or leave --keep_test out"
        )
    for row in rows:
        if row.patient and row.patient in kept and row.split != "test":
            raise RequestError(
                f"{row.path}: patient {row.patient} is in split test with other slides, which leaks; expected all slides of a "
                "patient in it: put them into split test too"
            )
    free = np.array(
        [i for i, row in enumerate(rows) if row.label is not None and not (keep_test and row.split == "test")]
    )
    if len(names) < 2 or not len(free):
        raise RequestError(f"{len(names)} classes in {len(rows)} slides, expected two or more: fill the column label")
    labels = np.array([label_index(rows[index], names) for index in free])
    groups = patients_in([rows[index] for index in free])
    mixed = sum(len(set(labels[groups == group])) > 1 for group in set(groups))
    if mixed:
        _LOGGER.info("%d patients have slides of several classes; they stay together", mixed)

    if folds is not None:
        _require_patients(names, labels, groups, folds, remedy="ask for fewer --folds, or ")
        drawn = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(free, labels, groups)
        tests = [test for _, test in drawn]
    else:
        everything = np.arange(len(free))
        tests = (
            [_draw(everything, names, labels, groups, test_share, seed, leave=2)] if test_share else [everything[:0]]
        )
    splits = []
    for test in tests:
        rest = np.setdiff1d(np.arange(len(free)), test)
        val = _draw(rest, names, labels, groups, val_share / (1 - test_share), seed, leave=1)
        split_of = ["test" if keep_test and row.split == "test" else "" for row in rows]
        for split, chosen in (("train", np.setdiff1d(rest, val)), ("val", val), ("test", test)):
            for index in free[chosen]:
                split_of[index] = split
            absent = [name for index, name in enumerate(names) if index not in labels[chosen]]
            if absent and len(chosen):
                raise RequestError(
                    f"split {split} would hold no slide of class {', '.join(absent)}: too few patients; expected every class in "
                    "every split: ask for fewer --folds, for larger shares, or for another --seed"
                )
        splits.append(split_of)
    return splits


def _draw(
    among: Indices, names: Sequence[str], labels: Indices, groups: Indices, share: float, seed: int, *, leave: int
) -> Indices:
    """Draw about ``share`` of the slides ``among``, of each class: some of n equal parts, of which m / n is near the share.

    A share under one part is one of the most parts that there can be. From a class with fewer than two patients per part that
    share of its patients is drawn first, by itself. So it does not round the share of the others. One patient at least is drawn,
    and ``leave`` stay.
    """
    patients = _require_patients(names, labels[among], groups[among], leave + 1)
    most = min(MAX_PARTS, max(patients))
    rounded = Fraction(share).limit_denominator(most)
    parts = rounded.denominator if 0 < rounded < 1 else max(2, most)
    drawn, rest = [among[:0]], among
    while len(rest):
        left = _patients(labels[rest], groups[rest], len(names))
        rarest = min((index for index in range(len(names)) if left[index]), key=left.__getitem__)
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


def _require_patients(
    names: Sequence[str], labels: Indices, groups: Indices, needed: int, *, remedy: str = ""
) -> list[int]:
    """Return how many patients each class has, or raise; what may be done besides adding patients ends with "or "."""
    counts = _patients(labels, groups, len(names))
    fewest = min(range(len(names)), key=counts.__getitem__)
    if counts[fewest] < needed:
        raise RequestError(
            f"class {names[fewest]}: slides of {counts[fewest]} patients to divide, expected {needed} or more, one per part at "
            f"least: {remedy}add patients"
        )
    return counts


def _patients(labels: Indices, groups: Indices, classes: int) -> list[int]:
    """Count the patients that have a slide of each class."""
    return [len(np.unique(groups[labels == index])) for index in range(classes)]


def _lead_as(copies: Sequence[SlideRow], rows: Sequence[SlideRow]) -> bool:
    """Whether the rows of a copy lead to the files of the table's: either may have moved since it was made."""
    places = [[place_of(path) for row in table for path in (row.path, row.mask) if path] for table in (copies, rows)]
    return places[0] == places[1]


def _digest(rows: Sequence[SlideRow], folder: Path, *, keep_test: bool) -> str:
    """Hash of all cells of the table in ``folder``, which the draw or its copies depend on, but of splits that are drawn anew."""
    cells = [
        [
            row.slide_id, relative_to(row.path, folder), row.label, row.patient, row.mpp, sorted(row.extra.items()),
            row.split if keep_test else None, relative_to(row.mask, folder) if row.mask else None,
        ]
        for row in rows
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _test_share(test_share: float, *, folds: int | None, keep_test: bool) -> float:
    """Share of the divided slides that is drawn for the test split."""
    return 1 / folds if folds else 0.0 if keep_test else test_share
