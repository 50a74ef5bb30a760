"""Statistics of V over the training slides, kept inside the network."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from ..common.networks import unwrapped
from ..dsnet.heat_map import Network

CHANNELS_AT_ONCE = 256  # in float64, so that large embeddings do not need several times their memory


@dataclass(frozen=True)
class ChannelStatistics:
    """What the standardisation needs of one slide, taken while its features are in memory.

    Attributes:
        patches: observed ones, n.
        mean: of each channel over them, float64 (C,).
        squares: sum of the squared deviations from the mean, float64 (C,).
    """

    patches: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]


def channel_statistics(features: NDArray[np.floating[Any]]) -> ChannelStatistics:
    """Take the statistics of one slide from v of its patches (N, C), in float64; a patch of zeros is not observed."""
    observed = features.any(axis=1)
    means, squares = [], []
    for channels in np.array_split(np.arange(features.shape[1]), -(-features.shape[1] // CHANNELS_AT_ONCE)):
        values = features[:, channels[0] : channels[-1] + 1].astype(np.float64)[observed]
        means.append(values.mean(axis=0))
        squares.append(((values - means[-1]) ** 2).sum(axis=0))
    return ChannelStatistics(int(observed.sum()), np.concatenate(means), np.concatenate(squares))


class Standardisation:
    """Fit the network of a trainer to its training slides before its first epoch, see :func:`fit_standardisation`.

    Args:
        statistics: gives those of each training slide; it is called when the training starts.
        enabled: False leaves V as it is.
    """

    def __init__(self, statistics: Callable[[], Iterable[ChannelStatistics]], *, enabled: bool = True) -> None:
        self.statistics = statistics
        self.enabled = enabled

    def attach(self, engine: Engine) -> None:
        """Register with the trainer, before the handler that writes its first state."""
        engine.add_event_handler(Events.STARTED, self._fit)

    def _fit(self, engine: Any) -> None:
        if self.enabled:
            fit_standardisation(unwrapped(engine.network), self.statistics())
        self.enabled = False  # a training that is run on keeps what it has


def fit_standardisation(network: Network, slides: Iterable[ChannelStatistics]) -> None:
    """Set the network's channel means and deviations to those of all observed patches of ``slides``.

    Slides are merged one by one (Chan et al. 1983), in float64. A channel that never varies keeps deviation 1.
    """
    count, mean, squares = 0, np.zeros(network.embedding_channels), np.zeros(network.embedding_channels)
    for slide in slides:
        n = slide.patches
        difference = slide.mean - mean
        squares += slide.squares + difference**2 * count * n / (count + n)
        mean += difference * n / (count + n)
        count += n
    deviation = np.sqrt(squares / max(count, 1))
    deviation[deviation < 1e-8] = 1.0
    network.standardise.mean.copy_(torch.from_numpy(mean))
    network.standardise.deviation.copy_(torch.from_numpy(deviation))
