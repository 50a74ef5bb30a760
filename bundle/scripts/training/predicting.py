"""An evaluation step that keeps both attentions, and the handler that collects what it predicts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.engines import IterationEvents
from monai.metrics import compute_roc_auc
from monai.transforms import MapTransform
from torch import Tensor
from torch.nn.functional import one_hot

from ..common.errors import RequestError
from ..common.networks import unwrapped
from ..common.ranks import join_shares
from ..evaluation.predictions import Prediction, require_finite
from .batches import dense_image


class AttendingIteration:
    """One step of a ``SupervisedEvaluator``: logits in ``pred``, with ``stream_score`` and ``channel_scores`` beside them."""

    def __call__(self, engine: Any, batch: dict[str, Any]) -> Any:
        """Run the network on a batch and return the engine's output."""
        network = unwrapped(engine.network)
        network.eval()
        with torch.no_grad():
            image = dense_image(batch, engine.state.device, engine.non_blocking)
            engine.state.output = {"image": image, "label": batch["label"], **self.outputs(network, image)}
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)  # MONAI decollates and postprocesses here
        return engine.state.output

    def outputs(self, network: Any, image: Tensor) -> dict[str, Tensor]:
        """What the network says of ``image``, by name."""
        logits, stream_score, channel_scores = network.attend(image)
        return {"pred": logits, "stream_score": stream_score, "channel_scores": channel_scores}


class Probabilitiesd(MapTransform):
    """Logits (K,) to probabilities by softmax, in float64 on the CPU.

    That of float32, as of MONAI's ``Activationsd``, is 1 from a difference of 17 on: slides beyond it would be equal.
    """

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        """Return ``data`` with probabilities in the place of logits."""
        return {**data, **{key: torch.softmax(data[key].cpu().double(), dim=0) for key in self.key_iterator(data)}}


class PredictionCollector:
    """Collects a :class:`Prediction` per slide over one run of an evaluator; ``predictions`` holds those of the last run.

    MONAI attaches decollation and postprocessing (logits to probabilities) before it, so it sees one item per slide. Of several
    processes each evaluates its :func:`..common.ranks.share` of the slides; all of them then hold all predictions, every slide
    once, in the order of one process. Given as a metric of the evaluator it reports the AUC (of more than two classes the mean
    over one against the rest), from the same predictions.
    """

    def __init__(self) -> None:
        self.predictions: list[Prediction] = []
        self.patients: list[str | None] = []
        self._found: list[tuple[Prediction, str | None]] = []

    @property
    def labels(self) -> list[int]:
        """Class index of every slide.

        Raises:
            RequestError: a slide has no label.
        """
        labels = [prediction.label for prediction in self.predictions if prediction.label is not None]
        if len(labels) != len(self.predictions):
            raise RequestError(
                f"{len(self.predictions) - len(labels)} slides have no label; expected one each: fill the column label"
            )
        return labels

    @property
    def probabilities(self) -> list[tuple[float, ...]]:
        """Probabilities of every slide, one per class.

        Raises:
            SlideError: some are NaN.
        """
        require_finite(self.predictions)
        return [prediction.probabilities for prediction in self.predictions]

    @property
    def latest(self) -> Prediction:
        """The prediction of the slide that was judged last."""
        return self._found[-1][0]

    def attach(self, engine: Engine, name: str | None = None) -> None:
        """Register with the evaluator, with ``name`` as its metric of that name."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._join)
        if name is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._report, name)

    def _reset(self, engine: Engine) -> None:
        self._found = []

    def _join(self, engine: Engine) -> None:
        by_slide = {found[0].slide_id: found for found in join_shares(self._found)}
        self.predictions = [prediction for prediction, _ in by_slide.values()]
        self.patients = [patient for _, patient in by_slide.values()]

    def _report(self, engine: Engine, name: str) -> None:
        probabilities = torch.tensor(self.probabilities, dtype=torch.float64)
        labels = one_hot(torch.tensor(self.labels), probabilities.shape[1])
        engine.state.metrics[name] = float(np.asarray(compute_roc_auc(probabilities, labels)))

    def _collect(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        for index, item in enumerate(output):
            label = int(torch.as_tensor(item["label"]))
            prediction = Prediction(
                slide_id=batch[index]["slide_id"],
                label=label if label >= 0 else None,
                probabilities=tuple(float(p) for p in item["pred"]),
                stream_score=float(item["stream_score"]) if "stream_score" in item else None,
                channel_scores=tuple(item["channel_scores"].tolist()) if "channel_scores" in item else (),
            )
            self._found.append((prediction, batch[index]["patient"] or None))
