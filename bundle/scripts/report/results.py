"""What the report is made of: the files that inference left."""

import csv
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.journal import require_as_written
from ..common.json_files import NONE, NUMBER, Kind, read_json, require_fields
from ..common.pseudonyms import NOT_TOLD, Names
from ..evaluation.metrics import predicted_classes
from ..evaluation.predictions import Prediction, read_predictions
from ..inference.record import RUN_FORMAT, SCORES_FORMAT, with_pseudonyms
from ..training.model_card import ModelCard

EXPECTED = "what inference writes: run it anew with this version"
RUN_FIELDS: dict[str, Kind] = {
    "threshold": (*NUMBER, NONE), "card": dict, "settings": dict, "slides": dict, "versions": dict,
}  # fmt: skip
ORIGIN_FIELDS: dict[str, Kind] = {"patient": (str, NONE), "seen_in": (str, NONE)}
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
        folder: of its heat map, which need not be there.
        patient: whose slide it is, where that is known.
        seen_in: split in which the model met an equal embedding when it was trained; ``None`` if in none.
        scores: content of ``scores.json``; ``None`` where inference wrote no heat maps.
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


@dataclass(frozen=True)
class Inference:
    """A whole run of inference.

    Attributes:
        folder: its outputs.
        class_names: in the order of the network's outputs.
        slides: the classified ones, in the order of ``predictions.csv``.
        others: rows of ``manifest.csv`` about slides without a prediction.
        run: content of ``inference.json`` but for the slides: threshold, settings, versions.
        card: the model card as it was used.
    """

    folder: Path
    class_names: tuple[str, ...]
    slides: tuple[SlideResult, ...]
    others: tuple[dict[str, str], ...]
    run: dict[str, Any]
    card: ModelCard

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
        RequestError: no folder is given, or a file is missing, is not what inference writes, or has changed since.
    """
    if folder is None:
        raise RequestError("nothing to report: name the output folder of inference with --predictions_dir")
    folder = Path(folder)
    table = read_predictions(folder / "predictions.csv", other_labels=True)
    run = read_json(folder / "inference.json", expected=EXPECTED, format=RUN_FORMAT, fields=RUN_FIELDS)
    scores = [f"{prediction.slide_id}/scores.json" for prediction in table.predictions]
    require_as_written(folder, ("predictions.csv", "inference.json", "manifest.csv", *scores), expected=EXPECTED)
    card = ModelCard.from_json(folder / "inference.json", run["card"])
    if card.class_names != table.class_names:
        raise RequestError(
            f"{folder}: predictions.csv has the classes {', '.join(table.class_names)}, inference.json "
            f"{', '.join(card.class_names)}; expected the files of one run: run inference anew"
        )
    thresholds = table.thresholds or (None,) * len(table.predictions)
    slides, origins = [], run.pop("slides")
    for prediction, threshold in zip(table.predictions, thresholds, strict=True):
        path, origin = folder / prediction.slide_id / "scores.json", origins.get(prediction.slide_id)
        require_fields(
            f"{folder / 'inference.json'}, slide {prediction.slide_id}", origin, ORIGIN_FIELDS, expected=EXPECTED
        )
        slides.append(
            SlideResult(
                prediction=prediction,
                predicted=int(predicted_classes([prediction.probabilities], threshold)[0]),
                threshold=threshold,
                folder=path.parent,
                patient=origin["patient"],
                seen_in=origin["seen_in"],
                scores=_read_scores(path) if path.is_file() else None,
            )
        )
    done = {slide.slide_id for slide in slides}
    others = tuple(row for row in _read_manifest(folder / "manifest.csv") if row["slide_id"] not in done)
    return Inference(folder, table.class_names, tuple(slides), others, run, card)


def renamed(inference: Inference, names: Names) -> Inference:
    """Call slides, patients and places by other names, unless inference did so; the files stay where they are."""
    if not names.anonymise or inference.run["settings"].get("anonymise"):
        return inference
    slides = tuple(
        replace(
            slide,
            prediction=replace(slide.prediction, slide_id=names.slide(slide.slide_id), other_label=None),
            patient=slide.patient and names.patient(slide.patient),
        )
        for slide in inference.slides
    )
    others = tuple(
        {**row, "slide_id": names.slide(row["slide_id"]), "slide": "", "error": NOT_TOLD} for row in inference.others
    )
    run = inference.run | {"settings": with_pseudonyms(inference.run["settings"], names)}
    return replace(inference, slides=slides, others=others, run=run)


def _read_scores(path: Path) -> dict[str, Any]:
    return read_json(path, expected=EXPECTED, format=SCORES_FORMAT, fields=SCORES_FIELDS)


def _read_manifest(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with file_boundary(path, "not a manifest", EXPECTED), open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        for row in rows:
            _ = [row[name] for name in ("slide_id", "slide", "status", "error")]  # a KeyError here, not in a template
        return rows
