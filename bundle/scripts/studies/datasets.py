"""The slides that a study trains and tests on."""

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..slides.lesion_mask import digest_of_masks, find_masks
from ..slides.slide_ids import place_of
from ..training.training_table import EmbeddingTable
from .recipe import StudyRecipe

_LOGGER = logging.getLogger(__name__)
_OF_TABLE = {"slides": "slides", "classes": "classes", "table#allow_missing": "allow_missing"}


@dataclass(frozen=True)
class Dataset:
    """The slides that a training reads.

    Attributes:
        folder: of the embeddings.
        options: of train.yaml, the same for every recipe; some say which slides.
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
        """Names the content, see :meth:`..training.training_table.EmbeddingTable.digest`."""
        return self.table().digest()

    def content_for(self, recipe: StudyRecipe) -> dict[str, str]:
        """Hashes of what a recipe's result depends on: its merged config, the slides, and the masks that it learns from, if any."""
        config = recipe.config(**{name: value for name, value in self.options.items() if name != "slides"})
        text = json.dumps(config, sort_keys=True, default=str)
        masks = {"masks_sha256": self._masks_digest(config["masks"])} if "masks" in config else {}
        return {"dataset_sha256": self.digest, "recipe_sha256": hashlib.sha256(text.encode()).hexdigest(), **masks}

    def _masks_digest(self, masks: str | Path | None) -> str:
        """Names the content of the lesion masks of the training and validation slides."""
        table = self.table()
        rows = [row for row in table.rows if row.split in ("train", "val")]
        return digest_of_masks(find_masks(rows, table.source, masks), mask_px=None, lesion_from=1)

    def test_slides(self) -> tuple[str, ...]:
        """Where every test slide lies."""
        return tuple(place_of(row.path) for row in self.table().rows if row.split == "test" and row.label is not None)


def draws_of(datasets: Sequence[Dataset]) -> list[int]:
    """Seed of each dataset's resamples: those of the same test slides, as two encoders give them, share one.

    Datasets that share some test slides alone are resampled apart, with a warning.
    """
    tested = [dataset.test_slides() for dataset in datasets]
    draws = [tested.index(slides) for slides in tested]
    places = [place for index in set(draws) for place in tested[index]]
    if repeated := len(places) - len(set(places)):
        _LOGGER.warning(
            "%d test slides stand in more than one dataset, which count as independent: the intervals are too narrow",
            repeated,
        )
    return draws


def datasets_of(
    folders: Sequence[str | Path], tables: Sequence[str | Path], options: Mapping[str, Any]
) -> list[Dataset]:
    """Every folder with every table; without tables, with its own.

    Raises:
        RequestError: two of them would have the same name.
    """
    of_tables = [{"slides": str(Path(table).resolve())} for table in tables] or [{}]
    datasets = [Dataset(Path(folder), {**options, **of_table}) for folder in folders for of_table in of_tables]
    if len({dataset.name for dataset in datasets}) < len(datasets):
        raise RequestError(
            "dataset_dir, slides: two folders of the same name, or two tables; expected different ones, which name the results"
        )
    return datasets
