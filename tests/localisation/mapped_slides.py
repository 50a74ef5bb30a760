"""Slides with heat maps and masks as inference leaves them, made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from inference.heat_map_views import view_of
from PIL import Image
from training.embedding_files import STEP_PX, write_embedding

from scripts.encoding.embedding_file import read_embedding
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.inference.exports import write_nifti, write_observed
from scripts.localisation.mapped_slide import MappedSlide
from scripts.slides.geometry import PatchGrid


def mapped(heat: np.ndarray, lesion: np.ndarray, **changes: Any) -> MappedSlide:
    """A correctly called positive slide, observed everywhere."""
    values: dict[str, Any] = {
        "slide_id": "a",
        "patient": None,
        "positive": bool(lesion.any()),
        "called": True,
        "probability": 1.0,
        "heat": np.asarray(heat, dtype=np.float32),
        "observed": np.ones(lesion.shape, dtype=bool),
        "lesion": np.asarray(lesion, dtype=bool),
    }
    return MappedSlide(**values | changes)


class Cohort:
    """A dataset folder, a folder of predictions and one of masks, filled slide by slide."""

    def __init__(self, folder: Path) -> None:
        self.dataset, self.predictions, self.masks = (folder / name for name in ("data", "predictions", "masks"))
        for made in (self.dataset, self.masks):
            made.mkdir(parents=True)
        self._rows: list[str] = []
        self._predicted: list[Prediction] = []

    def add(
        self,
        slide_id: str,
        *,
        heat: np.ndarray,
        lesion: np.ndarray | None,
        label: int | None,
        probability: float,
        split: str = "test",
        observed: np.ndarray | None = None,
    ) -> None:
        """Add a slide, observed everywhere if not told; ``lesion`` None writes no mask. The mask has one pixel per cell."""
        write_embedding(self.dataset / f"{slide_id}.h5", shape_yx=heat.shape, seed=len(self._rows))
        grid = PatchGrid(STEP_PX, (0, 0), heat.shape)
        assert read_embedding(self.dataset / f"{slide_id}.h5").grid == grid
        folder = self.predictions / slide_id
        view = view_of(heat.astype(np.float32), origin_xy_px=(0, 0), patch_px_level0=STEP_PX, mpp_xy=None)
        write_nifti(folder / "cam.nii.gz", view)
        write_observed(folder / "observed.png", np.ones(heat.shape, dtype=bool) if observed is None else observed)
        if lesion is not None:
            Image.fromarray(lesion.astype(np.uint8) * 255).save(self.masks / f"{slide_id}.png")
        self._rows.append(f"{slide_id}.tif,{'' if label is None else label},{split},{slide_id}")
        self._predicted.append(Prediction(slide_id, label, (1 - probability, probability), 0.5))

    def finish(self) -> dict[str, Any]:
        """Write both tables and return the options of the stage."""
        table = "\n".join(["slide,label,split,patient", *self._rows, ""])
        (self.dataset / "slides.csv").write_text(table)
        write_predictions(self.predictions / "predictions.csv", self._predicted, class_names=["0", "1"], threshold=0.5)
        return {
            "predictions_dir": self.predictions,
            "dataset_dir": self.dataset,
            "masks": self.masks,
            "mask_px": STEP_PX,
        }


def spot(shape_yx: tuple[int, int], *places_yx: tuple[int, int], side: int = 1) -> np.ndarray:
    """Squares of ones at ``places_yx``."""
    cells = np.zeros(shape_yx)
    for y, x in places_yx:
        cells[y : y + side, x : x + side] = 1
    return cells
