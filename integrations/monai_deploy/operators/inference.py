"""Stage 2 of the method: the network of ``model.ts``, run by MONAI Deploy's operator for bundles."""

from typing import Any

from monai.deploy.core import AppContext, Fragment, IOType, OutputContext
from monai.deploy.operators.monai_bundle_inference_operator import IOMapping, MonaiBundleInferenceOperator
from torch import Tensor

from scripts.evaluation.calibration import calibrated


class DSNetInferenceOperator(MonaiBundleInferenceOperator):
    """Classifies what :class:`.transformation.TransformationOperator` sends; inferer and postprocessing are the bundle's.

    Three methods of the base class do not serve: ``pre_process`` would load the embedding a second time, ``predict`` keeps one of
    the network's outputs, and ``_send_output`` turns every probability into the integer 0 (version 4.0.0).

    Args:
        fragment: the application.
        args: conditions.
        app_context: holds ``model.ts``.
        temperature: of the calibration, from the model card.
        kwargs: of the operator.

    Named input:
        image: the network's input, a tensor (C + 12L, H, W).

    Named output:
        pred: ``{"probabilities": [one per class], "stream_score": share of the local stream}``.
    """

    def __init__(
        self, fragment: Fragment, *args: object, app_context: AppContext, temperature: float, **kwargs: object
    ) -> None:
        self._temperature = temperature
        self._stream_score = 0.0
        super().__init__(
            fragment,
            *args,
            app_context=app_context,
            input_mapping=[IOMapping("image", Tensor, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", dict, IOType.IN_MEMORY)],
            **kwargs,
        )

    def pre_process(self, data: Any, *args: object, **kwargs: object) -> Any:
        """Return ``data``: the transformation has applied the bundle's preprocessing."""
        return data

    def predict(self, data: Tensor, *args: object, **kwargs: object) -> Tensor:
        """Return logits (1, classes) and keep the stream score, which the SDK has no slot for."""
        network = self._model_network.predictor
        logits, stream_score, _ = self._inferer(inputs=data.as_subclass(Tensor), network=network.attend)
        self._stream_score = float(stream_score)
        return logits

    def _send_output(self, value: Tensor, name: str, metadata: dict, op_output: OutputContext, context: object) -> None:
        """Send probabilities as numbers, calibrated."""
        (probabilities,) = calibrated([value.tolist()], self._temperature).tolist()
        op_output.emit({"probabilities": probabilities, "stream_score": self._stream_score}, name)
