"""What validates a training, known to all that is attached to the same trainer."""

from typing import Any

from ignite.engine import Engine
from monai.handlers import ValidationHandler


class Validation(ValidationHandler):
    """MONAI's handler, which runs an evaluator every so many epochs; the handlers behind it find it by :func:`validation_of`."""

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        super().attach(engine)
        engine.validation = self  # type: ignore[attr-defined]


def validation_of(engine: Any) -> Validation | None:
    """Return what validates the training of ``engine``; None where nothing does."""
    return getattr(engine, "validation", None)


def evaluator_of(engine: Any) -> Any:
    """Return the evaluator of a trainer; None where nothing is validated."""
    found = validation_of(engine)
    return None if found is None else found.validator
