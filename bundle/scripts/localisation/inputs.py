"""What is scored: heat maps and predictions as inference left them, beside the lesions that masks show."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.boundary import slide_boundary
from ..common.errors import RequestError, SlideError
from ..common.journal import require_as_written
from ..common.option_table import checked
from ..common.option_words import Split
from ..encoding.embedding_file import read_embedding
from ..encoding.store import Embedding
from ..evaluation.metrics import predicted_classes
from ..evaluation.predictions import read_predictions
from ..inference.exports import nifti_affine
from ..slides.lesion_mask import find_masks, lesion_cells
from ..slides.table import read_slides

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class MappedSlide:
    """One slide with its heat map and its lesions, on V's grid.

    Attributes:
        slide_id: its name.
        patient: whose it is.
        positive: whether its label is the class with lesions.
        called: whether it was predicted to be.
        probability: calibrated P(class with lesions).
        heat: the heat map (H, W), 0 to 1, as inference wrote it.
        observed: observation mask (H, W).
        lesion: observed cells that are lesion (H, W).
    """

    slide_id: str
    patient: str | None
    positive: bool
    called: bool
    probability: float
    heat: NDArray[np.float32]
    observed: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def read_mapped_slides(
    predictions_dir: str | Path,
    dataset_dir: str | Path,
    *,
    slides: str | Path | None = None,
    masks: str | Path | None = None,
    split: Split | None = None,
    mask_px: int | None = None,
    lesion_from: int = 1,
) -> list[MappedSlide]:
    """Read the slides that can be scored: of class 0 all (they have no lesion), of class 1 those with a mask.

    Args:
        predictions_dir: output folder of inference.
        dataset_dir: embeddings that it read or wrote, which say where the cells lie.
        slides: table of the slides; None takes ``slides.csv`` of ``dataset_dir``.
        masks: folder of ``<slide_id>.png`` or ``.tif``; None takes the table's column ``mask``.
        split: the slides of this split alone; None: all.
        mask_px: level-0 pixels along a pixel of the masks; None: from the slides' sizes.
        lesion_from: lowest value of a mask's pixel that is lesion.

    Raises:
        RequestError: tables or folders are missing, predictions have changed since they were written, there are not two classes, or
            nothing can be scored.
        SlideError: embeddings, heat maps or masks cannot be read, or belong to another grid; the message names all of them.
    """
    results, dataset = Path(predictions_dir), Path(dataset_dir)
    source = dataset / "slides.csv" if slides is None else Path(slides)
    if split is not None:
        checked("split", split)
    row_of = {row.slide_id: row for row in read_slides(source) if split in (None, row.split)}
    table = read_predictions(results / "predictions.csv", other_labels=True)
    require_as_written(results, ["predictions.csv"], expected="what inference writes: run it anew")
    if table.thresholds is None:
        raise RequestError(
            f"{results / 'predictions.csv'}: {len(table.class_names)} classes, expected 2: without and with lesion"
        )
    mask_of = find_masks(list(row_of.values()), source, masks)

    found: list[MappedSlide] = []
    faults: list[str] = []
    unlabelled = without_mask = 0
    for prediction, threshold in zip(table.predictions, table.thresholds, strict=True):
        row = row_of.get(prediction.slide_id)
        if row is None:
            continue
        mask = mask_of.get(row.slide_id)
        unlabelled += prediction.label is None
        without_mask += prediction.label == 1 and mask is None
        if prediction.label is None or (prediction.label == 1 and mask is None):
            continue
        path = dataset / f"{row.slide_id}.h5"
        try:
            with slide_boundary(path):
                embedding = read_embedding(path)
                heat, observed = read_heat_map(results / row.slide_id, embedding)
                lesion = np.zeros_like(observed)
                if prediction.label == 1 and mask is not None:
                    lesion = observed & lesion_cells(
                        mask, embedding.grid, slide=row.path, mask_px=mask_px, lesion_from=lesion_from
                    )
        except SlideError as error:
            faults.append(str(error))
            continue
        found.append(
            MappedSlide(
                row.slide_id,
                row.patient,
                positive=prediction.label == 1,
                called=bool(predicted_classes([prediction.probabilities], threshold)[0]),
                probability=prediction.probabilities[1],
                heat=heat,
                observed=observed,
                lesion=lesion,
            )
        )
    if faults:
        raise SlideError(
            f"{len(faults)} slides cannot be scored: {' | '.join(faults)}; expected all: correct them, or take them out of the "
            "table"
        )
    if unlabelled or without_mask:
        _LOGGER.warning(
            "left out: %d slides without a label, %d positive ones without a mask", unlabelled, without_mask
        )
    if not any(slide.lesion.any() for slide in found):
        raise RequestError(
            f"{results / 'predictions.csv'}: none of {len(found)} slides has a lesion cell; expected positive slides of {source} "
            f"{f'in split {split!r} ' if split else ''}with masks: name their folder with --masks, or fill the column mask"
        )
    return found


def read_heat_map(folder: Path, embedding: Embedding) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read ``cam.nii.gz`` and ``observed.png`` of a slide, (H, W) each.

    Raises:
        RequestError: there is no heat map.
        SlideError: it is not one of this embedding, or is not finite.
    """
    path = folder / "cam.nii.gz"
    if not path.is_file():
        raise RequestError(f"{path}: no such file, expected the slide's heat map: run inference with --heat_maps true")
    try:
        volume: Any = nibabel.load(path)
        heat = np.asarray(volume.dataobj, dtype=np.float32)[:, :, 0].T
        with Image.open(folder / "observed.png") as image:
            observed = np.asarray(image) > 0
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, IndexError) as error:
        raise SlideError(f"{path}: not a readable heat map ({error}); run inference again") from error
    mpp_x, mpp_y = (embedding.attributes.get(name) for name in ("mpp_x", "mpp_y"))
    expected = nifti_affine(embedding.grid, mpp_x=mpp_x, mpp_y=mpp_y)
    if not heat.shape == observed.shape == embedding.shape_yx or not np.allclose(volume.affine, expected, rtol=1e-4):
        raise SlideError(
            f"{path}: {heat.shape[0]} x {heat.shape[1]} cells or a place that are not the embedding's ({embedding.shape_yx[0]} x "
            f"{embedding.shape_yx[1]}); expected the heat map of that embedding: run inference on it again, or correct "
            "--dataset_dir"
        )
    if not np.isfinite(heat[observed]).all():
        raise SlideError(
            f"{path}: NaN or infinite where patches were observed, expected finite numbers: run inference again"
        )
    return heat, observed
