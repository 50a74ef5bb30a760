"""Ignite handlers of the training configs."""

import logging
import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.handlers import StatsHandler
from torch import nn
from torch.utils.data import Dataset

from ..common.progress import track
from ..common.ranks import is_first, rank
from .evaluation import unwrapped

_LOGGER = logging.getLogger(__name__)


class EpochSeeds:
    """Seed every source of chance at the start of an epoch from (seed, epoch, rank) alone.

    An epoch then does not depend on how many were run before it in the same process, so a resumed training draws what an
    undisturbed one draws: the order of the items, the work of the loader's processes, augmentation. Sources: Python, NumPy,
    torch (all devices), and the transforms of ``dataset``.
    """

    def __init__(self, seed: int, dataset: Dataset) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        drawn = int(np.random.SeedSequence([self.seed, engine.state.epoch, rank()]).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)
        torch.manual_seed(drawn)
        set_rnd(self.dataset, seed=drawn)


class MaskCoverage:
    """Log, before the first epoch, the share of the slide's box that the mask covers before and after every embedding block.

    The mask grows under the max-pool of every 5x5 window, so that after a few blocks hardly anything is unobserved.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED(once=1), self._log)

    def _log(self, engine: Engine) -> None:
        core = unwrapped(self.network)
        batch: Any = engine.state.batch
        image = batch["image"].to(next(core.parameters()).device)
        was_training = core.training
        core.eval()
        with torch.no_grad():
            shares = core.mask_coverage(image)
        core.train(was_training)
        _LOGGER.info(
            "observed share of the box, input and after every block: %s", ", ".join(f"{s:.2f}" for s in shares)
        )


class EpochStats(StatsHandler):
    """MONAI's ``StatsHandler``, but each engine's errors are left to the end of the process, which says them once and in one line."""

    def exception_raised(self, _engine: Engine, e: Exception) -> None:
        """Raise what MONAI would log with its trace before it raises it."""
        raise e


class Progress:
    """Show how far a training is, over all epochs: a bar on a terminal, a log line every ten seconds elsewhere."""

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handler that resumes; of several processes the first one shows it."""
        if not is_first():
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        total = (engine.state.max_epochs or 0) * (engine.state.epoch_length or 0)
        steps = range(engine.state.iteration, total)
        self._steps = track(steps, total=len(steps), what="training", unit="step")
        next(self._steps, None)

    def _advance(self, engine: Engine) -> None:
        next(self._steps, None)

    def _finish(self, engine: Engine) -> None:
        for _ in self._steps:
            pass
