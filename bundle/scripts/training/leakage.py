"""A slide that is on both sides of a split, under whatever name, is refused."""

import logging
from collections.abc import Sequence

from ..common.errors import RequestError
from ..common.option_words import Split
from ..encoding.embedding_file import header_of
from ..slides.table import SlideRow
from .model_card import ModelCard
from .training_table import EmbeddingTable

_LOGGER = logging.getLogger(__name__)


def fingerprints(table: EmbeddingTable, split: Split) -> list[str]:
    """Fingerprints of the slides of a split, sorted."""
    return sorted(header_of(table.path_of(row)).fingerprint for row in table.rows if row.split == split)


def seen_splits(card: ModelCard) -> dict[str, str]:
    """Split in which a model met a slide, by the slide's fingerprint; empty for a card that keeps none."""
    return {print_: split for split, prints in card.seen.items() for print_ in prints.split()}


def refuse_leaks(table: EmbeddingTable, *, validated: Split = "val") -> None:
    """Refuse a training that would choose by other slides than those of split val, or whose table has one slide in two splits.

    The reader of the table has refused patients in two splits. Here a slide is known again under another name.

    Args:
        table: the slides.
        validated: split by which epoch, temperature and threshold are chosen.

    Raises:
        RequestError: the split is another, or one slide stands in two splits or classes under two names.
    """
    if validated != "val":
        raise RequestError(
            f"validate#split is {validated!r}: epoch, temperature and threshold are chosen by the slides of split val alone, "
            "expected val: leave it out, and name other validation slides in the column split"
        )
    _refuse_twice(table, [row for row in table.rows if row.split is not None])


def _refuse_twice(table: EmbeddingTable, rows: Sequence[SlideRow]) -> None:
    """Refuse a slide that is in two splits or classes under two names, and tell of one that counts twice."""
    first_of: dict[str, SlideRow] = {}
    for row in rows:
        known = first_of.setdefault(header_of(table.path_of(row)).fingerprint, row)
        if known.split != row.split:
            raise RequestError(
                f"{table.source}: slides {known.slide_id} (split {known.split}) and {row.slide_id} (split {row.split}) have the "
                "same embedding, so they are one slide under two names, which leaks from one split to the other: remove one of them"
            )
        if None not in (known.label, row.label) and known.label != row.label:
            raise RequestError(
                f"{table.source}: slides {known.slide_id} (label {known.label}) and {row.slide_id} (label {row.label}) have the "
                "same embedding, so they are one slide under two names, expected one label: remove one of them"
            )
    if twice := len(rows) - len(first_of):
        _LOGGER.warning("%d slides have the embedding of another slide, and count twice: remove their lines", twice)


def refuse_seen(card: ModelCard, table: EmbeddingTable) -> None:
    """Refuse to judge a network by test slides that it was trained or chosen on, as with the table of another fold.

    Args:
        card: the model card.
        table: the slides of the evaluation.

    Raises:
        RequestError: a test slide was in train or val when the model was trained, or is of two classes under two names.
    """
    _refuse_twice(table, [row for row in table.rows if row.split == "test"])
    split_of = seen_splits(card)
    for row in table.rows if split_of else ():
        seen_in = split_of.get(header_of(table.path_of(row)).fingerprint) if row.split == "test" else None
        if seen_in is not None:
            raise RequestError(
                f"{table.source}: slide {row.slide_id} is in split test, but was in {seen_in} when the model was trained; "
                "expected test slides that the model never saw: name the table (fold) that it was trained with by --slides"
            )
