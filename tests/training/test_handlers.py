"""Handlers of the training configs."""

import pytest
from ignite.engine import Engine

from scripts.common.errors import SlideError
from scripts.training.handlers import EpochStats


def test_what_ends_a_training_is_raised_and_not_logged_with_its_trace(caplog: pytest.LogCaptureFixture) -> None:
    def step(engine: Engine, batch: object) -> None:
        raise SlideError("a.h5: gone")

    engine = Engine(step)
    stats = EpochStats(iteration_log=False)
    stats.attach(engine)
    for logger in (engine.logger, stats.logger):
        logger.addHandler(caplog.handler)
    with pytest.raises(SlideError, match=r"^a\.h5: gone$"):
        engine.run([0], max_epochs=1)
    assert caplog.records and not [record for record in caplog.records if record.exc_info]
