"""The patch encoders of neural image compression, published or trained here, as another source of V.

The method is Tellez et al., IEEE TPAMI 43(2), 2021 (online 2019); the multitask encoder is after Tellez et al., MIDL 2020.
"""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.hdf5 import dataset_of, open_hdf5
from ..common.weights import read_state_dict, require_finite_weights, require_fitting_weights
from ..scae.nic_networks import CHANNELS, LAYERS, NICLayers

KERAS = "the Keras HDF5 weights of an NIC encoder"
PREFIX = "encoder."
"""Of the encoder's weights in the networks of :mod:`..scae.nic_networks`."""


class NICEncoder(NICLayers):
    """Four strided 3x3 convolutions and a dense layer: 64x64 px to 128 figures.

    The patch footprint is 128 px at 0.5 um/px, 64 um per side, the same as S-CAE's.

    Args:
        weights: Keras HDF5 file of the encoder, as published by the Diagnostic Image Analysis Group; or what an overlay of
            configs/nic on train_scae.yaml wrote, by PyTorch.

    Raises:
        RequestError: the file is missing, is not such an encoder, or leads to other files.
    """

    def __init__(self, weights: str | Path) -> None:
        super().__init__()
        path = Path(weights)
        if zipfile.is_zipfile(path):
            self._load_own(path)
        else:
            self._load(path)
        self.eval()

    def _load_own(self, path: Path) -> None:
        state = read_state_dict(
            path, expected=f"the weights that train_scae.yaml with an overlay of configs/nic writes, or {KERAS}"
        )
        own = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
        require_fitting_weights(path, own, network=self, expected="the weights of an encoder of configs/nic")
        self.load_state_dict(own)

    def _load(self, path: Path) -> None:
        what = KERAS
        if not path.is_file():
            raise RequestError(f"{path}: no such file; expected {what}")
        with (
            file_boundary(path, f"not {what}", "the file as published: name it"),
            open_hdf5(path) as file,
            torch.no_grad(),
        ):
            layers = _layers_of(file["model_weights"])
            for index in range(LAYERS):
                conv: Any = self.convolutions[3 * index]
                norm: Any = self.convolutions[3 * index + 2]
                keras_conv, keras_norm = layers["conv2d"][index], layers["batch_normalization"][index]
                conv.weight.copy_(_tensor(keras_conv, "kernel").permute(3, 2, 0, 1))
                conv.bias.copy_(_tensor(keras_conv, "bias"))
                norm.weight.copy_(_tensor(keras_norm, "gamma"))
                norm.bias.copy_(_tensor(keras_norm, "beta"))
                norm.running_mean.copy_(_tensor(keras_norm, "moving_mean"))
                norm.running_var.copy_(_tensor(keras_norm, "moving_variance"))
            (dense,) = layers["dense"]
            # Keras flattens (row, column, channel); torch flattens (channel, row, column)
            kernel = _tensor(dense, "kernel").view(3, 3, CHANNELS, CHANNELS).permute(3, 2, 0, 1)
            self.dense.weight.copy_(kernel.reshape(CHANNELS, -1))
            self.dense.bias.copy_(_tensor(dense, "bias"))
        require_finite_weights(path, self.state_dict())


def _layers_of(weights: h5py.Group) -> dict[str, list[h5py.Group]]:
    """Layers by kind in the order of their numbers: Keras nests a model in a model and goes on numbering from the last one made."""
    groups: dict[str, h5py.Group] = {}

    def visit(_name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            groups[item.parent.name] = item.parent

    weights.visititems(visit)
    layers: dict[str, list[h5py.Group]] = {"conv2d": [], "batch_normalization": [], "dense": []}
    for name in sorted(groups, key=_number):
        kind = name.rsplit("/", 1)[-1].rpartition("_")[0]
        layers[kind if kind in layers else "dense"].append(groups[name])  # the dense layer is named dense_6 or encoded
    return layers


def _number(name: str) -> int:
    """Number at the end of a layer's name, 0 where there is none."""
    suffix = name.rpartition("_")[2]
    return int(suffix) if suffix.isdecimal() else 0


def _tensor(layer: h5py.Group, name: str) -> Tensor:
    return torch.from_numpy(np.asarray(dataset_of(layer, f"{name}:0"), dtype=np.float32))
