"""The metric that chooses the epoch of a segmentation."""

from typing import Any

import pytest
import torch
from ignite.engine import Engine

from scripts.training.lesion_targets import LESION, NO_LESION, UNKNOWN
from scripts.training.segmenting import CellDice


def test_the_metric_counts_all_slides_together() -> None:
    """Ten cells called rightly, two falsely on the slide without lesion, three missed, one unknown."""
    lesions = [torch.full((1, 4, 5), NO_LESION, dtype=torch.uint8) for _ in range(2)]
    logits = [torch.full((1, 4, 5), -5.0) for _ in lesions]
    lesions[0].view(-1)[:13] = LESION
    logits[0].view(-1)[:10] = 5
    logits[1].view(-1)[:3] = 5
    lesions[1].view(-1)[0] = UNKNOWN
    steps = iter(zip(logits, lesions, strict=True))

    def step(engine: Engine, batch: Any) -> Any:
        of_step, target = next(steps)
        engine.state.batch = [{"slide_id": str(id(target)), "lesion": target}]
        return [{"lesion_logits": of_step}]

    engine = Engine(step)
    CellDice().attach(engine, "val_dice")
    engine.run([0, 1], max_epochs=1)
    assert engine.state.metrics["val_dice"] == pytest.approx(2 * 10 / (12 + 13))
