"""What a dataset holds of each slide until its transforms load it."""

from collections.abc import Sequence
from typing import TypedDict


class SlideItem(TypedDict):
    """One slide, as :meth:`.training_table.EmbeddingTable.items` lists it; MONAI's transforms replace and add keys.

    Attributes:
        embedding: path of the embedding file.
        slide: path of the slide.
        slide_id: name of the slide.
        patient: whose slide it is; an empty text where that is not known.
        label: index of the class; -1 where there is none.
        thumbnail_levels: levels of T that are taken.
        channel_range: first and last channel of v that are taken.
    """

    embedding: str
    slide: str
    slide_id: str
    patient: str
    label: int
    thumbnail_levels: int | None
    channel_range: Sequence[int]


class LesionItem(SlideItem):
    """One slide with its lesions.

    Attributes:
        mask: path of the lesion mask; an empty text where there is none.
    """

    mask: str
