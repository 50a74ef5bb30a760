"""Stage 1 of the method on one slide: to an embedding file by the bundle's code, and from there to the network's input."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from monai.deploy.core.domain.dicom_series_selection import StudySelectedSeries
from recipe import Recipe

from scripts.common.boundary import slide_boundary
from scripts.common.errors import SlideError
from scripts.common.files import write_csv
from scripts.inference.slide_set import InferenceSet
from scripts.training.batches import image_of

from .manifest import Manifest
from .slide_reader import Case


@dataclass(frozen=True)
class EncodedSlide:
    """What the writers need to know: an item of :class:`scripts.inference.slide_set.InferenceSet`, and the series of a DICOM slide."""

    item: Mapping[str, Any]
    series: StudySelectedSeries | None

    @property
    def slide_id(self) -> str:
        """The slide's name in all outputs."""
        return str(self.item["slide_id"])


class TransformationOperator(Operator):
    """Encodes a slide as ``inference.yaml`` does, and enters it in the manifest.

    Of a slide that cannot be read or loaded, or holds no tissue, nothing is sent on.

    Args:
        fragment: the application.
        args: conditions.
        recipe: what the bundle does.
        manifest: gets one row per slide.
        workdir: folder of the embedding files.
        kwargs: of the operator.

    Named input:
        slide: a :class:`.slide_reader.Case`.

    Named outputs:
        image: the network's input, a tensor (C + 12L, H, W).
        slide: an :class:`EncodedSlide`.
    """

    def __init__(
        self,
        fragment: Fragment,
        *args: object,
        recipe: Recipe,
        manifest: Manifest,
        workdir: Path,
        **kwargs: object,
    ) -> None:
        self._recipe, self._manifest, self._workdir = recipe, manifest, workdir
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("slide")
        spec.output("image")
        spec.output("slide")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Encode one slide.

        Raises:
            RequestError: the encoder is not the model's.
            StorageError: nothing more can be written.
        """
        case: Case = op_input.receive("slide")
        row, folder = case.row, self._workdir / case.row.slide_id
        table = folder / "slides.csv"  # carries the resolution that the request may give
        write_csv(table, ("slide", "mpp"), [{"slide": row.path.resolve(), "mpp": row.mpp or ""}])
        recipe = self._recipe
        slides = InferenceSet(str(table), replace(recipe.job, output=folder), recipe.card, model=recipe.model)
        slides.prepare()
        with slides.opened():
            items = list(slides)
        for entry in slides.manifest:
            output = row.slide_id if items else ""
            self._manifest.enter(replace(entry, slide_id=row.slide_id, slide=str(row.path), output=output))
        for item in items:
            item["slide_id"] = row.slide_id  # unique in the request, the file's own name need not be
            try:
                with slide_boundary(item["embedding"]):
                    image = image_of(self._recipe.preprocessing(item))[0]
            except SlideError as error:
                self._manifest.fail(row.slide_id, str(error))
            else:
                op_output.emit(EncodedSlide(item, case.series), "slide")
                op_output.emit(image, "image")
