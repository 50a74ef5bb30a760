"""The end of a training that no longer gets better."""

import logging
from collections.abc import Mapping
from typing import Any

from ignite import handlers
from ignite.engine import Engine, Events

from ..common.errors import RequestError
from ..common.option_table import checked
from .validation import validation_of

_LOGGER = logging.getLogger(__name__)


class EarlyStopping:
    """End a training whose key metric no longer rises (ignite's ``EarlyStopping``); ``last.pt`` keeps the count of validations.

    The key metric is that of what validates the training. A training that would end before its first validation is refused: no
    epoch of it could be chosen.

    Args:
        patience: validations in a row without a higher key metric, after which the training ends; None lets it come to its last
            epoch.

    Raises:
        RequestError: ``patience`` is less than 1, or (on attaching) no epoch would be validated.
    """

    def __init__(self, patience: int | None = None) -> None:
        self.patience: int | None = checked("patience", patience, null=True)
        self._stopper: handlers.EarlyStopping | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, behind the handlers that validate and resume, and with its evaluator."""
        validation = validation_of(engine)
        if validation is None:
            return
        if validation.interval > (engine.state.max_epochs or 0):
            raise RequestError(
                f"val_interval {validation.interval}: over max_epochs {engine.state.max_epochs}, so no epoch would be validated "
                "and none chosen; expected at most max_epochs: give a smaller --val_interval, or more --max_epochs"
            )
        if self.patience is None:
            return
        self._stopper = handlers.EarlyStopping(self.patience, self._score, engine)
        self._stopper.logger.setLevel(logging.WARNING)  # its words in another format; ours follow
        evaluator: Any = validation.validator
        evaluator.add_event_handler(Events.COMPLETED, self._judge)
        engine.add_event_handler(Events.STARTED, self._require_unfinished)

    def state_dict(self) -> dict[str, object]:
        """What a resumed training needs."""
        return dict(self._stopper.state_dict()) if self._stopper is not None else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        if self._stopper is not None:
            self._stopper.load_state_dict(state)

    @property
    def is_over(self) -> bool:
        """Whether the training was ended."""
        return self._stopper is not None and self._stopper.counter >= self._stopper.patience

    @staticmethod
    def _score(evaluator: Any) -> float:
        return float(evaluator.state.metrics[evaluator.state.key_metric_name])

    def _judge(self, evaluator: Any) -> None:
        if self._stopper is not None:
            self._stopper(evaluator)
            if self.is_over:
                _LOGGER.info(
                    "early stopping: no higher %s in %d validations", evaluator.state.key_metric_name, self.patience
                )

    def _require_unfinished(self, engine: Engine) -> None:
        if self.is_over:
            _LOGGER.warning(
                "nothing left to train: early stopping ended this training after epoch %d; to train on, begin anew with a larger "
                "--early_stopping#patience",
                engine.state.epoch,
            )
            engine.terminate()
