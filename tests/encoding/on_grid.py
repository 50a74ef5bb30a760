"""V of an embedding as it lies on its grid."""

import numpy as np
from numpy.typing import NDArray

from scripts.encoding.store import Embedding


def matrix_of(embedding: Embedding) -> NDArray[np.floating]:
    """V (C, rows, columns), zero where nothing was observed."""
    none = np.zeros((1, embedding.features.shape[1]), embedding.features.dtype)
    return np.concatenate([none, embedding.features])[embedding.places()].transpose(2, 0, 1)
