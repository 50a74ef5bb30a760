"""A dataset folder: ``slides.csv`` and an embedding file per slide."""

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ..common.errors import RequestError, SlideError
from ..common.option_words import Precision, Split
from ..encoding.embedding_file import UNKNOWN, EmbeddingHeader, embedding_file, header_of
from ..encoding.store import observed_places
from ..encoding.thumbnail import DEFAULT_LEVELS
from ..slides.slide_ids import known_ids
from ..slides.table import SPLITS, SlideRow, class_names, label_index, read_slides
from .agreement import agreed, disagreement
from .missing_embeddings import hint_of_missing
from .model_card import ModelCard
from .model_fit import lacks_thumbnail, require_fit
from .slide_item import SlideItem, slide_item
from .standardise import ChannelStatistics, channel_statistics

_LOGGER = logging.getLogger(__name__)
_WITHOUT_LESION = {
    "normal", "negative", "negativ", "neg", "benign", "benigne", "gutartig", "healthy", "gesund", "control", "kontrolle",
    "non-tumor", "nontumor", "no tumor", "no_tumor", "tumor-free",
}  # fmt: skip


class EmbeddingTable:
    """The slides of a dataset folder that have an embedding, by split.

    Args:
        dataset_dir: folder with ``<slide_id>.h5``, this bundle's or another tool's, and unless ``slides`` is given ``slides.csv``.
        slides: another table of the slides, such as one of a fold; None takes ``slides.csv``.
        classes: class names in the order of the network's outputs; by default numbers in order, else the alphabet.
        allow_missing: leave slides without an embedding out (with their number in the log) instead of refusing.
        levels: L, the first levels of T that are used (Table IV); by default all that the files hold.
        channel_range: the channels [first, last) of v that are used (Table V: foreground or background of a separated v); by
            default all.
        card: of the trained network that judges the slides, which says levels and channels of each; None: one is to be trained.

    Raises:
        RequestError: no table, slides without embedding, or other levels or channels than the card's.
        SlideError: embeddings cannot be read; the message names all of them.
    """

    def __init__(
        self,
        dataset_dir: str | Path,
        *,
        slides: str | Path | None = None,
        classes: Sequence[str] | None = None,
        allow_missing: bool = False,
        levels: int | None = None,
        channel_range: Sequence[int] | None = None,
        card: ModelCard | None = None,
    ) -> None:
        self.folder = Path(dataset_dir)
        self.levels = levels
        self.card = card
        self.channel_range: tuple[int, int] | None = None
        if channel_range is not None:
            first, last = channel_range
            self.channel_range = (first, last)
        if card is not None:
            self._require_those_of(card)
            self.channel_range = card.channel_range
        self.source = self.folder / "slides.csv" if slides is None else Path(slides)
        if slides is None and not self.source.is_file():
            raise RequestError(
                f"{self.source}: no such file; expected the slide table beside the embeddings: encode with --slides slides.csv "
                "--output_dir DIR first, then name that DIR with --dataset_dir"
            )
        rows = read_slides(self.source, known=known_ids(self.folder))
        missing = {row.slide_id: row.path for row in rows if not self.path_of(row).exists()}
        if missing and not allow_missing:
            raise RequestError(
                f"{self.source}: {len(missing)} of {len(rows)} slides have no embedding in {self.folder} (the first is "
                f"{next(iter(missing))}.h5){hint_of_missing(self.folder, missing)}; encode them, see manifest.csv for slides that "
                "failed or hold no tissue, or leave them out with --table#allow_missing true"
            )
        if missing:
            _LOGGER.warning("%d of %d slides have no embedding and are left out", len(missing), len(rows))
        self.rows = [row for row in rows if row.slide_id not in missing]
        if not self.rows:
            raise RequestError(f"{self.source}: no slide has an embedding in {self.folder}: encode the slides first")
        self.class_names = class_names(self.rows, classes)
        self._by_the_alphabet = classes is None
        self._read: set[str | None] = set()
        self._splits_told_of: set[str | None] = set()
        self._statistics: dict[str, ChannelStatistics] = {}

    def _require_those_of(self, card: ModelCard) -> None:
        """Raise a RequestError where other levels or channels are asked for than the model was trained on."""
        for option, asked, trained in (
            ("levels", self.levels, card.thumbnail_levels or None),  # None: it takes no T, however much there is
            ("channel_range", self.channel_range, card.channels),
        ):
            if None not in (asked, trained) and asked != trained:
                raise RequestError(
                    f"--table#{option} {asked}: the model was trained on {trained}, and its card decides; leave the option out"
                )

    def path_of(self, row: SlideRow) -> Path:
        """Embedding file of a slide."""
        return self.folder / f"{row.slide_id}.h5"

    def items(self, split: Split | None = None) -> list[SlideItem]:
        """List the labelled slides of a split (None: all) as items for a dataset, in the table's order.

        Args:
            split: "train", "val" or "test".

        Raises:
            RequestError: the split has no such slide.
        """
        rows = [row for row in self.rows if split is None or row.split == split]
        self.require_readable(*{row.split for row in rows})
        if not rows:
            raise RequestError(
                f"{self.source}: no labelled slide in split {split!r}; expected a column split "
                f"with {', '.join(SPLITS)}: assign the slides to splits, all slides of a patient to one"
            )
        rows = self._labelled(rows, split)
        if self.card is None:
            levels, channel_range = self.thumbnail_levels, self.channel_range or (0, self.channels)
        else:
            require_fit([(row, self.path_of(row)) for row in rows], self.card, self.source)
            levels, channel_range = self.card.thumbnail_levels, self.card.channels
        return [
            slide_item(
                row,
                self.path_of(row),
                label=label_index(row, self.class_names),
                thumbnail_levels=levels,
                channel_range=channel_range,
            )
            for row in rows
        ]

    def _labelled(self, rows: Sequence[SlideRow], split: Split | None) -> list[SlideRow]:
        """Leave out slides without a label, and say how many once per split."""
        labelled = [row for row in rows if row.label is not None]
        left_out, where = len(rows) - len(labelled), "the table" if split is None else f"split {split!r}"
        if not labelled:
            raise RequestError(
                f"{self.source}: none of the {len(rows)} slides in {where} has a label, expected one each: fill the column label"
            )
        if left_out and split not in self._splits_told_of:
            _LOGGER.warning(
                "%d of %d slides in %s have no label (an empty cell, NA, null and the like) and are left out",
                left_out,
                len(rows),
                where,
            )
        self._splits_told_of.add(split)
        return labelled

    def digest(self, *splits: Split) -> str:
        """SHA-256 over the slides of the named splits (none: all): split, label, patient and content of the embedding, in order."""
        rows = [row for row in self.rows if not splits or row.split in splits]
        content = [
            (row.slide_id, row.split, row.label, row.patient, self.headers[row.slide_id].fingerprint) for row in rows
        ]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def require_trainable(self, *splits: Split) -> None:
        """Check that a classifier can be trained on the slides, and log what they are.

        There are two classes or more, every named split has slides of each, and one encoder in one precision made all embeddings.

        Raises:
            RequestError: a class is missing, or the embeddings were made by different encoders or in different precisions.
            SlideError: embeddings cannot be read; the message names all of them.
        """
        self.require_readable(*splits)
        self._log_one_encoder()
        self._log_classes()
        for split in splits:
            self._require_every_class(split)

    def _log_one_encoder(self) -> None:
        """Log which encoder made all embeddings, in which precision; there must be one of each."""
        _LOGGER.info("embeddings: by %s, in %s", self.encoder, self.precision or "a precision that they do not say")

    def _log_classes(self) -> None:
        """Log the classes in order; warn where the alphabet alone made that without lesions the second."""
        _LOGGER.info("classes: %s", ", ".join(f"{index} = {name}" for index, name in enumerate(self.class_names)))
        if self._by_the_alphabet and len(self.class_names) == 2 and self.class_names[1].casefold() in _WITHOUT_LESION:
            first, second = self.class_names
            _LOGGER.warning(
                "the second class, which is the positive one and for recommended.yaml the one with lesions, is %r: "
                "--classes \"['%s','%s']\" turns the order round", second, second, first,
            )  # fmt: skip

    def _require_every_class(self, split: Split) -> None:
        counts = Counter(item["label"] for item in self.items(split))
        absent = [name for index, name in enumerate(self.class_names) if not counts[index]]
        if absent:
            raise RequestError(
                f"{self.source}: split {split!r} holds no slide of class {', '.join(absent)}; expected slides of every class in "
                "it: move slides between the splits"
            )
        if len(self.class_names) < 2:
            raise RequestError(
                f"{self.source}: only one class, {self.class_names[0]}; expected two or more: list slides of another class, too"
            )

    @cached_property
    def channels(self) -> int:
        """C, the channels of v that are used.

        Raises:
            RequestError: the embeddings come from encoders of different width, or have no such range of channels.
        """
        widths = {slide_id: header.channels for slide_id, header in self.headers.items()}
        if len(set(widths.values())) > 1:
            raise RequestError(
                f"{self.folder}: embeddings of different width ({disagreement(widths, 'channels')}), expected one encoder: encode "
                "all slides anew with the same one"
            )
        width = next(iter(widths.values()))
        if self.channel_range is None:
            return width
        first, last = self.channel_range
        if not 0 <= first < last <= width:
            raise RequestError(
                f"{self.folder}: channels [{first}, {last}) asked for, the embeddings have [0, {width}); expected a range inside "
                "it: correct --table#channel_range"
            )
        return last - first

    @cached_property
    def thumbnail_levels(self) -> int:
        """L of a network to be trained; 0 where some slide has neither a thumbnail nor its slide file, so that it runs on V alone.

        Slides of train and val decide, as those of test may have no say in a network; all slides where none is in a split.

        Raises:
            RequestError: thumbnails of different levels, or of fewer than asked for.
        """
        levels = set()
        for row in [row for row in self.rows if row.split in ("train", "val")] or self.rows:
            header = self.headers[row.slide_id]
            made = self.levels or DEFAULT_LEVELS  # from the slide, on loading
            levels.add(0 if lacks_thumbnail(row, header) else made if header.levels is None else header.levels)
        if 0 in levels:
            _LOGGER.warning(
                "some slides have no thumbnail and no slide file: the network runs on the embedding stream alone"
            )
            return 0
        if self.levels is None and len(levels) > 1:
            raise RequestError(
                f"{self.folder}: thumbnails of {sorted(levels)} levels, expected one number: encode all slides anew, or name a "
                "number that all have with --table#levels"
            )
        if self.levels is not None and not 1 <= self.levels <= min(levels):
            raise RequestError(
                f"{self.folder}: {self.levels} thumbnail levels asked for, the embeddings hold {min(levels)}; expected 1 to "
                f"{min(levels)}: encode with --settings#thumbnail_levels {self.levels}, or ask for fewer"
            )
        return self.levels or levels.pop()

    @cached_property
    def encoder(self) -> str:
        """Name and hash of the encoder; of files of other tools the name or, where none states one, "unknown".

        Raises:
            RequestError: the embeddings were made by different encoders.
        """
        headers = self.headers.items()
        named = {slide_id: None if header.encoder == UNKNOWN else header.encoder for slide_id, header in headers}
        found = agreed(self.folder, "encoders", named)
        silent = sum(name is None for name in named.values())
        if 0 < silent < len(named):
            _LOGGER.warning("%d of %d embeddings do not say by which encoder", silent, len(named))
        return found or UNKNOWN

    @cached_property
    def precision(self) -> Precision | None:
        """Precision that the encoder computed in; None where no file says it.

        Raises:
            RequestError: the embeddings were made in different precisions.
        """
        return agreed(
            self.folder, "precisions", {slide_id: header.precision for slide_id, header in self.headers.items()}
        )

    @cached_property
    def headers(self) -> dict[str, EmbeddingHeader]:
        """Headers of all embeddings, by slide id.

        Raises:
            SlideError: embeddings cannot be read; the message names all of them.
        """
        self.require_readable()
        return {row.slide_id: header_of(self.path_of(row)) for row in self.rows}

    def require_readable(self, *splits: Split | None) -> None:
        """Check the embeddings of all slides, and those of the named splits whole and value by value, once per run.

        Raises:
            SlideError: some cannot be read; the message names all of them.
        """
        wanted = set(splits) - self._read
        if splits and not wanted:
            return
        faults = []
        for row in self.rows:
            path = self.path_of(row)
            try:
                if row.split in wanted:
                    self._check_whole(row, path)
                else:
                    header_of(path)
            except SlideError as error:
                faults.append(str(error).replace(str(path), path.name))
        if faults:
            raise SlideError(
                f"{self.folder}: {len(faults)} of {len(self.rows)} embeddings cannot be used; {' | '.join(faults)} | correct "
                f"them, or take their slides out of {self.source}"
            )
        self._read |= wanted

    def _check_whole(self, row: SlideRow, path: Path) -> None:
        """Read an embedding whole; keep of a training slide what the standardisation needs, so that none is read again for it."""
        channel_range = self.channel_range or (0, None)
        embedding = embedding_file(path).read()
        observed_places(embedding, channel_range, path)  # that there are any
        if row.split == "train" and row.label is not None:
            self._statistics[row.slide_id] = channel_statistics(embedding.features[:, slice(*channel_range)])

    def train_statistics(self) -> list[ChannelStatistics]:
        """Statistics of the channels used, of every labelled training slide in the table's order.

        Raises:
            RequestError: there is no such slide.
        """
        return [self._statistics[item["slide_id"]] for item in self.items("train")]
