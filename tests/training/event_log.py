"""What a run has written for TensorBoard."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_log(folder: Path) -> EventAccumulator:
    """Read the one log of a run."""
    assert len(list(folder.glob("events.out*"))) == 1
    log = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    log.Reload()
    return log
