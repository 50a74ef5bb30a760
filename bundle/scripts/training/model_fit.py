"""Whether embeddings serve a model, by channels, thumbnail and the encoder that made them; and what it takes of them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..baselines.registry import BASELINES
from ..common.errors import RequestError, SlideError
from ..encoding.embedding_file import UNKNOWN, EmbeddingHeader, header_of
from ..slides.table import SlideRow, find_label
from .model_card import ModelCard
from .slide_item import SlideItem, slide_item

_LOGGER = logging.getLogger(__name__)

NEED_THUMBNAIL = frozenset(network.__name__ for network in BASELINES if network.sees_thumbnail)
"""Networks that judge no slide without T, where DSNet judges it by V alone."""


def fitting_header(row: SlideRow, path: Path, card: ModelCard) -> EmbeddingHeader:
    """Check what a slide's embedding says of itself against the model; its values are checked when they are read, once.

    Raises:
        SlideError: it cannot be read, holds no patch, has other channels or too few thumbnail levels, or the slide has no T and
            the network needs one.
    """
    first, last = card.channels
    wanted = card.thumbnail_levels
    header = header_of(path)
    channels, levels = header.channels, header.levels
    if channels < last or (card.channel_range is None and channels > last):
        raise SlideError(
            f"{path}: {channels} channels, expected {last}, of which the model takes those from {first} to {last - 1}: encode the "
            "slide with the model's encoder"
        )
    if levels is not None and levels < wanted:
        raise SlideError(
            f"{path}: a thumbnail of {levels} levels, expected the {wanted} that the model was trained on: "
            "encode the slide anew"
        )
    if card.architecture in NEED_THUMBNAIL and lacks_thumbnail(row, header):
        raise SlideError(
            f"{path}: no thumbnail, and no slide file to make it from; expected one of them, as {card.architecture} judges no "
            "slide without: encode the slide with encode.yaml, or name its file in the table's column slide"
        )
    return header


def require_fit(slides: Sequence[tuple[SlideRow, Path]], card: ModelCard, source: Path) -> None:
    """Check the embeddings of all slides that are to be judged, and say how many have no T.

    Raises:
        RequestError: some do not serve the model, see :func:`fitting_header`; it names ``source`` and the first.
    """
    faults, without = [], 0
    for row, path in slides:
        try:
            without += lacks_thumbnail(row, fitting_header(row, path, card))
        except SlideError as error:
            faults.append(str(error))
    if faults:
        raise RequestError(
            f"{source}: {len(faults)} of {len(slides)} slides do not serve the model; the first: {faults[0]}"
        )
    tell_without_thumbnail(without, card)


def tell_without_thumbnail(slides: int, card: ModelCard) -> None:
    """Warn that so many slides have no T, where the model sees it."""
    if slides and card.thumbnail_levels:
        _LOGGER.warning(
            "%d slides have no thumbnail and no slide file: they are judged by their embeddings alone", slides
        )


def lacks_thumbnail(row: SlideRow, header: EmbeddingHeader) -> bool:
    """Whether a slide has no T: neither in its embedding, nor a file from which it can be made."""
    return header.levels is None and not row.path.is_file()


def item_of(row: SlideRow, embedding: Path, card: ModelCard) -> SlideItem:
    """The slide as an item for the network: which parts of its embedding the model takes."""
    label = find_label(row, card.class_names)
    return slide_item(row, embedding, label=label, thumbnail_levels=card.thumbnail_levels, channel_range=card.channels)


def made_by_others(embeddings: Mapping[str, Path], card: ModelCard) -> dict[str, str]:
    """What is wrong, by slide id, with embeddings whose encoder is known and not the model's; nothing if none is the model's."""
    encoder_of = {slide_id: header_of(path).encoder for slide_id, path in embeddings.items()}
    known = set(encoder_of.values()) - {UNKNOWN}
    if len(known) < 2 or card.encoder not in known:
        return {}
    return {
        slide_id: f"{embeddings[slide_id]}: made by {encoder}, expected {card.encoder}, the model's: encode the slide with it"
        for slide_id, encoder in encoder_of.items()
        if encoder not in (UNKNOWN, card.encoder)
    }


def common_encoder(folder: Path, embeddings: Iterable[Path]) -> str | None:
    """Name and hash of the encoder of the embeddings of a folder; None without embeddings.

    Raises:
        RequestError: the embeddings were made by different encoders.
    """
    names = {header_of(path).encoder for path in embeddings}
    known = names - {UNKNOWN}
    if len(known) > 1:
        raise RequestError(f"{folder}: embeddings of {len(known)} different encoders, expected one: encode all anew")
    return min(known or names, default=None)
