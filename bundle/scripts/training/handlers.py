"""Ignite handlers of the training configs."""

import logging
import random
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.handlers import from_engine
from monai.utils import is_scalar

from ..common.networks import evaluating, unwrapped
from ..common.progress import clock, track
from ..common.ranks import is_first, join_shares, rank
from ..dsnet.checkpointing import checkpoint_blocks
from .batches import dense_image
from .validation import evaluator_of

_LOGGER = logging.getLogger(__name__)

_loss_of = from_engine(["loss"], first=True)


class EpochSeeds:
    """Seed every source of chance at the start of an epoch from (seed, epoch, rank) alone.

    An epoch then does not depend on how many were run before it in the same process. So a resumed training draws what an
    undisturbed one draws: the order of the items, the work of the loader's processes, augmentation. Sources: Python, NumPy,
    torch (all devices), and the transforms of the data set that the trainer reads.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Any) -> None:
        drawn = int(np.random.SeedSequence([self.seed, engine.state.epoch, rank()]).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)
        set_rnd(engine.data_loader.dataset, seed=drawn)


class CheckpointedBlocks:
    """Let the network of a trainer compute its blocks twice instead of keeping what backward needs: less memory, more time.

    Args:
        enabled: False leaves the network as it is.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._checkpoint)

    def _checkpoint(self, engine: Any) -> None:
        checkpoint_blocks(unwrapped(engine.network), enabled=self.enabled)
        self.enabled = False  # once


class MaskCoverage:
    """Log, before the first epoch, the share of the slide's box that the mask covers before and after every embedding block.

    The mask grows under the max-pool of every 5x5 window, so that after a few blocks hardly anything is unobserved.
    """

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._log)

    def _log(self, engine: Any) -> None:
        core = unwrapped(engine.network)
        image = dense_image(engine.state.batch, next(core.parameters()).device)
        with evaluating(core):
            shares = core.mask_coverage(image)
        _LOGGER.info(
            "observed share of the box, input and after every block: %s", ", ".join(f"{s:.2f}" for s in shares)
        )


class Progress:
    """Say how a training goes: per epoch one line with mean loss, metrics of the validation, time taken and time left.

    Between these lines a bar on a terminal, and elsewhere a line every ten seconds, shows how far the training is.
    """

    def __init__(self) -> None:
        self._steps: Iterator[int] | None = None
        self._losses: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that validates; of several processes the first one speaks."""
        engine.add_event_handler(Events.STARTED, self._reset)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._tell)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _reset(self, engine: Engine) -> None:
        self._steps = None

    def _begin(self, engine: Engine) -> None:
        self._losses = []
        self._epoch_start_s = time.monotonic()
        if self._steps is None:  # not before, since a resumed training then knows how far it was
            self._start_s, self._first_epoch = self._epoch_start_s, engine.state.epoch
            steps = range(engine.state.iteration, _steps_of(engine))
            self._steps = track(steps, total=len(steps), what="training", unit="step") if is_first() else iter(steps)
            next(self._steps, None)

    def _advance(self, engine: Engine) -> None:
        self._losses.append(float(_loss_of(engine.state.output)))
        if self._steps is not None and engine.state.iteration < _steps_of(engine):
            next(self._steps, None)

    def _tell(self, engine: Engine) -> None:
        losses = join_shares(self._losses)
        if not is_first():
            return
        epoch, last, now_s = engine.state.epoch, engine.state.max_epochs or 0, time.monotonic()
        words = [
            f"loss {sum(losses) / len(losses):.4f}",
            *_metrics(evaluator_of(engine), epoch),
            f"took {clock(now_s - self._epoch_start_s)}",
        ]
        if epoch < last:
            left_s = (last - epoch) * (now_s - self._start_s) / (epoch - self._first_epoch + 1)
            words.append(f"{clock(left_s)} left")
        _LOGGER.info("epoch %d of %d: %s", epoch, last, ", ".join(words))

    def _finish(self, engine: Engine) -> None:
        if self._steps is None:
            return
        if engine.state.iteration < _steps_of(engine):  # stopped early
            self._steps = None  # closes the bar
            return
        for _ in self._steps:
            pass


def _metrics(evaluator: Any, epoch: int) -> list[str]:
    """Metrics of an epoch's validation, if there was one."""
    if evaluator is None or evaluator.state.epoch != epoch:
        return []
    state = evaluator.state
    words = [f"{name} {float(value):.3f}" for name, value in state.metrics.items() if is_scalar(value)]
    if state.best_metric_epoch == epoch:
        words[0] += " (best so far)"
    return words


def _steps_of(engine: Engine) -> int:
    """Steps of the whole training."""
    return (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
