"""The datasets of a study, and which rows they serve."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..training.table import EmbeddingTable
from .rows import STRATEGIES, Row

_OF_TABLE = {"slides": "slides", "classes": "classes", "table#allow_missing": "allow_missing"}


@dataclass(frozen=True)
class Dataset:
    """The slides that a training reads.

    Attributes:
        folder: of the embeddings.
        options: of train.yaml, the same for every row; some say which slides.
    """

    folder: Path
    options: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The folder's name and, where one is named, the table's; it names the results."""
        name = self.folder.resolve().name
        return f"{name}/{Path(self.options['slides']).stem}" if "slides" in self.options else name

    def table(self, **used: Any) -> EmbeddingTable:
        """The slides as a training reads them; ``used``: how many levels of T and which channels of v."""
        given = {name: self.options[option] for option, name in _OF_TABLE.items() if option in self.options}
        return EmbeddingTable(self.folder, **given, **used)

    @cached_property
    def digest(self) -> str:
        """Names the content, see :meth:`..training.table.EmbeddingTable.digest`."""
        return self.table().digest()

    def patients(self) -> dict[str, str | None]:
        """Patient of every test slide."""
        return {item["slide_id"]: item["patient"] or None for item in self.table().items("test")}

    def reason_to_skip(self, row: Row) -> str | None:
        """Why a row cannot be run here or would repeat another one, if so."""
        of_table = row.config()["table"]
        table = self.table(levels=of_table["levels"], channel_range=of_table["channel_range"])
        made_by = table.encoder.split()[0]
        if row.encoder not in (None, made_by):
            return (
                f"{self.folder}: embeddings of {made_by}, expected {row.encoder}: encode the slides again, by an S-CAE that was "
                f"trained and is run with --encoder_def#strategy {STRATEGIES[row.name]}"
            )
        try:
            _, levels = table.channels, table.thumbnail_levels
        except RequestError as error:
            return str(error)
        if not levels and row.is_of_thumbnail:
            return (
                f"{self.folder}: some slides have neither thumbnail nor slide file, so the network runs on V alone, where this row "
                "repeats another; expected T of every slide: encode the slides with encode.yaml"
            )
        return None
