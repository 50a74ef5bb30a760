from typing import Any

from ignite.engine import Engine, Events

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
