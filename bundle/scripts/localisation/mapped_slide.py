"""One slide that is scored: its heat map, and the lesions of its mask, on V's grid."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import label

from ..common.boundary import slide_boundary
from ..common.errors import SlideError
from ..encoding.embedding_file import read_embedding
from ..encoding.store import Embedding
from ..inference.exports import nifti_affine

AllLesionCells = Callable[..., tuple[NDArray[np.bool_], tuple[int, int]]]
""":func:`..slides.lesion_mask.all_lesion_cells` with the masks' scale and lowest value."""


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
        unobserved_lesions: number of lesions without any observed cell, in V's box or beyond it.
        seen: whether the model met it when it was trained; None: not known.
    """

    slide_id: str
    patient: str | None
    positive: bool
    called: bool
    probability: float
    heat: NDArray[np.float32]
    observed: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    unobserved_lesions: int = 0
    seen: bool | None = None

    @property
    def has_lesion(self) -> bool:
        """Whether its mask has a lesion cell, observed or not."""
        return bool(self.lesion.any()) or self.unobserved_lesions > 0


def read_maps(
    embedding_path: Path, results: Path, *, slide: Path, mask: Path | None, cells_of: AllLesionCells
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], int]:
    """Read heat map, observation mask and observed lesions of one slide, (H, W) each, and the number of unobserved lesions.

    Args:
        embedding_path: embedding of the slide, which says where the cells lie.
        results: what inference wrote of the slide.
        slide: its file.
        mask: its lesion mask; None: it has no lesion.
        cells_of: reads the mask.

    Raises:
        SlideError: embedding, heat map or mask cannot be read, or they belong to different grids.
    """
    with slide_boundary(embedding_path):
        embedding = read_embedding(embedding_path)
        heat, observed = read_heat_map(results, embedding)
        if mask is None:
            return heat, observed, np.zeros_like(observed), 0
        cells, begin_yx = cells_of(mask, embedding.grid, slide=slide, attributes=embedding.attributes)
    return heat, observed, *observed_lesions(cells, observed, begin_yx)


def observed_lesions(
    cells: NDArray[np.bool_], observed: NDArray[np.bool_], begin_yx: tuple[int, int]
) -> tuple[NDArray[np.bool_], int]:
    """Return the observed cells that are lesion, (H, W), and how many lesions have none of them.

    Args:
        cells: lesion cells of the whole mask.
        observed: observation mask (H, W).
        begin_yx: row and column of ``cells`` at which it begins.
    """
    (row, column), (rows, columns) = begin_yx, observed.shape
    in_box = np.s_[row : row + rows, column : column + columns]
    lesion, numbers = observed & cells[in_box], numbered(cells)
    return lesion, int(numbers.max()) - len(np.unique(numbers[in_box][lesion]))


def numbered(cells: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number lesions from 1: cells that touch along a side or at a corner, with what they enclose."""
    return label(ndimage.binary_fill_holes(cells), connectivity=2)


def read_heat_map(folder: Path, embedding: Embedding) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read ``cam.nii.gz`` and ``observed.png`` of a slide, (H, W) each; where nothing was observed the heat is 0.

    Raises:
        SlideError: there is no heat map, it is not one of this embedding, or is not finite.
    """
    path = folder / "cam.nii.gz"
    if not path.is_file():
        raise SlideError(
            f"{path}: no such file, expected the slide's heat map: manifest.csv says why there is none; run inference again"
        )
    try:
        volume: Any = nibabel.load(path)
        heat = np.asarray(volume.dataobj, dtype=np.float32)[:, :, 0].T
        with Image.open(folder / "observed.png") as image:
            observed = np.asarray(image) > 0
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, IndexError) as error:
        raise SlideError(f"{path}: not a readable heat map ({error}); run inference again") from error
    # of an embedding that says no resolution: inference may have had it from table or slide
    of_map = -1000 * volume.affine.diagonal() / embedding.patch_px_level0
    expected = nifti_affine(embedding.grid, embedding.mpp_xy or (of_map[0], of_map[1]))
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
    return np.where(observed, heat, np.float32(0)), observed
