"""The application: slide reader, transformation, inference, writers."""

import sys
import tempfile
from pathlib import Path

from holoscan.conditions import CountCondition
from monai.deploy.core import AppContext, Application
from monai.deploy.operators.dicom_utils import ModelInfo
from operators.inference import DSNetInferenceOperator
from operators.manifest import Manifest
from operators.reports import ReportWriterOperator
from operators.slide_reader import Case, SlideReaderOperator, read_cases
from operators.transformation import TransformationOperator
from operators.writers import HeatMapWriterOperator, PredictionWriterOperator
from pydicom.uid import generate_uid
from recipe import Recipe, read_recipe

from scripts.common.errors import RequestError, SlideError, StorageError
from scripts.common.exit_codes import EXIT_FAILED, EXIT_WRONG_REQUEST
from scripts.encoding.manifest import require_complete


class DSNetApp(Application):
    """Classifies slides one after the other.

    Args:
        context: paths, and ``model.ts``.
        recipe: what the bundle does.
        cases: the slides.
        workdir: folder of the embedding files.
    """

    def __init__(self, context: AppContext, recipe: Recipe, cases: list[Case], workdir: Path) -> None:
        self._context, self._recipe, self._cases, self._workdir = context, recipe, cases, workdir
        self.manifest = Manifest(Path(context.output_path) / "manifest.csv")
        super().__init__()

    def compose(self) -> None:
        """Make the operators and connect them."""
        recipe, output = self._recipe, Path(self._context.output_path)
        reader = SlideReaderOperator(
            self, CountCondition(self, len(self._cases)), cases=self._cases, name="slide_reader"
        )
        transformation = TransformationOperator(
            self,
            recipe=recipe,
            manifest=self.manifest,
            workdir=self._workdir,
            name="transformation",
        )
        inference = DSNetInferenceOperator(
            self, app_context=self._context, temperature=recipe.card.temperature, name="inference"
        )
        predictions = PredictionWriterOperator(
            self, recipe=recipe, manifest=self.manifest, output_folder=output, name="predictions"
        )
        heat_maps = HeatMapWriterOperator(
            self, recipe=recipe, manifest=self.manifest, output_folder=output, name="heat_maps"
        )
        reports = ReportWriterOperator(
            self, output_folder=output / "dicom_sr", model_info=_model_info(recipe), copy_tags=True, name="reports"
        )
        self.add_flow(reader, transformation, {("slide", "slide")})
        self.add_flow(transformation, inference, {("image", "image")})
        for writer in (predictions, heat_maps):
            self.add_flow(transformation, writer, {("slide", "slide")})
            self.add_flow(inference, writer, {("pred", "pred")})
        ports = ("text", "study_selected_series_list")
        self.add_flow(predictions, reports, {(port, port) for port in ports})


def _model_info(recipe: Recipe) -> ModelInfo:
    """What the report says of its origin; the UID changes with the weights."""
    metadata = recipe.metadata
    uid = generate_uid(entropy_srcs=[recipe.card.weights_sha256])
    return ModelInfo(metadata["authors"], metadata["name"], metadata["version"], uid)


def run(bundle: Path, context: AppContext) -> int:
    """Classify the slides of ``context.input_path`` and return the exit code."""
    try:
        recipe, cases = read_recipe(bundle), read_cases(context.input_path)
        with tempfile.TemporaryDirectory(prefix="dsnet-", dir=context.workdir or None) as workdir:
            app = DSNetApp(context, recipe, cases, Path(workdir))
            app.run()
        require_complete(app.manifest.rows, context.output_path)
        if not any(entry.output for entry in app.manifest.rows):
            raise SlideError(
                f"no slide holds tissue, expected one at least; {context.output_path}/manifest.csv says more"
            )
    except RequestError as error:
        print(error, file=sys.stderr)
        return EXIT_WRONG_REQUEST
    except (SlideError, StorageError) as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    return 0
