"""The slides of an inference: encoded where they are given as slides, checked against the model, listed as its dataset."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from ..common.boundary import file_boundary, slide_boundary
from ..common.config_settings import Plain
from ..common.errors import RequestError, SlideError
from ..common.files import relative_to, write_csv
from ..common.option_words import Precision, Split
from ..common.pseudonyms import NOT_TOLD, Names
from ..encoding.embedding_file import UNKNOWN, header_of
from ..encoding.encoding_run import encode_slides, require_complete
from ..encoding.job import COLUMNS, EncodingJob, ManifestRow
from ..encoding.named_encoder import identity_of
from ..encoding.precision import in_precision
from ..slides.table import SPLITS, SlideRow, find_label, read_slides
from ..training.card import require_encoder
from ..training.model_card import ModelCard
from ..training.slide_item import SlideItem

_LOGGER = logging.getLogger(__name__)


class InferenceSet:
    """The slides to classify; :meth:`prepare` encodes them where slides are given, else takes the embeddings that are there.

    ``items`` lists those that can be classified, ``manifest`` what became of the others.

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
        self.encoding = in_precision(encoding, _precision_for(card, encoding))
        self.card = card
        self.model = model
        self.split = split
        self.manifest: list[ManifestRow] = []
        self.items: list[SlideItem] = []
        self.other_labels: dict[str, str] = {}
        self._listed = 0
        self._without_thumbnail = 0

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

    def prepare(self, *, dry_run: bool = False, replace: bool = False) -> None:
        """Encode the slides where slides are given; list the embeddings that serve the model.

        Args:
            dry_run: tell what would be done instead of encoding.
            replace: embeddings of another request may be replaced.

        Raises:
            RequestError: the request or the table is wrong, the encoder is not the model's, or see
                :func:`..encoding.encoding_run.encode_slides`.
            StorageError: nothing more can be written.
        """
        rows = listed_slides(self.slides, self.folder, self.split)
        self._listed = len(rows)
        self.items.clear()  # this very list is what an evaluator goes over
        self.manifest, self._without_thumbnail = [], 0
        self.other_labels.clear()
        if self.slides is not None:
            require_encoder(self.model, self.card, identity_of(self.encoding.encoder_def()))
            elsewhere = "leave out --slides to classify the embeddings that lie there, or name another --dataset_dir"
            self.manifest = encode_slides(
                self.slides, self.encoding, keep_table=False, dry_run=dry_run, replace=replace, elsewhere=elsewhere
            )
            usable = {entry.slide_id for entry in self.manifest if entry.has_embedding}
            rows = [row for row in rows if row.slide_id in usable]
        empty = _empty_slides(self.folder / "manifest.csv") if self.slides is None else {}
        for row in rows:
            if row.slide_id in empty and not (self.folder / f"{row.slide_id}.h5").is_file():
                self.manifest.append(ManifestRow(row.slide_id, str(row.path), "empty", error=empty[row.slide_id]))
            else:
                self._add(row)
        self._leave_out_other_encoders()
        if self.other_labels:
            _LOGGER.warning(
                "%d of %d slides have a label that the model does not know, which stays in predictions.csv and counts in no "
                "figure; expected one of %s: correct the column label",
                len(self.other_labels),
                len(rows),
                ", ".join(self.card.class_names),
            )
        if self._without_thumbnail:
            _LOGGER.warning(
                "%d slides have no thumbnail and no slide file: they are judged by their embeddings alone",
                self._without_thumbnail,
            )
        if dry_run and self.slides is None:
            print(
                f"slides: {len(self.items)} of {self._listed} to classify by their embeddings in {self.folder}, none to encode"
            )

    def _add(self, row: SlideRow) -> None:
        """Put a slide on the list, or mark it as failed if its embedding does not serve the model."""
        path = self.folder / f"{row.slide_id}.h5"
        names = self.card.class_names
        try:
            with slide_boundary(path):
                self._require_fit(path, row.path)
        except SlideError as error:
            self._enter(ManifestRow(row.slide_id, str(row.path), "failed", error=str(error)))
            return
        label = find_label(row, names)
        if label is None and row.label is not None:
            self.other_labels[row.slide_id] = row.label
        self.items.append(
            {
                "embedding": str(path),
                "slide": str(row.path),
                "slide_id": row.slide_id,
                "patient": row.patient or "",
                "label": -1 if label is None else label,
                "thumbnail_levels": self.card.thumbnail_levels,
                "channel_range": list(self.card.channels),
            }
        )

    def fail(self, slide_id: str, error: str) -> None:
        """Enter in the manifest that a slide failed, and why; its item stays on the list."""
        slide = next(item["slide"] for item in self.items if item["slide_id"] == slide_id)
        self._enter(ManifestRow(slide_id, slide, "failed", error=error))

    def _enter(self, entry: ManifestRow) -> None:
        self.manifest = [*(other for other in self.manifest if other.slide_id != entry.slide_id), entry]

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
        self.items[:] = [item for item in self.items if encoder_of[item["slide_id"]] in (UNKNOWN, self.card.encoder)]

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
            SlideError: every slide failed or holds no tissue.
        """
        if not self.items and not self.manifest:
            raise RequestError(
                f"nothing to classify: no --slides given and no embeddings in {self.folder}; name a slide, a folder or a CSV with "
                "--slides, or a folder of embeddings with --dataset_dir"
            )
        if not self.items:
            raise SlideError(
                f"none of {len(self.manifest)} slides can be classified, expected one at least; "
                f"{self.folder / 'manifest.csv'} says which failed and which hold no tissue"
            )
        require_encoder(self.model, self.card, self.encoder)

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
        require_complete(self.manifest, output_dir, total=self._listed)

    def _rows_seen_from(self, output_dir: str | Path, names: Names) -> list[ManifestRow]:
        """A row per slide, whose ``output`` is the path of its embedding, relative to ``output_dir``."""
        entered = {entry.slide_id for entry in self.manifest}
        classified = [
            ManifestRow(item["slide_id"], item["slide"], "done", header_of(path).patches, output=path.name)
            for item, path in ((item, Path(item["embedding"])) for item in self.items)
            if item["slide_id"] not in entered
        ]
        rows = [*self.manifest, *classified]
        if names.anonymise:
            return [_without_names(row, names) for row in rows]
        return [
            replace(row, output=relative_to(self.folder / row.output, output_dir)) if row.output else row
            for row in rows
        ]


def _precision_for(card: ModelCard, encoding: EncodingJob) -> Precision:
    """The precision of the embeddings that a model was trained on; float32 where it is not known, or not to be had on a CPU."""
    if card.precision == "float16" and torch.device(encoding.device).type == "cpu":
        return "float32"
    return card.precision or "float32"


def _without_names(row: ManifestRow, names: Names) -> ManifestRow:
    """A row of the manifest that tells of a slide by its salted id alone."""
    return replace(row, slide_id=names.slide(row.slide_id), slide="", output="", error=NOT_TOLD if row.error else "")


def listed_slides(slides: str | None, dataset_dir: str | Path, split: Split | None = None) -> list[SlideRow]:
    """List the slides of a request; without ``slides`` those of the table beside the embeddings, or the embeddings themselves.

    Raises:
        RequestError: the request or the table is wrong, or no slide of it is in ``split``.
    """
    if slides is not None:
        return read_slides(slides)
    table = Path(dataset_dir) / "slides.csv"
    if not table.is_file():  # files of another tool, without a table
        return [SlideRow(path.stem, Path(path.stem)) for path in sorted(Path(dataset_dir).glob("[!.]*.h5"))]
    rows = [row for row in read_slides(table) if split in (None, row.split)]
    if not rows:
        raise RequestError(
            f"{table}: no slide in split {split!r}; expected one of {', '.join(SPLITS)} with slides in it"
        )
    return rows


def _empty_slides(manifest: Path) -> dict[str, str]:
    """Slides in which encoding found no tissue, with its reason."""
    if not manifest.is_file():
        return {}
    expected = "the manifest that encoding writes: run it anew, or remove the file"
    with file_boundary(manifest, "not a manifest", expected), open(manifest, newline="", encoding="utf-8") as file:
        return {row["slide_id"]: row["error"] for row in csv.DictReader(file) if row["status"] == "empty"}
