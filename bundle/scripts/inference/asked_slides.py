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
        RequestError: the request or the table is wrong, or ``split`` is given and no table says that a slide is in it.
    """
    source = Path(dataset_dir) / "slides.csv" if slides is None else Path(slides)
    if slides is None and not source.is_file():  # files of another tool, without a table
        listed = [SlideRow(path.stem, path.with_suffix("")) for path in sorted(Path(dataset_dir).glob("[!.]*.h5"))]
    else:
        listed = read_slides(source, known=known_ids(dataset_dir))
    if split is None:
        return listed
    rows = [row for row in listed if row.split == split]
    if not rows:
        found = f"no slide in split {split!r}" if source.exists() else f"no such file, and split {split!r} is asked for"
        raise RequestError(
            f"{source}: {found}; expected a CSV with slides of it in the column split ({', '.join(SPLITS)}): name or write such a "
            "table, or leave out --split"
        )
    return rows


def empty_slides(folder: Path) -> dict[str, str]:
    """Slides in which encoding found no tissue, with its reason, as the manifest and those of shards say."""
    found: dict[str, str] = {}
    expected = "the manifest that encoding writes: run it anew, or remove the file"
    for manifest in (*sorted(folder.glob("manifest.*-of-*.csv")), *folder.glob("manifest.csv")):
        with file_boundary(manifest, "not a manifest", expected), open(manifest, newline="", encoding="utf-8") as file:
            found |= {row["slide_id"]: row["error"] for row in csv.DictReader(file) if row["status"] == "empty"}
    return found


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
