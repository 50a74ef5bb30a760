"""What a dataset holds of each slide until its transforms load it."""

from pathlib import Path
from typing import TypedDict

from ..slides.table import SlideRow


class SlideItem(TypedDict):
    """One slide, as :meth:`.training_table.EmbeddingTable.items` lists it; MONAI's transforms replace and add keys.

    Attributes:
        embedding: path of the embedding file.
        slide: path of the slide.
        slide_id: name of the slide.
        patient: whose slide it is; an empty text where that is not known.
        label: index of the class; -1 where there is none.
        thumbnail_levels: L, the levels of T that are taken; 0: the network runs on V alone.
        channel_range: the channels [first, last) of v that are taken; ``last`` is not included.
    """

    embedding: str
    slide: str
    slide_id: str
    patient: str
    label: int
    thumbnail_levels: int
    channel_range: tuple[int, int]


class LesionItem(SlideItem):
    """One slide with its lesions.

    Attributes:
        mask: path of the lesion mask; an empty text where there is none.
    """

    mask: str


def slide_item(
    row: SlideRow, embedding: Path, *, label: int | None, thumbnail_levels: int, channel_range: tuple[int, int]
) -> SlideItem:
    """Return the item of a slide of a table.

    Args:
        row: the slide.
        embedding: its embedding file.
        label: index of its class; None where it has none.
        thumbnail_levels: L, the levels of T that are taken; 0: the network runs on V alone.
        channel_range: the channels [first, last) of v that are taken; ``last`` is not included.
    """
    return {
        "embedding": str(embedding),
        "slide": str(row.path),
        "slide_id": row.slide_id,
        "patient": row.patient or "",
        "label": -1 if label is None else label,
        "thumbnail_levels": thumbnail_levels,
        "channel_range": channel_range,
    }
