"""A patch encoder at work: its weights' name, its device, its engine."""

import hashlib
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..common.option_words import Engine, Precision
from ..common.pipeline import map_ahead
from .engine_choice import make_engine


class NamedEncoder:
    """A patch encoder with the name and the hash of its weights, on its device.

    Args:
        network: a :class:`.encoders.PatchEncoder`; a ``dtype`` of its own says in which type files hold its vectors.
        device: where it runs.
        batch_size: patches per batch.
        engine: what runs it, see :func:`.engine_choice.make_engine`.
        precision: of its arithmetic.

    Raises:
        RequestError: the engine is unknown or not installed, or the device lacks the precision.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        batch_size: int = 64,
        engine: Engine = "torch",
        precision: Precision = "float32",
    ) -> None:
        self.network = network
        self.batch_size = batch_size
        self.channels = int(network.channels)  # type: ignore[arg-type]
        self.dtype = np.dtype(getattr(network, "dtype", "float32"))
        self._engine = make_engine(network, device=device, engine=engine, precision=precision)

    @cached_property
    def identity(self) -> str:
        """What :func:`identity_of` says of the network."""
        return identity_of(self.network)

    @property
    def engine(self) -> str:
        """Name of the engine in use."""
        return self._engine.name

    @property
    def streams(self) -> int:
        """Calls of :meth:`encode` that are worth making at once, from threads."""
        return self._engine.streams

    def encode(self, patches: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode patches as read, uint8 (N, h, w, 3), to float32 (N, channels)."""
        return self._engine(patches)

    def encode_all(self, batches: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[Any]]:
        """Encode batch after batch, in order, while the next ones are drawn from ``batches``."""
        return map_ahead(self.encode, batches, threads=self.streams)


def identity_of(network: nn.Module) -> str:
    """Name (that the network states, else its class) and SHA-256 over all weights, the same whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return f"{getattr(network, 'name', type(network).__name__)} sha256:{digest.hexdigest()}"
