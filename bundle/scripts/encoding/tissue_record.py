"""How a slide's tissue was found, kept in its embedding file, so that the mask can be judged without the slide."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..tissue.threshold import TissueMask
from .store import opened_embedding


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
    method: str
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


def read_tissue(path: Path) -> TissueRecord | None:
    """Read how the tissue of a slide was found; None from a file of another tool.

    Raises:
        SlideError: the file cannot be opened as HDF5.
    """
    with opened_embedding(path) as file:
        if "tissue" not in file:
            return None
        group = file["tissue"]
        attributes = dict(group.attrs)
        return TissueRecord(
            scores=group["scores"][()],
            pen=int(attributes.get("pen", 0)),
            method=str(attributes["method"]),
            threshold=float(attributes["threshold"]),
            glass_threshold=float(attributes["glass_threshold"]),
        )
