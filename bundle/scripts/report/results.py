"""What the report is made of: the files that inference left."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from ..common.errors import RequestError
from ..common.journal import require_as_written
from ..common.json_files import NONE, NUMBER, Kind, read_json, require_fields
from ..common.pseudonyms import NOT_TOLD, Names
from ..evaluation.metrics import predicted_classes
from ..evaluation.predictions import Prediction, PredictionTable, read_predictions
from ..inference.record import RUN_FORMAT, SCORES_FORMAT, with_pseudonyms
from ..training.model_card import ModelCard

OTHER_LABEL = "another"
"""Stands on anonymous pages for a label that is none of the model's classes, which may be somebody's name."""

EXPECTED = "what inference writes: run it anew with this version"
RUN_FIELDS: dict[str, Kind] = {
    "threshold": (*NUMBER, NONE), "card": dict, "settings": dict, "slides": dict, "not_predicted": dict, "versions": dict,
}  # fmt: skip
ORIGIN_FIELDS: dict[str, Kind] = {"patient": (str, NONE), "seen_in": (str, NONE), "mapped": bool}
NOT_PREDICTED_FIELDS: dict[str, Kind] = {"status": str, "error": str}
SCORES_FIELDS: dict[str, Kind] = {
    "slide": str,
    "class_shown": str,
    "heat_map": str,
    "channel_scores": list,
    "backend": (str, NONE),
    "engine": (str, NONE),
    "grid.shape_yx": list,
    "grid.origin_xy_px": list,
    "grid.patch_px_level0": int,
    "resolution.mpp_x": (*NUMBER, NONE),
    "resolution.mpp_y": (*NUMBER, NONE),
    "resolution.patch_um": (*NUMBER, NONE),
    "resolution.read_px": (int, NONE),
    "tissue.patches": int,
    "tissue.area_mm2": (*NUMBER, NONE),
    "tissue.box_mm2": (*NUMBER, NONE),
    "tissue.left_out": (int, NONE),
    "tissue.pen_coloured": (int, NONE),
}


@dataclass(frozen=True)
class SlideResult:
    """One classified slide.

    Attributes:
        prediction: what was predicted, on the calibrated scale.
        predicted: index of the class that it was called.
        threshold: on P(class 1); ``None`` for more than two classes.
        folder: of its heat map, which need not be there, or may be of an earlier run where there are no ``scores``.
        patient: whose slide it is, where that is known.
        seen_in: split in which the model met an equal embedding when it was trained; ``None`` if in none.
        scores: content of ``scores.json``; ``None`` where this run of inference wrote no heat map.
    """

    prediction: Prediction
    predicted: int
    threshold: float | None
    folder: Path
    patient: str | None
    seen_in: str | None
    scores: dict[str, Any] | None

    @property
    def slide_id(self) -> str:
        """Name of the slide."""
        return self.prediction.slide_id

    @property
    def tissue(self) -> dict[str, Any]:
        """What is known of its tissue; empty where nothing is."""
        return self.scores["tissue"] if self.scores else {}

    @property
    def area_mm2(self) -> float | None:
        """Area of the tissue, where the resolution is known."""
        return self.tissue.get("area_mm2")

    @property
    def has_thumbnail(self) -> bool:
        """Whether this run had a thumbnail and kept it: what lies in the folder may be of an earlier run."""
        return self.tissue.get("pen_coloured") is not None


class NotPredicted(NamedTuple):
    """A slide of the run that was not classified, and why: its status and error as in ``manifest.csv``."""

    slide_id: str
    status: str
    error: str


@dataclass(frozen=True)
class Inference:
    """A whole run of inference.

    Attributes:
        folder: its outputs.
        class_names: in the order of the network's outputs.
        slides: the classified ones, in the order of ``predictions.csv``.
        others: those of the same run without a prediction.
        run: content of ``inference.json`` but for the slides: threshold, settings, versions.
        card: the model card as it was used.
    """

    folder: Path
    class_names: tuple[str, ...]
    slides: tuple[SlideResult, ...]
    others: tuple[NotPredicted, ...]
    run: dict[str, Any]
    card: ModelCard

    @cached_property
    def counted(self) -> tuple[SlideResult, ...]:
        """The slides that count in figures: all but those with a label that is none of the model's classes."""
        return tuple(slide for slide in self.slides if slide.prediction.other_label is None)

    @cached_property
    def patients_met(self) -> frozenset[str]:
        """Patients of whom the model met a slide when it was trained."""
        return frozenset(slide.patient for slide in self.slides if slide.seen_in and slide.patient)

    def is_new(self, slide: SlideResult) -> bool:
        """Whether the model met neither the slide nor another of its patient; one without a patient stands for itself."""
        return not slide.seen_in and slide.patient not in self.patients_met


