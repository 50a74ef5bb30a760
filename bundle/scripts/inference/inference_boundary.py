"""The boundary around each slide of an inference: one that cannot be loaded or judged has failed, and the others go on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from torch import Tensor

from ..common.boundary import slide_boundary
from ..common.errors import SlideError
from ..encoding.embedding_file import embedding_file
from ..training.batches import OBSERVED
from ..training.evaluation import AttendingIteration
from .slide_set import InferenceSet

ERROR = "error"


class SparingDataset(Dataset):
    """MONAI's ``Dataset``; an item that cannot be made has its reason in ``error``, which is empty otherwise, and no patch.

    Args:
        data: items.
        transform: of an item.
        hold: keep the embedding of the last item in memory until the next is made, for whoever reads it again.
    """

    def __init__(self, data: Sequence[Any], transform: Callable[[Any], Any], *, hold: bool = False) -> None:
        super().__init__(data, transform)
        self._holds = hold
        self._held = ExitStack()

    def _transform(self, index: int) -> Mapping[str, Any]:
        item = self.data[index]
        self._held.close()
        if self._holds:
            self._held.enter_context(embedding_file(Path(item["embedding"])).held())
        try:
            with slide_boundary(item["embedding"]):
                return {**super()._transform(index), ERROR: ""}
        except SlideError as error:
            return {**item, **_nothing(), ERROR: str(error)}


def _nothing() -> dict[str, Tensor]:
    """What a slide without any patch would be, so that a batch can be made."""
    parts = (torch.zeros(0, 1), torch.zeros(1, 1, 1, dtype=torch.int32), torch.zeros(3, 2, 2, dtype=torch.uint8))
    return dict(zip(OBSERVED, parts, strict=True))


class SlideEvaluator(SupervisedEvaluator):
    """MONAI's ``SupervisedEvaluator`` over slides that are listed only when it runs; MONAI counts them when it is made."""

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]  # as MONAI does
        """Go over all slides once."""
        self.state.epoch_length = len(self.data_loader)  # type: ignore[arg-type]
        super().run(global_epoch)


class SparingIteration(AttendingIteration):
    """The step of an evaluator over batches of one slide of a :class:`SparingDataset`.

    Args:
        slides: what is classified; keeps which slides failed.
    """

    def __init__(self, slides: InferenceSet) -> None:
        self.slides = slides

    def __call__(self, engine: Any, batch: dict[str, Any]) -> Any:
        """Run the network on a slide and return the engine's output; nothing for a slide that failed."""
        (slide_id,), (slide,), (error,) = batch["slide_id"], batch["slide"], batch[ERROR]
        try:
            with slide_boundary(slide):
                if error:
                    raise SlideError(error)
                return super().__call__(engine, batch)
        except SlideError as failure:
            self.slides.fail(slide_id, str(failure))
            engine.state.output = []
            return engine.state.output
