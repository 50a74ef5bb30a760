"""What a training leaves on disk: the state to go on from after every epoch, and the weights that were chosen."""

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from ..common.errors import RequestError, TrainingError, first_of
from ..common.files import atomic_path
from ..common.ranks import is_first, wait_for_all
from ..encoding.encoders import first_not_finite, load_tensors, require_finite
from .evaluation import unwrapped

_LOGGER = logging.getLogger(__name__)

FORMAT = "dsnet-training/2"
STATE_NAME = "last.pt"


def read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Read ``last.pt``, and compare the settings in it.

    Args:
        path: the file.
        settings: what the training that goes on must have in common with its beginning, by id.

    Raises:
        RequestError: it is of another version or of other settings, or its weights are no numbers.
    """
    state = load_tensors(path, expected="the state of a training: leave --resume out to train anew")
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise RequestError(f"{path}: format {found!r}, expected {FORMAT!r}: leave --resume out to train anew")
    for weights in (state["network"], state["best"] or {}):
        require_finite(path, weights)
    before = state["settings"]
    changed = [
        f"{name} {before.get(name)!r}, now {settings.get(name)!r}"
        for name in sorted(before.keys() | settings.keys())
        if before.get(name) != settings.get(name)
    ]
    if changed:
        raise RequestError(
            f"{path}: the training began with {first_of(changed, '; with ')}; expected the same: give the former, or train anew "
            "without --resume (--max_epochs may change)"
        )
    return state


class TrainingState:
    """Write ``last.pt``, the whole state of a training, after every epoch, and go on from it; write the chosen weights.

    Together with :class:`.handlers.EpochSeeds` a training that was stopped anywhere and resumed ends with the same bits as
    one that was not. ``last.pt`` holds the best weights too, and the file of weights is written again from it on resuming, so
    that it does not matter which of the two files a kill left behind. Both are written beside and renamed, by the first of
    several processes; all processes read.

    Network, optimizer and loss are those of the trainer. The weights that are validated and kept are those of the evaluator's
    network.

    Args:
        folder: where ``last.pt`` lies.
        model: file of the weights: those of the epoch that ``evaluator`` found best, else those of the last epoch, written when
            the training is complete.
        settings: what a resumed training must have in common with its beginning, by id.
        resume: load ``last.pt``, where there is one, before the first epoch: one command starts a job and starts it again.
        evaluator: validates; its ``best_metric_epoch`` says which epoch is best.
        objects: what else has a state, by name, such as the schedule of the learning rate.

    Raises:
        RequestError: (at the start of the training) see :func:`read_state`.
        TrainingError: (while training) the weights are no numbers any more; nothing of them is written.
    """

    def __init__(
        self,
        folder: str | Path,
        model: str | Path,
        *,
        settings: Mapping[str, Any] | None = None,
        resume: bool = False,
        evaluator: Any = None,
        objects: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = Path(folder) / STATE_NAME
        self.model = Path(model)
        self.settings = dict(settings or {})
        self.resume = resume
        self.evaluator = evaluator
        self.objects = dict(objects or {})
        self.best: dict[str, Tensor] | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer; it must stand behind the handlers that step the schedule and validate."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._require_finite)  # before anything judges the epoch
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _objects(self, engine: Any) -> dict[str, Any]:
        """What is saved beside the trainer itself, by name."""
        objects = {"network": unwrapped(engine.network), "loss": engine.loss_function, "optimizer": engine.optimizer}
        if self.evaluator is not None:
            objects["averaged"] = unwrapped(self.evaluator.network)
        return objects | self.objects

    def _require_finite(self, engine: Any) -> None:
        """At the end of an epoch, look at the weights that came out."""
        if engine.state.iteration % engine.state.epoch_length:
            return
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
            self._load(engine, read_state(self.path, self.settings))
        else:
            if self.resume:
                _LOGGER.warning("%s: no state of a stopped training: it begins anew", self.path)
            self._save(engine)
        self.resume = False

    def _load(self, engine: Any, state: dict[str, Any]) -> None:
        for name, value in self._objects(engine).items():
            value.load_state_dict(state[name])
        if getattr(engine, "scaler", None) is not None and state["scaler"] is not None:
            engine.scaler.load_state_dict(state["scaler"])
        if self.evaluator is not None:
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
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
        validated = self.evaluator.state if self.evaluator is not None else None
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
        if self.evaluator is None:
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
        network = engine.network if self.evaluator is None else self.evaluator.network
        weights: dict[str, Tensor] = unwrapped(network).state_dict()
        return weights

    def _write_weights(self, weights: dict[str, Tensor]) -> None:
        if is_first():
            _write(self.model, weights)


def _write(path: Path, content: dict[str, Any]) -> None:
    """Save beside and rename; in memory first: torch then writes no name into it, so that equal contents are equal bytes.

    Raises:
        OSError: as the system says it; torch, writing to a full disk itself, speaks of positions.
    """
    saved = io.BytesIO()
    torch.save(content, saved)
    with atomic_path(path) as partial:
        partial.write_bytes(saved.getbuffer())
