"""The stage ``inference``: slide after slide is encoded, classified, mapped and written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from ..common.config_settings import Plain
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, read_predictions, write_predictions
from ..training.evaluation import PredictionCollector
from .inference_outputs import PredictionOutputs
from .record import told, write_run


class ResultWriter:
    """Lets an evaluator write ``predictions.csv`` after every slide; in the end that of the whole run, and ``inference.json``.

    Until the end the file also holds what an earlier run of this request said of slides that have not been judged anew. So a run
    that is stopped leaves no less than there was.

    Args:
        predictions: collects them; attached to the evaluator before.
        settings: of the stage, for ``inference.json``.
    """

    def __init__(self, predictions: PredictionCollector, *, settings: Mapping[str, Plain] | None = None) -> None:
        self._predictions = predictions
        self._settings = settings or {}
        self._outputs: PredictionOutputs
        self._judged: list[Prediction] = []
        self._earlier: dict[str, Prediction] = {}

    def to(self, outputs: PredictionOutputs) -> "ResultWriter":
        """Say where the results go, and of which slides they are."""
        self._outputs = outputs
        return self

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def finish(self) -> None:
        """Write what the whole run has found."""
        self._write(self._told(self._finite(self._predictions.predictions)))
        settings = told(self._outputs.slides.resolved(self._settings), self._outputs.names)
        write_run(
            Path(self._outputs.folder) / "inference.json",
            card=self._outputs.slides.card,
            threshold=self._outputs.threshold,
            settings=settings,
        )

    def _begin(self, engine: Engine) -> None:
        path = Path(self._outputs.folder) / "predictions.csv"
        before = read_predictions(path, other_labels=True).predictions if path.is_file() else ()
        listed = {self._outputs.names.slide(slide_id) for slide_id in self._outputs.slides.slide_ids}
        self._judged, self._earlier = [], {one.slide_id: one for one in before if one.slide_id in listed}

    def _add(self, engine: Any) -> None:
        if engine.state.output and self._predictions.latest.is_finite:  # else the slide failed
            (judged,) = self._told([self._predictions.latest])
            self._judged.append(judged)
            self._earlier.pop(judged.slide_id, None)
            self._write([*self._judged, *self._earlier.values()])

    def _write(self, predictions: Sequence[Prediction]) -> None:
        names = self._outputs.slides.card.class_names
        write_predictions(
            Path(self._outputs.folder) / "predictions.csv",
            predictions,
            class_names=names,
            threshold=self._outputs.threshold,
        )

    def _told(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """Predictions as they are written: calibrated, with the slides' names and labels."""
        names, labels = self._outputs.names, self._outputs.slides.other_labels
        return [
            replace(
                one,
                slide_id=names.slide(one.slide_id),
                other_label=None if names.anonymise else labels.get(one.slide_id),
            )
            for one in calibrated_predictions(predictions, self._outputs.slides.card.temperature)
        ]

    def _finite(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The predictions that are numbers; the slides of the others failed."""
        for one in predictions:
            if not one.is_finite:
                self._outputs.slides.fail(
                    one.slide_id,
                    f"{one.slide_id}: the network says NaN, expected probabilities: check the slide's features, or name "
                    "another model",
                )
        return [one for one in predictions if one.is_finite]


def classify(
    evaluator: SupervisedEvaluator, outputs: PredictionOutputs, results: ResultWriter, *, replace: bool = False
) -> None:
    """Go over the slides: each is encoded, where slides are given, while the one before is judged and mapped.

    Args:
        evaluator: goes over them.
        outputs: folder of the predictions, held meanwhile.
        results: attached to the evaluator.
        replace: whether embeddings of another request may be replaced.

    Raises:
        RequestError: see :meth:`.slide_set.InferenceSet.opened`, or the folder cannot be held.
        SlideError: slides failed; all others are done.
        StorageError: nothing more can be written.
    """
    slides = outputs.slides
    results.to(outputs)
    with slides.opened(replace=replace):
        outputs.hold_for(evaluator.run, slides.require_any, results.finish, outputs.require_complete)
