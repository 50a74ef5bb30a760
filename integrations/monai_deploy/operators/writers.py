"""What the application leaves in ``<output>/<slide_id>/``, and the text of the report for a DICOM slide."""

from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from recipe import Recipe

from scripts.common.errors import SlideError
from scripts.common.files import write_json
from scripts.evaluation.metrics import predicted_classes
from scripts.evaluation.predictions import Prediction, require_finite
from scripts.inference.heat_maps import HeatMapWriter
from scripts.inference.slide_set import NOT_PREDICTED
from scripts.slides.box import BoxReader

from .manifest import Manifest
from .transformation import EncodedSlide

FORMAT = "dsnet-prediction/1"


class SlideWriterOperator(Operator):
    """Base of the writers: waits for a slide and its prediction. A slide whose outputs cannot be written failed; the others go on.

    A subclass says in ``lacks`` what such a slide is without: it begins the error in the manifest.

    Args:
        fragment: the application.
        args: conditions.
        recipe: what the bundle does.
        manifest: has a row of the slide.
        output_folder: folder of the outputs.
        kwargs: of the operator.

    Named inputs:
        slide: an :class:`.transformation.EncodedSlide`.
        pred: what :class:`.inference.DSNetInferenceOperator` sends.
    """

    lacks: ClassVar[str]

    def __init__(
        self,
        fragment: Fragment,
        *args: object,
        recipe: Recipe,
        manifest: Manifest,
        output_folder: Path,
        **kwargs: object,
    ) -> None:
        self._recipe, self._manifest, self._output = recipe, manifest, output_folder
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("slide")
        spec.input("pred")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Write what belongs to one slide, or enter in the manifest why it cannot be.

        Raises:
            StorageError: nothing more can be written.
        """
        slide: EncodedSlide = op_input.receive("slide")
        pred = op_input.receive("pred")
        prediction = Prediction(slide.slide_id, None, tuple(pred["probabilities"]), pred["stream_score"])
        try:
            self.write(slide, prediction, op_output)
        except SlideError as error:
            self._manifest.fail(slide.slide_id, f"{self.lacks}{error}")

    def write(self, slide: EncodedSlide, prediction: Prediction, op_output: OutputContext) -> None:
        """Write what belongs to one slide.

        Raises:
            SlideError: it cannot be.
        """
        raise NotImplementedError


class HeatMapWriterOperator(SlideWriterOperator):
    """Writes the heat map as ``inference.yaml`` does: ``cam.png`` over the thumbnail, and the same map for viewers.

    Nothing is written where the network has none, or the score is no number.
    """

    lacks = "predicted, but without a heat map: "

    def write(self, slide: EncodedSlide, prediction: Prediction, op_output: OutputContext) -> None:
        """Write the files of one slide."""
        recipe = self._recipe
        with closing(BoxReader()) as boxes:
            writer = HeatMapWriter(
                recipe.network, recipe.card, self._output, device=recipe.device, target=recipe.target, boxes=boxes
            )
            if writer.kind is not None and prediction.is_finite:
                writer.write(slide.item, prediction)


class PredictionWriterOperator(SlideWriterOperator):
    """Writes ``prediction.json``; of a DICOM slide it also sends on what the writer of reports needs.

    Named outputs:
        text: the report.
        study_selected_series_list: the series that it is about.
    """

    lacks = NOT_PREDICTED

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        super().setup(spec)
        spec.output("text")
        spec.output("study_selected_series_list")

    def write(self, slide: EncodedSlide, prediction: Prediction, op_output: OutputContext) -> None:
        """Write the file of one slide."""
        require_finite([prediction])
        result = describe(slide, prediction, self._recipe)
        write_json(self._output / slide.slide_id / "prediction.json", result)
        if slide.series is not None:
            op_output.emit([slide.series], "study_selected_series_list")
            op_output.emit(report(result), "text")


def describe(slide: EncodedSlide, prediction: Prediction, recipe: Recipe) -> dict[str, Any]:
    """Return the content of ``prediction.json``; classes go by name."""
    card = recipe.card
    names = card.class_names
    decision = int(predicted_classes([prediction.probabilities], recipe.threshold)[0])
    result = {
        "format": FORMAT,
        "slide_id": slide.slide_id,
        "slide": Path(slide.item["slide"]).name,
        "predicted": names[decision],
        "probabilities": dict(zip(names, prediction.probabilities, strict=True)),
        "threshold": recipe.threshold,
        "stream_score": prediction.stream_score,
        "model": {
            "name": recipe.metadata["name"],
            "version": recipe.metadata["version"],
            "weights_sha256": card.weights_sha256,
            "encoder": card.encoder,
        },
        "intended_use": card.intended_use,
    }
    if slide.series is not None:
        (selected,) = slide.series.selected_series
        result["dicom"] = {
            "study_instance_uid": str(slide.series.study.StudyInstanceUID),
            "series_instance_uid": str(selected.series.SeriesInstanceUID),
        }
    return result


def report(result: dict[str, Any]) -> str:
    """Return the text of the DICOM report on a result of `describe`."""
    model = result["model"]
    lines = [
        f"{model['name']} {model['version']}, weights sha256 {model['weights_sha256']}",
        f"Slide: series {result['dicom']['series_instance_uid']}",
        f"Predicted class: {result['predicted']}",
        *(f"P({name}) = {probability:.4f}" for name, probability in result["probabilities"].items()),
        *([] if result["threshold"] is None else [f"Threshold on the second of them: {result['threshold']:.4f}"]),
        f"Intended use: {result['intended_use']}",
    ]
    return "\r\n".join(lines)  # as DICOM ends lines
