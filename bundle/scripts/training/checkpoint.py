"""What a training leaves on disk: the state to go on from after every epoch, and the weights that were chosen."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor, nn

from ..common.boundary import file_boundary
from ..common.errors import TrainingError
from ..common.files import atomic_path
from ..common.networks import unwrapped
from ..common.ranks import is_first, wait_for_all
from ..common.weights import first_not_finite, require_fitting_weights
from .events import LAST_STEP_OF_EPOCH
from .saved_state import FORMAT, read_state
from .training_outputs import TrainingOutputs
from .validation import evaluator_of

_LOGGER = logging.getLogger(__name__)


class TrainingState:
    """Write ``last.pt``, the whole state of a training, after every epoch, and go on from it; write the chosen weights.

    Together with :class:`.handlers.EpochSeeds` a training that was stopped anywhere and resumed ends with the same bits as
    one that was not. ``last.pt`` holds the best weights too, and the file of weights is written again from it on resuming. So
    it does not matter which of the two files a kill left behind. Both are written beside and renamed, by the first of
    several processes; all processes read.

    Network, optimizer and loss are those of the trainer. The weights that are validated and kept are those of the network of its
    evaluator, from the epoch that this found best (``best_metric_epoch``). Where nothing is validated they are those of the last
    epoch, written when the training is complete.

    Args:
        outputs: the files; with ``resume`` ``last.pt`` is loaded, where there is one, before the first epoch: one command starts a
            job and starts it again.
        objects: what else has a state, by name, such as the schedule of the learning rate; None for what the config leaves out.

    Raises:
        RequestError: (at the start of the training) see :func:`.saved_state.read_state`.
        TrainingError: (while training) the weights are no numbers any more; nothing of them is written.
    """

    def __init__(self, outputs: TrainingOutputs, *, objects: Mapping[str, Any] | None = None) -> None:
        self.path, self.model = outputs.state, outputs.model
        self.settings = dict(outputs.settings)
        self.resume = outputs.resume
        self.objects = {name: value for name, value in (objects or {}).items() if value is not None}
        self.best: dict[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer; it must stand behind the handlers that step the schedule and validate."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(LAST_STEP_OF_EPOCH, self._require_finite)  # before anything judges the epoch
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _objects(self, engine: Any) -> dict[str, Any]:
        """What is saved beside the trainer itself, by name."""
        objects = {"network": unwrapped(engine.network), "loss": engine.loss_function, "optimizer": engine.optimizer}
        evaluator = evaluator_of(engine)
        if evaluator is not None:
            objects["averaged"] = unwrapped(evaluator.network)
        return objects | self.objects

    def _require_finite(self, engine: Any) -> None:
        """Refuse weights that are no numbers."""
        found = first_not_finite(self._weights(engine))
        if found is not None:
            kept = [str(path) for path in (self.path, self.model) if path.is_file()]
            raise TrainingError(
                f"epoch {engine.state.epoch}: the weights are NaN or infinite (in {found}), so the training diverged; expected "
                f"finite numbers: train anew with a smaller --learning_rate (kept from before: {', '.join(kept) or 'nothing'})"
            )

    def _start(self, engine: Any) -> None:
        """Go on from the state, or write the first one: a stop at any time leaves something to go on from."""
        if self.resume and self.path.is_file():
            expected = "what a stopped training left: leave --resume out to train anew"
            with file_boundary(self.path, "not the state of this training", expected):
                self._load(engine, read_state(self.path, self.settings))
        else:
            if self.resume:
                _LOGGER.warning("%s: no state of a stopped training: it begins anew", self.path)
            self._save(engine)
        self.resume = False

    def _load(self, engine: Any, state: dict[str, Any]) -> None:
        for name, value in self._objects(engine).items():
            if name in ("network", "averaged"):
                require_fitting_weights(self.path, state[name], network=value, expected="that of the stopped training")
            value.load_state_dict(state[name])
        if state["best"] is not None:
            require_fitting_weights(
                self.path, state["best"], network=self._judged(engine), expected="that of the stopped training"
            )
        if getattr(engine, "scaler", None) is not None and state["scaler"] is not None:
            engine.scaler.load_state_dict(state["scaler"])
        evaluator = evaluator_of(engine)
        if evaluator is not None:
            evaluator.state.best_metric = state["best_metric"]
            evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        self.best = state["best"]
        if self.best is not None:
            self._write_weights(self.best)
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * (engine.state.epoch_length or 0)
        _LOGGER.info("resumed after epoch %d", state["epoch"])
        if state["epoch"] >= engine.state.max_epochs:
            _LOGGER.warning(
                "nothing left to train: %s holds %d epochs, and --max_epochs is %d; to train on, give more",
                self.path,
                state["epoch"],
                engine.state.max_epochs,
            )

    def _save(self, engine: Any) -> None:
        evaluator = evaluator_of(engine)
        validated = None if evaluator is None else evaluator.state
        if validated is not None and validated.best_metric_epoch == engine.state.epoch:
            self.best = {name: value.detach().cpu().clone() for name, value in self._weights(engine).items()}
            self._write_weights(self.best)
        if not is_first():
            return
        scaler = getattr(engine, "scaler", None)
        state = {
            "format": FORMAT,
            "settings": self.settings,
            "epoch": engine.state.epoch,
            **{name: value.state_dict() for name, value in self._objects(engine).items()},
            "scaler": scaler.state_dict() if scaler is not None else None,
            "best": self.best,
            "best_metric": validated.best_metric if validated is not None else None,
            "best_metric_epoch": validated.best_metric_epoch if validated is not None else None,
        }
        _write(self.path, state)

    def _finish(self, engine: Engine) -> None:
        if evaluator_of(engine) is None:
            self._write_weights(self._weights(engine))
            _LOGGER.info(
                "trained: %s, the weights after epoch %d; next: encoding with them (encode.yaml --encoder %s)",
                self.model,
                engine.state.epoch,
                self.model,
            )
        wait_for_all()  # whoever reads the weights next finds them

    def _weights(self, engine: Any) -> dict[str, Tensor]:
        """Those that are validated and kept."""
        weights: dict[str, Tensor] = self._judged(engine).state_dict()
        return weights

    def _judged(self, engine: Any) -> nn.Module:
        """The network that is validated and kept."""
        evaluator = evaluator_of(engine)
        return unwrapped(engine.network if evaluator is None else evaluator.network)

    def _write_weights(self, weights: dict[str, Tensor]) -> None:
        if is_first():
            _write(self.model, weights)


def _write(path: Path, content: Mapping[str, object]) -> None:
    """Save beside and rename; in memory first: torch then writes no name into it, so that equal contents are equal bytes.

    Raises:
        OSError: as the system says it; torch, writing to a full disk itself, speaks of positions.
    """
    saved = io.BytesIO()
    torch.save(content, saved)
    with atomic_path(path) as partial:
        partial.write_bytes(saved.getbuffer())
