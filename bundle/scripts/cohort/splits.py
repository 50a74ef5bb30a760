"""The stage ``splitting``: train, validation and test, or k folds, by label and patient; made once and kept."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..common.errors import RequestError
from ..common.files import relative_to, sha256_of, write_json
from ..common.option_words import Split
from ..common.outputs import HeldOutputs
from ..slides.slide_ids import place_of
from ..slides.table import SPLITS, SlideRow, copy_table, read_slides
from .patients import tell_patients
from .split_counts import SplitCount, deviations_of, in_words, split_counts
from .split_draw import Division, assign_splits

_LOGGER = logging.getLogger(__name__)

FORMAT = "dsnet-split/1"


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
    asked = Division(folds=folds, test_share=test_share, val_share=val_share, keep_test=keep_test, seed=seed)
    splits = assign_splits(rows, asked)
    request = _request_of(rows, source.parent, asked)
    names = ["split.csv"] if folds is None else [f"fold{index}.csv" for index in range(len(splits))]
    written = [*names, "split.json"]
    outputs = HeldOutputs(output, "splitting", request, writes=written, replace=replace)
    outputs.check()
    if outputs.made_before(written) and all(_lead_as(read_slides(output / name), rows) for name in names):
        _LOGGER.info("%s: made with the same request before, kept", output)
        return [output / name for name in names]
    tell_patients(rows, "splitting", source)
    _tell_what_is_lost(rows, source, asked)
    with outputs:
        for name, split_of in zip(names, splits, strict=True):
            copy_table(source, output / name, {"split": split_of})
            read_slides(output / name)  # checks once more that no patient is in two splits
        counts = {
            name: split_counts(rows, split_of, asked.shares) for name, split_of in zip(names, splits, strict=True)
        }
        _tell_shares(counts)
        _write_record(output, request, counts)
    return [output / name for name in names]


def _request_of(rows: Sequence[SlideRow], folder: Path, asked: Division) -> dict[str, object]:
    """What the files depend on, for a table in ``folder``."""
    return {
        "table": _digest(rows, folder, keep_test=asked.keep_test),
        "folds": asked.folds,
        "test_share": None if asked.folds or asked.keep_test else asked.test_share,
        "val_share": asked.val_share,
        "keep_test": asked.keep_test,
        "seed": asked.seed,
    }


def _tell_what_is_lost(rows: Sequence[SlideRow], source: Path, asked: Division) -> None:
    """Warn of slides that come into no split, and of splits that are drawn anew."""
    if unlabelled := sum(row.label is None for row in rows):
        _LOGGER.warning("%d of %d slides have no label and are in no split", unlabelled, len(rows))
    lost = {"val"} if asked.keep_test else set(SPLITS)  # of train slides some become val then, as asked for
    if given := sum(row.label is not None and row.split in lost for row in rows):
        _LOGGER.warning(
            "%d slides of %s are in a split, which is drawn anew: where theirs is to stay, train on that table itself%s",
            given, source, "" if asked.folds or asked.keep_test else ", or keep its test slides with --keep_test true",
        )  # fmt: skip


def _tell_shares(counts: Mapping[str, Mapping[Split, SplitCount]]) -> None:
    """Log the shares of each file; warn where they are off."""
    for name, own in counts.items():
        if deviations := deviations_of(own):
            _LOGGER.warning("%s: shares that whole patients cannot meet: %s", name, "; ".join(deviations))
        _LOGGER.info("%s: %s", name, ", ".join(in_words(split, count) for split, count in own.items()))


def _write_record(
    output: Path, request: Mapping[str, object], counts: Mapping[str, Mapping[Split, SplitCount]]
) -> None:
    """Write ``split.json``: how the files were made, and what they hold."""
    write_json(
        output / "split.json",
        {
            "format": FORMAT,
            "request": request,
            "files": {name: sha256_of(output / name) for name in counts},
            "splits": {name: {split: asdict(count) for split, count in own.items()} for name, own in counts.items()},
            "deviations": {name: deviations_of(own) for name, own in counts.items()},
        },
    )


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
