"""Which slides an inference is asked to classify."""

import csv
import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.option_words import Split
from ..slides.slide_ids import known_ids
from ..slides.table import SPLITS, SlideRow, find_label, read_slides

_LOGGER = logging.getLogger(__name__)


def listed_slides(slides: str | None, dataset_dir: str | Path, split: Split | None = None) -> list[SlideRow]:
    """List the slides of a request, by the ids that encoding gives them.

    Without ``slides`` they are those of the table beside the embeddings, or the embeddings themselves.

    Raises:
        RequestError: the request or the table is wrong, or no slide of it is in ``split``.
    """
    if slides is not None:
        return read_slides(slides, known=known_ids(dataset_dir))
    table = Path(dataset_dir) / "slides.csv"
    if not table.is_file():  # files of another tool, without a table
        return [SlideRow(path.stem, Path(path.stem)) for path in sorted(Path(dataset_dir).glob("[!.]*.h5"))]
    rows = [row for row in read_slides(table) if split in (None, row.split)]
    if not rows:
        raise RequestError(
            f"{table}: no slide in split {split!r}; expected one of {', '.join(SPLITS)} with slides in it"
        )
    return rows


def empty_slides(manifest: Path) -> dict[str, str]:
    """Slides in which encoding found no tissue, with its reason."""
    if not manifest.is_file():
        return {}
    expected = "the manifest that encoding writes: run it anew, or remove the file"
    with file_boundary(manifest, "not a manifest", expected), open(manifest, newline="", encoding="utf-8") as file:
        return {row["slide_id"]: row["error"] for row in csv.DictReader(file) if row["status"] == "empty"}


def other_labels(rows: Sequence[SlideRow], class_names: Sequence[str]) -> dict[str, str]:
    """The labels, by slide id, that are none of the model's classes; a warning counts them."""
    found = {row.slide_id: row.label for row in rows if row.label is not None and find_label(row, class_names) is None}
    if found:
        _LOGGER.warning(
            "%d of %d slides have a label that the model does not know, which stays in predictions.csv and counts in no "
            "figure; expected one of %s: correct the column label",
            len(found),
            len(rows),
            ", ".join(class_names),
        )
    return found
