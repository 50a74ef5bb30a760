"""A slide to class scores, and its heat map as annotations for QuPath and the Digital Slide Archive."""

import csv
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.utils.others.pathology import create_dsa_annotations_json

from lib.bundle import Bundle, device_option
from lib.outlines import read_outlines, write_qupath_xml


class SlideInferTask(InferTask):
    """Runs the bundle's ``inference.yaml`` on one slide."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(InferType.CLASSIFICATION, labels=[], dimension=2, description=bundle.metadata["description"])
        self.bundle = bundle

    def is_valid(self) -> bool:
        """Whether there are weights that can serve, with their card."""
        return self.bundle.model.is_file() and bool(self.bundle.card)

    def get_path(self, validate: bool = True) -> str | None:
        """The weights that serve."""
        return str(self.bundle.model) if self.is_valid() or not validate else None

    def info(self) -> dict[str, Any]:
        """What clients see. Labels are the classes, then the outlines: QuPath replaces annotations of these names on a second run."""
        classes = self.bundle.classes
        shown = classes[1:] if len(classes) == 2 else classes  # the bundle's heat maps
        bands = [f"{name} >= {level:g}" for name in shown for level in self.bundle.levels]
        labels = {name: index for index, name in enumerate([*classes, *bands])}
        return {**super().info(), "labels": labels, "pathology": True, "version": self.bundle.metadata["version"]}

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """Classify ``request["image"]``.

        Args:
            request: ``image``, the path of a slide; where wanted ``slide_id``, under which the embedding is kept for the next
                request, ``mpp``, ``device`` and ``output``: ``asap`` or ``dsa``.

        Returns:
            the annotation file that ``output`` asks for, else None; and the JSON: ``prediction``, with the calibrated
            probability of every class, and ``annotations``, see :func:`.outlines.read_outlines`; none where the model has no heat map.

        Raises:
            HTTPException: the slide is not there or cannot be classified, or the model has no heat map for an ASAP file.
        """
        begin = time.time()
        slide = Path(request["image"]).resolve()
        if not slide.is_file():
            raise HTTPException(404, "no such slide in the datastore: name one that GET /datastore/ lists")
        with self._outputs(request.get("slide_id")) as folder:
            row = self._classify(slide, folder, request)
            outlines = folder / row["slide_id"] / "cam.xml"
            if request.get("output") == "asap" and not outlines.is_file():
                raise HTTPException(
                    422,
                    "output asap: this model has no heat map, expected one to outline: ask without output, for the scores",
                )
            scores = [float(row[f"p_{name}"]) for name in self.bundle.classes]
            result = {
                "name": self.bundle.name,
                "model": self.bundle.name,
                "description": ", ".join(
                    f"{name} {score:.3f}" for name, score in zip(self.bundle.classes, scores, strict=True)
                ),
                "prediction": [
                    {"idx": index, "label": name, "score": score}
                    for index, (name, score) in enumerate(zip(self.bundle.classes, scores, strict=True))
                ],
                "predicted": row["predicted"],
                "threshold": float(row["threshold"]) if row["threshold"] else None,
                "stream_score": float(row["stream_score"]),
                "annotations": [read_outlines(outlines)] if outlines.is_file() else [],
                "latencies": {"total": round(time.time() - begin, 2)},
            }
            file = None
            if request.get("output") == "asap":
                file = write_qupath_xml(outlines, outlines.with_suffix(".geojson"), result["description"])
            elif request.get("output") == "dsa":
                file, _ = create_dsa_annotations_json(result)
        return file, result

    @contextmanager
    def _outputs(self, slide_id: str | None) -> Iterator[Path]:
        """Folder of the stage's outputs: kept for slides of the datastore, else removed."""
        if slide_id:
            parent = (self.bundle.work / "inference").resolve()
            folder = parent / slide_id
            if "\0" in slide_id or "\\" in slide_id or folder.resolve().parent != parent:
                raise HTTPException(422, "slide_id: expected the name of a slide of the datastore, without a folder")
            yield folder
        else:
            with tempfile.TemporaryDirectory() as folder:
                yield Path(folder)

    def _classify(self, slide: Path, folder: Path, request: dict[str, Any]) -> dict[str, str]:
        """Run the stage; return the row of ``predictions.csv``."""
        folder.mkdir(parents=True, exist_ok=True)
        table = folder / "slides.csv"
        with open(table, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["slide", "mpp"], [slide, request.get("mpp") or ""]])
        try:
            self.bundle.run(
                "inference",
                "inference.yaml",
                slides=table,
                output_dir=folder,
                model=self.bundle.model,
                encoder=self.bundle.encoder,
                replace=True,  # what another model, or an earlier one, said of the slide
                **device_option(request),
            )
        except HTTPException as error:
            if error.status_code != 500:
                raise
            reasons = _errors(folder / "embeddings" / "manifest.csv") or _errors(folder / "manifest.csv")
            raise HTTPException(500, "; ".join([error.detail, *reasons])) from error
        return _rows(folder / "predictions.csv")[0]


def _errors(manifest: Path) -> list[str]:
    """What is wrong with the slides of a manifest."""
    return [row["error"] for row in _rows(manifest) if row["error"] and row["status"] in ("failed", "empty")]


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
