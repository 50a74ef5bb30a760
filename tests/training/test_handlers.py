"""Handlers of the training configs."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events

from scripts.common.errors import SlideError
from scripts.training import handlers
from scripts.training.handlers import CheckpointedBlocks, Progress


class Clock:
    """Time goes on by the step: half a minute each."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(handlers.time, "monotonic", made.monotonic)
    return made


def trainer_of(clock: Clock, evaluator: SimpleNamespace | None = None, *, validated: tuple[int, ...] = ()) -> Engine:
    """Two steps per epoch, with losses 1 and 3; in some epochs a validation."""

    def step(engine: Engine, batch: float) -> list[dict[str, torch.Tensor]]:
        clock.now_s += 30
        return [{"loss": torch.tensor(batch)}]

    def validate(engine: Engine) -> None:
        if evaluator is not None and engine.state.epoch in validated:
            best = engine.state.epoch == validated[0]
            evaluator.state.epoch = engine.state.epoch
            evaluator.state.metrics = {"val_auc": 0.75 if best else 0.5, "val_dice": 0.25, "matrix": torch.zeros(2, 2)}
            evaluator.state.best_metric_epoch = validated[0]

    trainer: Any = Engine(step)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    if evaluator is not None:
        trainer.validation = SimpleNamespace(validator=evaluator)
    Progress().attach(trainer)
    return trainer


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if message.startswith("epoch ")]


def test_a_line_per_epoch(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scripts")
    evaluator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}, best_metric_epoch=-1))
    trainer_of(clock, evaluator, validated=(1, 3)).run([1.0, 3.0], max_epochs=3)
    assert lines(caplog) == [
        "epoch 1 of 3: loss 2.0000, val_auc 0.750 (best so far), val_dice 0.250, took 0:01:00, 0:02:00 left",
        "epoch 2 of 3: loss 2.0000, took 0:01:00, 0:01:00 left",
        "epoch 3 of 3: loss 2.0000, val_auc 0.500, val_dice 0.250, took 0:01:00",
    ]
    assert caplog.messages[-1].startswith("training: 6 of 6 done")


def test_without_validation_and_resumed(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scripts")
    trainer = trainer_of(clock)

    def resume(engine: Engine) -> None:
        engine.state.epoch, engine.state.iteration = 3, 6

    trainer.add_event_handler(Events.STARTED, resume)
    trainer.run([1.0, 3.0], max_epochs=5)
    assert lines(caplog) == [
        "epoch 4 of 5: loss 2.0000, took 0:01:00, 0:01:00 left",
        "epoch 5 of 5: loss 2.0000, took 0:01:00",
    ]
    assert caplog.messages[-1].startswith("training: 4 of 4 done")


def test_a_training_that_ends_early_is_not_said_to_be_done(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="scripts")
    trainer = trainer_of(clock)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.terminate())
    trainer.run([1.0, 3.0], max_epochs=5)
    assert len(lines(caplog)) == 1 and "done" not in caplog.text


def test_what_ends_a_training_is_raised_and_not_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    def step(engine: Engine, batch: object) -> None:
        raise SlideError("a.h5: gone")

    engine = Engine(step)
    Progress().attach(engine)
    engine.logger.addHandler(caplog.handler)
    with pytest.raises(SlideError, match=r"^a\.h5: gone$"):
        engine.run([0], max_epochs=1)
    assert caplog.records and not [record for record in caplog.records if record.exc_info]


class CountedBlock(torch.nn.Linear):
    """Counts how often it is computed."""

    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


@pytest.mark.parametrize("enabled", [True, False])
def test_blocks_are_computed_twice_from_the_start_of_a_training(enabled: bool) -> None:
    """The network of the trainer, whoever looked at it before; a training that is run on wraps nothing again."""
    block = CountedBlock(1, 1)

    def step(engine: Any, batch: object) -> None:
        engine.network(torch.ones(1, 1)).sum().backward()

    engine: Any = Engine(step)
    CheckpointedBlocks(enabled=enabled).attach(engine)
    engine.network = torch.nn.Sequential(block)
    step(engine, 0)
    assert block.calls == 1, "the training has not started"
    for _ in range(2):
        block.calls = 0
        engine.run([0], max_epochs=engine.state.epoch + 1)
        assert block.calls == (2 if enabled else 1)
