"""How a slide's tissue was found, kept in its embedding file, so that the mask can be judged without the slide."""

from dataclasses import dataclass

import h5py
import numpy as np
from numpy.typing import NDArray

from ..common.hdf5 import dataset_of
from ..common.option_table import OPTIONS
from ..common.option_words import TissueMethod
from ..tissue.threshold import TissueMask


@dataclass(frozen=True)
class TissueRecord:
    """What the tissue criterion said of every patch of the whole slide, and where it drew its lines.

    Attributes:
        scores: of every patch of the slide's grid, (rows, columns).
        pen: patches that the colour of pen kept from being tissue; 0 in files without the figure.
        method: "rle" or "otsu".
        threshold: least score of tissue.
        glass_threshold: score that ends the glass.
    """

    scores: NDArray[np.float32]
    pen: int
    method: TissueMethod
    threshold: float
    glass_threshold: float


def write_tissue(group: h5py.Group, tissue: TissueMask) -> None:
    """Keep the scores, their histogram, both thresholds and the number of patches with the colour of pen."""
    group["scores"] = tissue.scores
    group["histogram_counts"] = tissue.histogram_counts
    group["histogram_edges"] = tissue.histogram_edges
    group.attrs.update(
        {
            "method": tissue.method,
            "threshold": tissue.threshold,
            "glass_threshold": tissue.glass_threshold,
            "pen": int(tissue.pen.sum()),
        }
    )


def read_tissue(file: h5py.File) -> TissueRecord | None:
    """Read how the tissue of a slide was found, from its embedding file; None where that does not say."""
    group = file.get("tissue")
    attributes = dict(group.attrs) if isinstance(group, h5py.Group) else {}
    if not {"method", "threshold", "glass_threshold"} <= attributes.keys():
        return None
    return TissueRecord(
        scores=dataset_of(group, "scores")[()],
        pen=int(attributes.get("pen", 0)),
        method=OPTIONS["tissue_method"].read(attributes["method"]),
        threshold=float(attributes["threshold"]),
        glass_threshold=float(attributes["glass_threshold"]),
    )