def read_inference(folder: str | Path | None) -> Inference:
    """Read the outputs of inference.

    Raises:
        RequestError: no folder is given, or a file is missing, is not what inference writes, or has changed since. Or inference was
            stopped, or is still at work.
    """
    if folder is None:
        raise RequestError("nothing to report: name the output folder of inference with --predictions_dir")
    folder = Path(folder)
    table = read_predictions(folder / "predictions.csv", other_labels=True)
    run = read_json(folder / "inference.json", expected=EXPECTED, format=RUN_FORMAT, fields=RUN_FIELDS)
    origins, not_predicted = run.pop("slides"), run.pop("not_predicted")
    require_as_written(folder, _files_of_run(table, origins), expected=EXPECTED)
    card = ModelCard.from_json(folder / "inference.json", run["card"])
    if card.class_names != table.class_names:
        raise RequestError(
            f"{folder}: predictions.csv has the classes {', '.join(table.class_names)}, inference.json "
            f"{', '.join(card.class_names)}; expected the files of one run: run inference anew"
        )
    thresholds = table.thresholds or (None,) * len(table.predictions)
    slides = tuple(
        _read_slide(folder, prediction, threshold, origins.get(prediction.slide_id))
        for prediction, threshold in zip(table.predictions, thresholds, strict=True)
    )
    for slide_id, found in not_predicted.items():
        require_fields(f"{folder / 'inference.json'}, slide {slide_id}", found, NOT_PREDICTED_FIELDS, expected=EXPECTED)
    others = (NotPredicted(slide_id, found["status"], found["error"]) for slide_id, found in not_predicted.items())
    return Inference(folder, table.class_names, slides, tuple(others), run, card)


def renamed(inference: Inference, names: Names) -> Inference:
    """Call slides, patients and places by other names, unless inference did so; the files stay where they are."""
    if not names.anonymise or inference.run["settings"].get("anonymise"):
        return inference
    slides = tuple(
        replace(
            slide,
            prediction=replace(
                slide.prediction,
                slide_id=names.slide(slide.slide_id),
                other_label=slide.prediction.other_label and OTHER_LABEL,
            ),
            patient=slide.patient and names.patient(slide.patient),
        )
        for slide in inference.slides
    )
    others = tuple(NotPredicted(names.slide(other.slide_id), other.status, NOT_TOLD) for other in inference.others)
    run = inference.run | {"settings": with_pseudonyms(inference.run["settings"], names)}
    return replace(inference, slides=slides, others=others, run=run)


def _files_of_run(table: PredictionTable, origins: Mapping[str, Any]) -> list[str]:
    """The files that tell of all slides, and ``scores.json`` of those whose heat map is of the same run."""
    mapped = {name for name, origin in origins.items() if isinstance(origin, Mapping) and origin.get("mapped")}
    scores = (f"{one.slide_id}/scores.json" for one in table.predictions if one.slide_id in mapped)
    return ["predictions.csv", "inference.json", *scores]


def _read_slide(folder: Path, prediction: Prediction, threshold: float | None, origin: Any) -> SlideResult:
    """Make the result of a slide; ``origin`` is what ``inference.json`` says of it.

    Raises:
        RequestError: that is not what inference writes, or ``scores.json`` is not.
    """
    slide_id = prediction.slide_id
    require_fields(f"{folder / 'inference.json'}, slide {slide_id}", origin, ORIGIN_FIELDS, expected=EXPECTED)
    path = folder / slide_id / "scores.json"
    return SlideResult(
        prediction=prediction,
        predicted=int(predicted_classes([prediction.probabilities], threshold)[0]),
        threshold=threshold,
        folder=path.parent,
        patient=origin["patient"],
        seen_in=origin["seen_in"],
        scores=_read_scores(path) if origin["mapped"] and path.is_file() else None,
    )


def _read_scores(path: Path) -> dict[str, Any]:
    return read_json(path, expected=EXPECTED, format=SCORES_FORMAT, fields=SCORES_FIELDS)
