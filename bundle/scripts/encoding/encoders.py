"""What turns patches into vectors, behind one interface."""

from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from ..common.option_words import Strategy
from ..common.weights import read_weights
from ..scae.scae_network import SCAE


class PatchEncoder(Protocol):
    """A module in evaluation mode that maps patches (B, 3, input_px, input_px) in [0, 1] to vectors (B, channels)."""

    input_px: int
    channels: int

    def __call__(self, patches: Tensor) -> Tensor:
        """Encode patches."""
        ...


def scae_name(strategy: Strategy) -> str:
    """Name that an embedding records of its S-CAE: "separated", "foreground" and "background" have the same weights."""
    return "SCAEEncoder" if strategy == "separated" else f"SCAEEncoder-{strategy}"


class SCAEEncoder(nn.Module):
    """The encoder half of a trained S-CAE.

    Args:
        weights: file written by ``train_scae.yaml``.
        strategy: what v is made of, see :class:`..scae.scae_network.SCAE`.

    Raises:
        RequestError: the file is missing or does not hold an S-CAE of this strategy.
    """

    input_px = SCAE.input_px

    def __init__(self, weights: str | Path, strategy: Strategy = "separated") -> None:
        super().__init__()
        self.scae = SCAE(strategy=strategy)
        self.scae.load_state_dict(read_weights(weights, network=self.scae, made_by="train_scae.yaml"))
        self.channels = self.scae.channels
        self.name = scae_name(strategy)
        self.eval()

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches (B, 3, 112, 112) in [0, 1] to v (B, C)."""
        return self.scae.encode(patches)
