"""The slides of an inference: encoded where they are given as slides, checked against the model, listed as its dataset."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

from ..common.boundary import slide_boundary
from ..common.config_settings import Plain
from ..common.errors import RequestError, SlideError
from ..common.files import relative_to, write_csv
from ..common.option_words import Split
from ..common.progress import track
from ..common.pseudonyms import NOT_TOLD, Names
from ..encoding.embedding_file import UNKNOWN, header_of
from ..encoding.encoding_run import Wording, encoding_of, require_complete
from ..encoding.job import COLUMNS, EncodingJob, ManifestRow
from ..encoding.named_encoder import identity_of
from ..encoding.precision import in_precision, precision_like
from ..slides.table import SlideRow, find_label
from ..training.card import require_encoder
from ..training.model_card import ModelCard
from ..training.slide_item import SlideItem
from .asked_slides import empty_slides, listed_slides

_LOGGER = logging.getLogger(__name__)
SAID = Wording(
    "inference", "leave out --slides to classify the embeddings that lie there, or name another --dataset_dir"
)


class InferenceSet:
    """The slides to classify: :meth:`opened`, it yields them one after the other.

    Where slides are given each is encoded when its turn comes, and the next one while the caller has it. Else the embeddings that
    are there are taken.

    ``items`` lists those that could be classified so far, ``manifest`` what became of those encoded, and of the others.

    ``other_labels`` has, by slide id, the labels that are none of the model's classes.

    Args:
        slides: a slide, a folder or a CSV; None takes the embeddings in the encoding's folder.
        encoding: how slides become embeddings, and in which folder. Precision "auto" is that of the model's own embeddings.
        card: the model card.
        model: weights that the card belongs to.
        split: of embeddings with a table, the slides of this split alone; None: all.
    """

    def __init__(
        self,
        slides: str | None,
        encoding: EncodingJob,
        card: ModelCard,
        *,
        model: str | Path,
        split: Split | None = None,
    ) -> None:
        self.slides = slides
        self.encoding = in_precision(encoding, precision_like(card.precision, encoding.device))
        self.card = card
        self.model = model
        self.split = split
        self.other_labels: dict[str, str] = {}
        self._rows: dict[str, SlideRow] = {}
        self._entries: dict[str, ManifestRow] = {}
        self._items: dict[str, SlideItem] = {}
        self._encoded: Iterator[ManifestRow]
        self._without_thumbnail = 0
        self._replace = False

    @property
    def folder(self) -> Path:
        """Where the embeddings lie, or will."""
        return self.encoding.output

    def resolved(self, settings: Mapping[str, Plain]) -> dict[str, Plain]:
        """Settings of the config, with the precision that slides are encoded in where they say "auto"."""
        return {
            name: self.encoding.settings.precision if name == "settings#precision" else value
            for name, value in settings.items()
        }

    @property
    def items(self) -> list[SlideItem]:
        """The slides that could be classified so far."""
        return list(self._items.values())

    @property
    def manifest(self) -> list[ManifestRow]:
        """What became of the slides that were encoded, and of those that failed or hold no tissue."""
        return list(self._entries.values())

    @property
    def slide_ids(self) -> list[str]:
        """Of all slides of the request."""
        return list(self._rows)

    def item(self, slide_id: str) -> SlideItem:
        """The slide that was yielded under this id."""
        return self._items[slide_id]

    def prepare(self, *, dry_run: bool = False, replace: bool = False) -> None:
        """List the slides, and check the encoder where they are encoded, else each embedding against the model.

        Args:
            dry_run: tell what would be done.
            replace: embeddings of another request may be replaced.

        Raises:
            RequestError: the request or the table is wrong, the encoder is not the model's, or see
                :func:`..encoding.encoding_run.encoding_of`.
        """
        self._replace = replace
        listed = listed_slides(self.slides, self.folder, self.split)
        self._rows = {row.slide_id: row for row in listed}
        self._entries, self._items, self._without_thumbnail = {}, {}, 0
        self._note_other_labels()
        if self.slides is not None:
            require_encoder(self.model, self.card, identity_of(self.encoding.encoder_def()))
            self._tell_other_precision()
            if dry_run:
                with self._encoding(dry_run=True):
                    return
        else:
            self._list_embeddings()
            if dry_run:
                print(
                    f"slides: {len(self._items)} of {len(listed)} to classify by their embeddings in {self.folder}, none to encode"
                )

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Inside the block the slides can be gone over, once; the folder of the embeddings is held where slides are encoded.

        Raises:
            RequestError: see :meth:`require_slides`, and :func:`..encoding.encoding_run.encoding_of`.
            StorageError: nothing more can be written.
        """
        if self.slides is None:
            self.require_slides()
            yield
            return
        with self._encoding() as self._encoded:
            yield

    def __iter__(self) -> Iterator[SlideItem]:
        """Yield each slide that can be classified, as soon as there is its embedding.

        Raises:
            StorageError: nothing more can be written.
        """
        if self.slides is None:
            yield from track(self.items, total=len(self._items), what=SAID.work, unit="slide")
            return
        for entry in self._encoded:
            self._entries[entry.slide_id] = entry
            if entry.has_embedding and self._add(self._rows[entry.slide_id]):
                yield self._items[entry.slide_id]

    def _encoding(self, *, dry_run: bool = False) -> AbstractContextManager[Iterator[ManifestRow]]:
        return encoding_of(
            list(self._rows.values()),
            self.encoding,
            keep_table=False,
            dry_run=dry_run,
            replace=self._replace,
            said_by=SAID,
        )

    def _tell_other_precision(self) -> None:
        trained_on, now = self.card.precision, self.encoding.settings.precision
        if trained_on not in (None, now):
            _LOGGER.warning(
                "the model was trained on embeddings in %s, and the slides are encoded in %s here: scores may differ a little",
                trained_on,
                now,
            )

    def _list_embeddings(self) -> None:
        empty = empty_slides(self.folder / "manifest.csv")
        for slide_id, row in self._rows.items():
            if slide_id in empty and not (self.folder / f"{slide_id}.h5").is_file():
                self._entries[slide_id] = ManifestRow(slide_id, str(row.path), "empty", error=empty[slide_id])
            else:
                self._add(row)
        self._leave_out_other_encoders()
        if self._without_thumbnail:
            _LOGGER.warning(
                "%d slides have no thumbnail and no slide file: they are judged by their embeddings alone",
                self._without_thumbnail,
            )

    def _note_other_labels(self) -> None:
        names = self.card.class_names
        self.other_labels = {
            row.slide_id: row.label
            for row in self._rows.values()
            if row.label is not None and find_label(row, names) is None
        }
        if self.other_labels:
            _LOGGER.warning(
                "%d of %d slides have a label that the model does not know, which stays in predictions.csv and counts in no "
                "figure; expected one of %s: correct the column label",
                len(self.other_labels),
                len(self._rows),
                ", ".join(names),
            )

    def _add(self, row: SlideRow) -> bool:
        """Put a slide on the list, or mark it as failed if its embedding does not serve the model; say which."""
        path = self.folder / f"{row.slide_id}.h5"
        try:
            with slide_boundary(path):
                self._require_fit(path, row.path)
        except SlideError as error:
            self._enter_failed(row, str(error))
            return False
        label = find_label(row, self.card.class_names)
        self._items[row.slide_id] = {
            "embedding": str(path),
            "slide": str(row.path),
            "slide_id": row.slide_id,
            "patient": row.patient or "",
            "label": -1 if label is None else label,
            "thumbnail_levels": self.card.thumbnail_levels,
            "channel_range": list(self.card.channels),
        }
        return True

    def fail(self, slide_id: str, error: str) -> None:
        """Enter in the manifest that a slide failed, and why; its item stays on the list."""
        self._enter_failed(self._rows[slide_id], error)

    def _enter_failed(self, row: SlideRow, error: str) -> None:
        self._entries[row.slide_id] = ManifestRow(row.slide_id, str(row.path), "failed", error=error)

    def _leave_out_other_encoders(self) -> None:
        """Mark the slides as failed whose encoder is known and not the model's, unless it is that of all slides."""
        encoder_of = {item["slide_id"]: header_of(Path(item["embedding"])).encoder for item in self.items}
        known = set(encoder_of.values()) - {UNKNOWN}
        if len(known) < 2 or self.card.encoder not in known:
            return
        for slide_id, encoder in encoder_of.items():
            if encoder not in (UNKNOWN, self.card.encoder):
                path = self.folder / f"{slide_id}.h5"
                self.fail(
                    slide_id,
                    f"{path}: made by {encoder}, expected {self.card.encoder}, the model's: encode the slide with it",
                )
                del self._items[slide_id]

    def _require_fit(self, path: Path, slide: Path) -> None:
        """Check what an embedding says of itself against the model; its values are checked when they are read, once.

        Raises:
            SlideError: it cannot be read, holds no patch, or has other channels or too few thumbnail levels.
        """
        first, last = self.card.channels
        wanted = self.card.thumbnail_levels
        header = header_of(path)
        channels, levels = header.channels, header.levels
        if channels < last or (self.card.channel_range is None and channels > last):
            raise SlideError(
                f"{path}: {channels} channels, expected the channels {first} to {last} that the model was trained on: encode the "
                "slide with the model's encoder"
            )
        if levels is not None and levels < wanted:
            raise SlideError(
                f"{path}: a thumbnail of {levels} levels, expected the {wanted} that the model was trained on: "
                "encode the slide anew"
            )
        if wanted and levels is None and not slide.is_file():  # else T will be made from the slide
            self._without_thumbnail += 1

    @property
    def encoder(self) -> str | None:
        """Name and hash of the encoder of the embeddings; None without embeddings.

        Raises:
            RequestError: the embeddings were made by different encoders.
        """
        names = {header_of(Path(item["embedding"])).encoder for item in self.items}
        known = names - {UNKNOWN}
        if len(known) > 1:
            raise RequestError(
                f"{self.folder}: embeddings of {len(known)} different encoders, expected one: encode all anew"
            )
        return min(known or names, default=None)

    def require_slides(self) -> None:
        """Refuse a request without a slide, or on embeddings of another encoder than the model's.

        Raises:
            RequestError: neither slides nor embeddings were given, or they are of another encoder.
            SlideError: see :meth:`require_any`.
        """
        if not self._items and not self._entries:
            raise RequestError(
                f"nothing to classify: no --slides given and no embeddings in {self.folder}; name a slide, a folder or a CSV with "
                "--slides, or a folder of embeddings with --dataset_dir"
            )
        self.require_any()
        require_encoder(self.model, self.card, self.encoder)

    def require_any(self) -> None:
        """Refuse to go on where every slide failed or holds no tissue.

        Raises:
            SlideError: that is so.
        """
        if not self._items:
            raise SlideError(
                f"none of {len(self._entries)} slides can be classified, expected one at least; "
                f"{self.folder / 'manifest.csv'} says which failed and which hold no tissue"
            )

    def require_complete(self, output_dir: str | Path, names: Names) -> None:
        """Write ``manifest.csv``; raise a SlideError (exit code 1) that counts the slides that failed, all others being done.

        Args:
            output_dir: folder of the predictions.
            names: what slides are called there.
        """
        by_encoding = self.slides is not None and Path(output_dir).absolute() == self.folder.absolute()
        if not by_encoding:
            rows = self._rows_seen_from(output_dir, names)
            write_csv(Path(output_dir) / "manifest.csv", COLUMNS, (entry.cells() for entry in rows))
        require_complete(self.manifest, output_dir, total=len(self._rows))

    def _rows_seen_from(self, output_dir: str | Path, names: Names) -> list[ManifestRow]:
        """A row per slide, whose ``output`` is the path of its embedding, relative to ``output_dir``."""
        classified = [
            ManifestRow(item["slide_id"], item["slide"], "done", header_of(path).patches, output=path.name)
            for item, path in ((item, Path(item["embedding"])) for item in self.items)
            if item["slide_id"] not in self._entries
        ]
        rows = [*self.manifest, *classified]
        if names.anonymise:
            return [_without_names(row, names) for row in rows]
        return [
            replace(row, output=relative_to(self.folder / row.output, output_dir)) if row.output else row
            for row in rows
        ]


def _without_names(row: ManifestRow, names: Names) -> ManifestRow:
    """A row of the manifest that tells of a slide by its salted id alone."""
    return replace(row, slide_id=names.slide(row.slide_id), slide="", output="", error=NOT_TOLD if row.error else "")
