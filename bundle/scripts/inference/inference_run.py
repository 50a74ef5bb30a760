"""The stage ``inference``: slide after slide is encoded, classified, mapped and written."""

import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator

from ..common.config_settings import Plain
from ..evaluation.calibration import calibrated_predictions
from ..evaluation.predictions import Prediction, write_predictions
from ..training.predicting import PredictionCollector
from .heat_maps import HeatMapHandler
from .inference_manifest import without_names
from .inference_outputs import SO_FAR, PredictionOutputs
from .record import SlideOrigin, with_pseudonyms, write_run
from .slide_set import NOT_PREDICTED

WRITE_S = 5.0
"""Between two writes of what is known so far: a table of thousands of slides takes its time."""


class ResultWriter:
    """Lets an evaluator write what it has found so far, every few seconds; in the end ``predictions.csv`` and ``inference.json``.

    What is known meanwhile has a file of its own, ``predictions_so_far.csv``, so that nobody takes it for the whole. The end
    removes it.

    Args:
        outputs: where the results go, and of which slides they are.
        predictions: collects them; attached to the evaluator before.
        settings: of the stage, for ``inference.json``.
    """

    def __init__(
        self,
        outputs: PredictionOutputs,
        predictions: PredictionCollector,
        *,
        settings: Mapping[str, Plain] | None = None,
    ) -> None:
        self._outputs = outputs
        self._predictions = predictions
        self._settings = settings or {}
        self._judged: list[Prediction] = []
        self._written_s = -WRITE_S

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)

    def finish(self, mapped: Collection[str] = ()) -> None:
        """Write what the whole run has found; ``mapped`` are the ids of the slides whose heat map it wrote."""
        finite = self._finite(self._predictions.predictions)
        self._write("predictions.csv", self._as_written(finite))
        outputs, names = self._outputs, self._outputs.names
        settings = with_pseudonyms(outputs.slides.resolved(self._settings), names)
        origins = {one.slide_id: self._origin(one.slide_id) for one in finite}
        others = (row for row in outputs.slides.manifest if row.slide_id not in origins)
        write_run(
            Path(outputs.folder) / "inference.json",
            card=outputs.slides.card,
            threshold=outputs.threshold,
            settings=settings,
            slides={names.slide(slide_id): origin for slide_id, origin in origins.items()},
            mapped=set(map(names.slide, mapped)),
            not_predicted=(without_names(row, names) if names.anonymise else row for row in others),
        )
        (Path(outputs.folder) / SO_FAR).unlink(missing_ok=True)

    def _begin(self) -> None:
        self._judged, self._written_s = [], -WRITE_S

    def _add(self, engine: Any) -> None:
        if engine.state.output and self._predictions.latest.is_finite:  # else the slide failed
            self._judged += self._as_written([self._predictions.latest])
            if time.monotonic() - self._written_s >= WRITE_S:
                self._write(SO_FAR, self._judged)
                self._written_s = time.monotonic()

    def _write(self, name: str, predictions: Sequence[Prediction]) -> None:
        outputs = self._outputs
        path, names = Path(outputs.folder) / name, outputs.slides.card.class_names
        write_predictions(path, predictions, class_names=names, threshold=outputs.threshold)

    def _as_written(self, predictions: Sequence[Prediction]) -> list[Prediction]:
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

    def _origin(self, slide_id: str) -> SlideOrigin:
        """Where a slide comes from, as it is written: the patient by the name that it has there."""
        origin = self._outputs.slides.origin(slide_id)
        return replace(origin, patient=origin.patient and self._outputs.names.patient(origin.patient))

    def _finite(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        """The predictions that are numbers; the slides of the others failed."""
        for one in predictions:
            if not one.is_finite:
                self._outputs.slides.fail(
                    one.slide_id,
                    f"{NOT_PREDICTED}{one.slide_id}: the network says NaN, expected probabilities: check the slide's features, "
                    "or name another model",
                )
        return [one for one in predictions if one.is_finite]


def classify(
    evaluator: SupervisedEvaluator, outputs: PredictionOutputs, maps: HeatMapHandler, results: ResultWriter
) -> None:
    """Go over the slides: each is encoded, where slides are given, while the one before is judged and mapped.

    Args:
        evaluator: goes over them.
        outputs: folder of the predictions, held meanwhile.
        maps: attached to the evaluator; closed in the end, whatever that is.
        results: attached to the evaluator.

    Raises:
        RequestError: see :meth:`.slide_set.InferenceSet.opened`, or the folder cannot be held.
        SlideError: slides failed; all others are done, and the run counts as finished. Or none could be classified.
        StorageError: nothing more can be written.
    """
    slides = outputs.slides
    with slides.opened(outputs.folder), closing(maps):
        outputs.hold_for(
            evaluator.run, slides.require_any, lambda: results.finish(maps.written), outputs.write_manifest
        )
    slides.require_complete(outputs.folder)
