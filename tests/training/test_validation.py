from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from torch import Tensor
from training.observed_slides import slide_of

from scripts.training.batches import PadCollate
from scripts.training.predicting import AttendingIteration, PredictionCollector, Probabilitiesd
from scripts.training.validation import Validation, evaluator_of, validation_of


class Evaluator:
    """Counts its runs."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def run(self, epoch: int) -> None:
        self.epochs.append(epoch)


def test_whoever_is_attached_to_the_trainer_finds_what_validates() -> None:
    trainer, evaluator = Engine(lambda engine, batch: None), Evaluator()
    assert validation_of(trainer) is None and evaluator_of(trainer) is None
    handler: Any = Validation(2)
    handler.validator = evaluator
    handler.attach(trainer)
    assert validation_of(trainer) is handler and evaluator_of(trainer) is evaluator
    seen: list[Any] = []
    trainer.add_event_handler(Events.STARTED, lambda engine: seen.append(evaluator_of(engine)))
    trainer.run([0], max_epochs=4)
    assert seen == [evaluator] and evaluator.epochs == [2, 4]


class Certain(torch.nn.Module):
    """Says of a slide how large it is."""

    def attend(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        evidence = torch.tensor([[0.0, image.shape[2]]], dtype=torch.float32)
        return evidence, torch.ones(1), torch.ones(1, 2)


@pytest.mark.parametrize("logit", [8, 17, 34])
def test_slides_that_are_nearly_certain_keep_their_order(logit: int) -> None:
    """From a difference of logits of 17 on, the probability of float32 is 1."""
    collate = PadCollate()
    batches = [collate([slide_of(logit + label, 2, label=label, slide_id=f"s{label}", patient="")]) for label in (0, 1)]
    collector = PredictionCollector()
    evaluator = SupervisedEvaluator(
        torch.device("cpu"), batches, Certain(), iteration_update=AttendingIteration(),
        postprocessing=Probabilitiesd("pred"), key_val_metric={"val_auc": collector},
    )  # fmt: skip
    evaluator.run()
    assert evaluator.state.metrics["val_auc"] == 1
