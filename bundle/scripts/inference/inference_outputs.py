"""What inference writes, held against other requests and other people's files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..common.config_settings import Plain
from ..common.errors import RequestError
from ..common.files import sha256_of
from ..common.outputs import HeldOutputs
from ..common.pseudonyms import AS_THEY_ARE, Names
from .asked_slides import listed_slides
from .inference_manifest import write_manifest
from .record import with_pseudonyms
from .slide_set import InferenceSet

EMBEDDINGS = "embeddings"
"""Folder below that of the predictions where the slides' embeddings lie, unless the user names another."""

SO_FAR = "predictions_so_far.csv"
OF_RUN = ("predictions.csv", "inference.json", SO_FAR)
OF_SLIDE = (
    "cam.nii.gz", "cam.ome.tif", "cam.png", "cam.geojson", "cam.xml", "cam.dcm", "observed.png", "scores.json", "thumbnail.png",
)  # fmt: skip


@dataclass(frozen=True)
class PredictionOutputs:
    """The folder of the predictions. Made, it has looked at nothing.

    Attributes:
        folder: where predictions and maps go.
        slides: what is classified. Part of the request is their path in the user's words (a folder with a new slide is the same
            request), or without slides the folder of the embeddings. So is the content of the model's weights.
        weights: of the patch encoder, part of the request where slides are given.
        settings: values that decide predictions and maps.
        of_encoding: values that decide embeddings, part of the request where slides are given.
        heat_maps: whether they will be written.
        replace: whether predictions of another request may be replaced.
        names: what slides are called in them.
    """

    folder: str | Path
    slides: InferenceSet
    weights: str | Path
    settings: Mapping[str, Plain] = field(default_factory=dict)
    of_encoding: Mapping[str, Plain] = field(default_factory=dict)
    heat_maps: bool = True
    replace: bool = False
    names: Names = AS_THEY_ARE

    @property
    def threshold(self) -> float | None:
        """Of the decision, on the calibrated P(class 1): a setting, else the model card's; None for more classes than two."""
        asked = self.settings.get("threshold")
        return self.slides.card.threshold if asked is None else float(str(asked))

    @property
    def replaces_embeddings(self) -> bool:
        """Whether embeddings of another request may be replaced, too: those in the predictions' own folder, in no other."""
        own = Path(self.folder) / EMBEDDINGS
        return self.replace and self.slides.folder.resolve() == own.resolve()

    def check(self) -> None:
        """Look at what lies in the folder; nothing is written.

        Raises:
            RequestError: there is a threshold, and the model has more classes than two. Or the slides cannot be listed, anonymous
                outputs would hold what is called by them, or see :class:`..common.outputs.HeldOutputs`.
        """
        classes = self.slides.card.class_names
        if len(classes) > 2 and self.threshold is not None:
            raise RequestError(
                f"threshold {self.threshold:g}: the model has {len(classes)} classes ({', '.join(classes)}), expected none, as it "
                "decides by the highest probability: leave --threshold out"
            )
        self._held().check()

    def hold_for(self, *steps: Callable[[], object]) -> None:
        """Hold the folder while the steps are done one after the other.

        Raises:
            RequestError: as :meth:`check`.
        """
        self._held().hold_for(self.names.keep, *steps)

    def write_manifest(self) -> None:
        """Write ``manifest.csv``, unless encoding does so in the same folder."""
        if not self.slides.share_manifest(self.folder):
            write_manifest(self.folder, self.slides.all_rows, embeddings=self.slides.folder, names=self.names)

    def _held(self) -> HeldOutputs:
        return HeldOutputs(self.folder, "inference", self._request(), writes=self._writes(), replace=self.replace)

    def _request(self) -> dict[str, object]:
        slides, names = self.slides, self.names
        names.require_outside(slides.folder, "--dataset_dir")
        request: dict[str, object] = {
            "model": sha256_of(slides.model),
            **with_pseudonyms(self.settings, names),
            "split": slides.split,
            **names.request,
        }
        if slides.slides is None:
            return request | {"dataset_dir": names.place(str(slides.folder.absolute()))}
        weights = sha256_of(self.weights) if Path(self.weights).is_file() else names.place(str(self.weights))
        return request | {
            "slides": names.place(str(Path(slides.slides).absolute())),
            "encoder": weights,
            **with_pseudonyms(slides.resolved(self.of_encoding), names),
        }

    def _writes(self) -> list[str]:
        slides, writes = self.slides, list(OF_RUN)
        if not slides.share_manifest(self.folder):
            writes.append("manifest.csv")  # else encoding holds it
        if self.heat_maps:
            listed = listed_slides(slides.slides, slides.folder, slides.split)
            writes += [f"{self.names.slide(row.slide_id)}/{name}" for row in listed for name in OF_SLIDE]
        return writes
