"""Statistics of V over the training slides, kept inside the network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..dsnet.heat_map import Network
from ..encoding.store import read_embedding


def fit_standardisation(network: Network, items: Sequence[dict[str, Any]], *, enabled: bool = True) -> Network:
    """Set the network's channel means and deviations to those of all observed patches of ``items``; return the network.

    Slides are read one at a time and merged (Chan et al. 1983), in float64. A channel that never varies keeps deviation 1. A patch
    whose used channels are all zero is not observed.
    """
    if not enabled:
        return network
    count, mean, squares = 0, np.zeros(network.embedding_channels), np.zeros(network.embedding_channels)
    for item in items:
        embedding = read_embedding(Path(item["embedding"]))
        features = embedding.features[:, slice(*item["channel_range"])].astype(np.float64)
        features = features[features.any(axis=1)]
        n = len(features)
        slide_mean = features.mean(axis=0)
        difference = slide_mean - mean
        squares += ((features - slide_mean) ** 2).sum(axis=0) + difference**2 * count * n / (count + n)
        mean += difference * n / (count + n)
        count += n
    deviation = np.sqrt(squares / max(count, 1))
    deviation[deviation < 1e-8] = 1.0
    network.standardise.mean.copy_(torch.from_numpy(mean))
    network.standardise.deviation.copy_(torch.from_numpy(deviation))
    return network
