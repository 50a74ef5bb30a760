"""Events of a training that Ignite has no name for."""

from typing import Any

from ignite.engine import Events


def _is_last_of_epoch(engine: Any, iteration: int) -> bool:
    return iteration % engine.state.epoch_length == 0


LAST_STEP_OF_EPOCH = Events.ITERATION_COMPLETED(event_filter=_is_last_of_epoch)
"""The last step of every epoch is done, and nothing was validated or saved yet, as that waits for ``EPOCH_COMPLETED``."""
