"""The application's ``manifest.csv``: what became of each slide."""

from dataclasses import replace
from pathlib import Path

from scripts.common.files import write_csv
from scripts.encoding.job import COLUMNS, ManifestRow


class Manifest:
    """Keeps a row per slide, and writes the table whenever one is entered or changed.

    Args:
        path: the file.

    Attributes:
        rows: of the slides so far, in their order.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: list[ManifestRow] = []

    def enter(self, row: ManifestRow) -> None:
        """Add the row of a slide."""
        self.rows.append(row)
        self._write()

    def fail(self, slide_id: str, error: str) -> None:
        """Say of a slide that has a row that it failed after all, and why."""
        self.rows = [
            replace(row, status="failed", output="", error=error) if row.slide_id == slide_id else row
            for row in self.rows
        ]
        self._write()

    def _write(self) -> None:
        write_csv(self._path, COLUMNS, (row.cells() for row in self.rows))
