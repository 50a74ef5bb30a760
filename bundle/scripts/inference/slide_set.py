"""The slides of an inference: encoded where they are given as slides, checked against the model, listed as its dataset."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from ..common.boundary import slide_boundary
from ..common.config_settings import Plain
from ..common.errors import RequestError, SlideError, first_of
from ..common.option_words import Split
from ..common.progress import track
from ..encoding.embedding_file import header_of
from ..encoding.encoding_run import EncodingRun, Wording, encoding_of
from ..encoding.job import EncodingJob, ManifestRow
from ..encoding.manifest import KeptRows, require_complete
from ..encoding.named_encoder import identity_of
from ..encoding.precision import in_precision, precision_like
from ..slides.table import SlideRow
from ..training.card import require_encoder
from ..training.leakage import seen_splits
from ..training.model_card import ModelCard
from ..training.model_fit import (
    common_encoder,
    fitting_header,
    item_of,
    lacks_thumbnail,
    made_by_others,
    tell_without_thumbnail,
)
from ..training.slide_item import SlideItem
from .asked_slides import empty_slides, listed_slides, other_labels
from .record import SlideOrigin

_LOGGER = logging.getLogger(__name__)
SAID = Wording(
    "inference", "leave out --slides to classify the embeddings that lie there, or name another --dataset_dir"
)

NOT_PREDICTED = "encoded, but not predicted: "
"""Begins the error of a slide whose embedding is whole."""


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
        split: of the table, the slides of this split alone; None: all.
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
        self._split_seen = seen_splits(card)
        self._origins: dict[str, SlideOrigin] = {}
        self._rows: dict[str, SlideRow] = {}
        self._entries: dict[str, ManifestRow] = {}
        self._items: dict[str, SlideItem] = {}
        self._encoded: KeptRows
        self._one_manifest = False
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

    def share_manifest(self, output_dir: str | Path) -> bool:
        """Whether the embeddings, made now, and what lies in ``output_dir`` have one manifest: that of their encoding."""
        return self.slides is not None and Path(output_dir).resolve() == self.folder.resolve()

    def item(self, slide_id: str) -> SlideItem:
        """The slide that was yielded under this id."""
        return self._items[slide_id]

    def row(self, slide_id: str) -> SlideRow:
        """The slide of this id as it was listed."""
        return self._rows[slide_id]

    def origin(self, slide_id: str) -> SlideOrigin:
        """Whose the slide is that was yielded under this id, and whether the model met it, known by its embedding's fingerprint."""
        return self._origins[slide_id]

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
        self.other_labels = other_labels(listed, self.card.class_names)
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
    def opened(self, output_dir: str | Path | None = None) -> Iterator[None]:
        """Inside the block the slides can be gone over, once; the folder of the embeddings is held where slides are encoded.

        Args:
            output_dir: folder of the predictions; None: there are none.

        Raises:
            RequestError: see :meth:`require_slides`, and :func:`..encoding.encoding_run.encoding_of`.
            StorageError: nothing more can be written.
        """
        if self.slides is None:
            self.require_slides()
            yield
            return
        self._one_manifest = output_dir is not None and self.share_manifest(output_dir)
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

    def _encoding(self, *, dry_run: bool = False) -> AbstractContextManager[KeptRows]:
        run = EncodingRun(keep_table=False, dry_run=dry_run, replace=self._replace, said_by=SAID)
        return encoding_of(list(self._rows.values()), self.encoding, run)

    def _tell_other_precision(self) -> None:
        trained_on, now = self.card.precision, self.encoding.settings.precision
        if trained_on not in (None, now):
            _LOGGER.warning(
                "the model was trained on embeddings in %s, and the slides are encoded in %s here: scores may differ a little",
                trained_on,
                now,
            )

    def _list_embeddings(self) -> None:
        empty = empty_slides(self.folder)
        for slide_id, row in self._rows.items():
            if slide_id in empty and not (self.folder / f"{slide_id}.h5").is_file():
                self._entries[slide_id] = self.encoding.row_of(row, "empty", error=empty[slide_id])
            else:
                self._add(row)
        embeddings = {item["slide_id"]: Path(item["embedding"]) for item in self.items}
        for slide_id, error in made_by_others(embeddings, self.card).items():  # unless all are
            self.fail(slide_id, error)
            del self._items[slide_id]
        tell_without_thumbnail(self._without_thumbnail, self.card)

    def _add(self, row: SlideRow) -> bool:
        """Put a slide on the list, or mark it as failed if its embedding does not serve the model; say which."""
        path = self.folder / f"{row.slide_id}.h5"
        try:
            with slide_boundary(path):
                header = fitting_header(row, path, self.card)
        except SlideError as error:
            self._enter_failed(row, str(error))
            return False
        self._without_thumbnail += lacks_thumbnail(row, header)
        self._items[row.slide_id] = item_of(row, path, self.card)
        self._origins[row.slide_id] = SlideOrigin(row.patient, self._split_seen.get(header.fingerprint))
        return True

    def fail(self, slide_id: str, error: str) -> None:
        """Enter in the manifest that a slide failed, and why; its item stays on the list, and the row names its embedding."""
        self._enter_failed(self._rows[slide_id], error, Path(self._items[slide_id]["embedding"]))

    def _enter_failed(self, row: SlideRow, error: str, embedding: Path | None = None) -> None:
        patches, output = 0, ""
        with suppress(SlideError):  # it may be gone or damaged by now
            if embedding is not None:
                patches, output = header_of(embedding).patches, embedding.name
        seconds = self._entries[row.slide_id].seconds if row.slide_id in self._entries else 0.0
        entry = self.encoding.row_of(row, "failed", patches=patches, seconds=seconds, output=output, error=error)
        self._entries[row.slide_id] = entry
        if self._one_manifest:
            self._encoded.enter(entry)

    @property
    def encoder(self) -> str | None:
        """Name and hash of the encoder of the embeddings; None without embeddings.

        Raises:
            RequestError: the embeddings were made by different encoders.
        """
        return common_encoder(self.folder, (Path(item["embedding"]) for item in self.items))

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
            reasons = [entry.error for entry in self._entries.values() if entry.status == "failed"]
            raise SlideError(
                f"none of {len(self._entries)} slides can be classified, expected one at least: "
                f"{first_of(reasons) if reasons else 'all are without tissue'}"
            )

    def require_complete(self, output_dir: str | Path) -> None:
        """Raise a SlideError (exit code 1) that counts the slides that failed, all others being done.

        Args:
            output_dir: folder of the predictions, whose manifest says why.
        """
        require_complete(self.manifest, output_dir, total=len(self._rows))

    @property
    def all_rows(self) -> list[ManifestRow]:
        """What became of each slide, those included that were not encoded now."""
        return self.manifest + [
            self.encoding.row_of(self.row(slide_id), "done", patches=header_of(path).patches, output=path.name)
            for slide_id, path in ((item["slide_id"], Path(item["embedding"])) for item in self.items)
            if slide_id not in self._entries
        ]
