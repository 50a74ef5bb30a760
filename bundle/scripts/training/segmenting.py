"""Steps of the engines that train and validate a segmentation, and the metric that chooses its epoch."""

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.metrics import compute_dice
from torch import Tensor

from ..common.ranks import join_shares
from .batches import dense_image
from .lesion_targets import LESION, UNKNOWN
from .predicting import AttendingIteration


def lesion_batch(
    batch: dict[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """``prepare_batch`` of a trainer: ``image`` and ``lesion``."""
    lesion = batch["lesion"].to(device=device, non_blocking=non_blocking, **kwargs)
    return dense_image(batch, device, non_blocking), lesion


class SegmentingIteration(AttendingIteration):
    """One step of a ``SupervisedEvaluator``, with ``lesion_logits`` (B, 1, H, W) beside what its parent gives."""

    def outputs(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """What the network says of ``image``, by name."""
        lesion_logits, stream_score, channel_scores = network.segment(image)
        return {
            "pred": network.slide_logits(lesion_logits),
            "lesion_logits": lesion_logits,
            "stream_score": stream_score,
            "channel_scores": channel_scores,
        }


class CellDice:
    """Metric of an evaluator: Dice (MONAI) at P(lesion) >= 0.5 of all cells of all slides that have a target, taken together.

    One figure over all slides counts false findings on slides without lesion, whose own Dice is undefined.
    """

    def __init__(self) -> None:
        self._found: list[tuple[str, Tensor, Tensor]] = []

    def attach(self, engine: Engine, name: str) -> None:
        """Register with the evaluator as its metric ``name``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report, name)

    def _reset(self, engine: Engine) -> None:
        self._found = []

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        for item, of_slide in zip(output, batch, strict=True):
            target = of_slide["lesion"].cpu()
            known = target != UNKNOWN
            called = item["lesion_logits"].cpu()[known] >= 0
            self._found.append((of_slide["slide_id"], called, target[known] == LESION))

    def _report(self, engine: Engine, name: str) -> None:
        by_slide = {slide_id: (called, target) for slide_id, called, target in join_shares(self._found)}
        called, target = (torch.cat(parts)[None, None].float() for parts in zip(*by_slide.values(), strict=True))
        engine.state.metrics[name] = float(compute_dice(called, target, ignore_empty=False))
