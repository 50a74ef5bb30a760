"""The boundary around each slide of an inference: one that cannot be loaded or judged has failed, and the others go on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from ..common.boundary import slide_boundary
from ..common.errors import RequestError, SlideError
from ..encoding.embedding_file import embedding_file
from ..training.batches import OBSERVED
from ..training.predicting import AttendingIteration
from ..training.slide_item import SlideItem
from .slide_set import NOT_PREDICTED, InferenceSet

ERROR = "error"


class SparingDataset(IterableDataset[Mapping[str, Any]]):
    """The slides of an inference as items for the network, one after the other, as they come.

    An item that cannot be made has its reason in ``error``, which is empty otherwise, and no patch.

    Args:
        slides: what is classified, opened.
        transform: of an item.
        hold: keep the embedding of an item in memory until the next is made, for whoever reads it again.
    """

    def __init__(self, slides: Iterable[SlideItem], transform: Callable[[Any], Any], *, hold: bool = False) -> None:
        self._slides = slides
        self._transform = transform
        self._hold = hold

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Yield the items.

        Raises:
            RequestError: a process that loads data asks for them: the slides come one after the other, to this process.
        """
        if get_worker_info() is not None:
            raise RequestError("--dataloader#num_workers: expected 0, as the slides come one after the other")
        for item in self._slides:
            kept = embedding_file(Path(item["embedding"])).keep_in_memory() if self._hold else nullcontext()
            with kept:
                yield self._made(item)

    def _made(self, item: SlideItem) -> Mapping[str, Any]:
        try:
            with slide_boundary(item["embedding"]):
                return {**self._transform(item), ERROR: ""}
        except SlideError as error:
            return {**item, **_nothing(), ERROR: str(error)}


def _nothing() -> dict[str, Tensor]:
    """What a slide without any patch would be, so that a batch can be made."""
    parts = (torch.zeros(0, 1), torch.zeros(1, 1, 1, dtype=torch.int32), torch.zeros(3, 2, 2, dtype=torch.uint8))
    return dict(zip(OBSERVED, parts, strict=True))


class SparingIteration(AttendingIteration):
    """The step of an evaluator over batches of one slide of a :class:`SparingDataset`.

    Args:
        slides: what is classified; keeps which slides failed.
        classes_only: take the logits of the network's ``forward`` and nothing else, where a compiled one stands in its place.
    """

    def __init__(self, slides: InferenceSet, *, classes_only: bool = False) -> None:
        self.slides = slides
        self.classes_only = classes_only

    def __call__(self, engine: Any, batch: dict[str, Any]) -> Any:
        """Run the network on a slide and return the engine's output; nothing for a slide that failed."""
        (slide_id,), (slide,), (error,) = batch["slide_id"], batch["slide"], batch[ERROR]
        engine.state.output = []
        if error:
            self.slides.fail(slide_id, error)
            return engine.state.output
        try:
            with slide_boundary(slide):
                return super().__call__(engine, batch)
        except SlideError as failure:
            self.slides.fail(slide_id, f"{NOT_PREDICTED}{failure}")
            engine.state.output = []
            return engine.state.output

    def outputs(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """What the network says of ``image``, by name."""
        return {"pred": network(image)} if self.classes_only else super().outputs(network, image)
