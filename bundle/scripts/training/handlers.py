"""Ignite handlers of the training configs."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from ..common.errors import RequestError
from ..common.files import atomic_path
from ..common.progress import track
from ..encoding.encoders import read_weights
from .evaluation import unwrapped

_LOGGER = logging.getLogger(__name__)


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


class Progress:
    """Show how far a training is, over all epochs: a bar on a terminal, a log line every ten seconds elsewhere."""

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
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


class TrainingState:
    """Save what a stopped training needs to go on (``last.pt``) after every epoch, and go on from it.

    Args:
        folder: where ``last.pt`` lies.
        objects: what is saved beside the trainer itself (network, optimizer, scheduler), by name.
        resume: load ``last.pt`` before the first epoch.
        evaluator: validates; on resuming it sees the best weights so far once, so that a later epoch replaces them only if it is
            better.
        best: file of those weights.

    Raises:
        RequestError: ``resume`` without a ``last.pt``.
    """

    def __init__(
        self,
        folder: str | Path,
        objects: Mapping[str, Any],
        *,
        resume: bool = False,
        evaluator: Any = None,
        best: str | Path | None = None,
    ) -> None:
        self.path = Path(folder) / "last.pt"
        self.objects = dict(objects)
        self.resume = resume
        if resume and not self.path.is_file():
            raise RequestError(
                f"{self.path}: no such file; expected the state of a stopped training: leave --resume out"
            )
        self.evaluator = evaluator
        self.best = best

    def attach(self, engine: Engine) -> None:
        """Register with the trainer; it must stand behind the handlers that step the schedule and validate."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def _load(self, engine: Engine) -> None:
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if self.evaluator is not None and self.best is not None and Path(self.best).is_file():
            network = self.objects["network"]
            network.load_state_dict(read_weights(self.best, network=network, made_by="train.yaml"))
            self.evaluator.run(state["epoch"])
        for name, value in self.objects.items():
            value.load_state_dict(state[name])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * (engine.state.epoch_length or 0)
        torch.set_rng_state(state["rng"])
        _LOGGER.info("resumed after epoch %d", state["epoch"])

    def _save(self, engine: Engine) -> None:
        state = {name: value.state_dict() for name, value in self.objects.items()}
        with atomic_path(self.path) as partial:
            torch.save({**state, "epoch": engine.state.epoch, "rng": torch.get_rng_state()}, partial)
