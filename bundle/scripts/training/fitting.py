"""What a network takes from the training slides by other means than steps, beside the statistics of V."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ignite.engine import Engine, Events
from torch import Tensor

from ..common.networks import unwrapped
from .batches import image_of
from .events import LAST_STEP_OF_EPOCH
from .transforms import LoadEmbeddingd


class SlideFit:
    """Call ``fit`` of a trainer's network with its training slides, one after the other, as they are.

    Args:
        items: the training slides, as :class:`.training_table.EmbeddingTable` lists them.
        every_epoch: do so after the last step of every epoch, before anything is validated; otherwise once, before the first step.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], *, every_epoch: bool = False) -> None:
        self.items = items
        self.every_epoch = every_epoch

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that standardises; a resumed training fits the same once more."""
        engine.add_event_handler(LAST_STEP_OF_EPOCH if self.every_epoch else Events.STARTED, self._fit)

    def _fit(self, engine: Any) -> None:
        unwrapped(engine.network).fit(self._slides(engine.state.device))

    def _slides(self, device: Any) -> Iterator[tuple[Tensor, int]]:
        load = LoadEmbeddingd()
        for item in self.items:
            yield image_of(load(item), device), int(item["label"])
