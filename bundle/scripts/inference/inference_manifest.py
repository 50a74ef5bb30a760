"""The manifest beside predictions whose embeddings lie in another folder: what became of each slide, seen from there."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ..common.files import relative_to, write_csv
from ..common.pseudonyms import NOT_TOLD, Names
from ..encoding.job import COLUMNS, ManifestRow


def write_manifest(output_dir: str | Path, rows: Iterable[ManifestRow], *, embeddings: Path, names: Names) -> None:
    """Write ``manifest.csv``.

    Args:
        output_dir: folder of the predictions.
        rows: what became of each slide, seen from ``embeddings``.
        embeddings: folder of the embeddings.
        names: what slides are called in ``output_dir``.
    """
    told = (without_names(row, names) if names.anonymise else _seen_from(output_dir, row, embeddings) for row in rows)
    write_csv(Path(output_dir) / "manifest.csv", COLUMNS, (row.cells() for row in told))


def _seen_from(output_dir: str | Path, row: ManifestRow, embeddings: Path) -> ManifestRow:
    output = relative_to(embeddings / row.output, output_dir) if row.output else ""
    return replace(row, slide=relative_to(embeddings / row.slide, output_dir), output=output)


def without_names(row: ManifestRow, names: Names) -> ManifestRow:
    """A row that tells of a slide by its salted id alone."""
    return replace(row, slide_id=names.slide(row.slide_id), slide="", output="", error=NOT_TOLD if row.error else "")
