"""The published patch encoders of neural image compression (Tellez et al. 2019), as another source of V."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import RequestError

CHANNELS = 128
LAYERS = 4


class NICEncoder(nn.Module):
    """Four strided 3x3 convolutions and a dense layer: 64x64 px to 128 figures.

    The patch footprint is 128 px at 0.5 um/px, 64 um a side, the same as S-CAE's.

    Args:
        weights: Keras HDF5 file of the encoder, as published by the Diagnostic Image Analysis Group.

    Raises:
        RequestError: the file is missing or is not such an encoder.
    """

    input_px = 64
    channels = CHANNELS

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(LAYERS):
            layers += [
                nn.Conv2d(CHANNELS if index else 3, CHANNELS, 3, stride=2),
                nn.LeakyReLU(0.2),
                nn.BatchNorm2d(CHANNELS, eps=1e-3),
            ]
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Linear(3 * 3 * CHANNELS, CHANNELS)
        self._load(Path(weights))
        self.eval()

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise RequestError(f"{path}: no such file; expected the Keras HDF5 weights of an NIC encoder")
        try:
            with h5py.File(path, "r") as file, torch.no_grad():

                def tensor(layer: str, name: str) -> Tensor:
                    return torch.from_numpy(
                        np.asarray(file[f"model_weights/{layer}/{layer}/{name}:0"], dtype=np.float32)
                    )

                for index in range(LAYERS):
                    conv: Any = self.convolutions[3 * index]
                    norm: Any = self.convolutions[3 * index + 2]
                    conv.weight.copy_(tensor(f"conv2d_{index + 1}", "kernel").permute(3, 2, 0, 1))
                    conv.bias.copy_(tensor(f"conv2d_{index + 1}", "bias"))
                    for ours, theirs in (("weight", "gamma"), ("bias", "beta")):
                        getattr(norm, ours).copy_(tensor(f"batch_normalization_{index + 1}", theirs))
                    norm.running_mean.copy_(tensor(f"batch_normalization_{index + 1}", "moving_mean"))
                    norm.running_var.copy_(tensor(f"batch_normalization_{index + 1}", "moving_variance"))
                # Keras flattens (row, column, channel); torch flattens (channel, row, column)
                kernel = tensor("encoded", "kernel").view(3, 3, CHANNELS, CHANNELS).permute(3, 2, 0, 1)
                self.dense.weight.copy_(kernel.reshape(CHANNELS, -1))
                self.dense.bias.copy_(tensor("encoded", "bias"))
        except (KeyError, OSError, RuntimeError) as error:
            raise RequestError(f"{path}: not the Keras HDF5 weights of an NIC encoder ({error})") from error

    def forward(self, patches: Tensor) -> Tensor:
        """Encode patches (B, 3, 64, 64) in [0, 1] to (B, 128)."""
        return self.dense(self.convolutions(patches * 2 - 1).flatten(1))
