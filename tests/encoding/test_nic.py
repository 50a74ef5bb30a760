from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scripts.common.errors import RequestError
from scripts.encoding.nic import NICEncoder

Weights = dict[str, NDArray[np.float64]]


def random_weights(seed: int) -> Weights:
    """Weights by Keras's layer and name: kernels (rows, columns, in, out)."""
    rng = np.random.default_rng(seed)
    weights: Weights = {}
    for index in range(1, 5):
        inputs = 3 if index == 1 else 128
        weights[f"conv2d_{index}/kernel"] = rng.normal(0, (9 * inputs) ** -0.5, (3, 3, inputs, 128))
        weights[f"conv2d_{index}/bias"] = rng.normal(0, 0.1, 128)
        norm = f"batch_normalization_{index}"
        weights[f"{norm}/gamma"] = rng.uniform(0.5, 1.5, 128)
        weights[f"{norm}/beta"] = rng.normal(0, 0.2, 128)
        weights[f"{norm}/moving_mean"] = rng.normal(0, 0.2, 128)
        weights[f"{norm}/moving_variance"] = rng.uniform(1e-4, 1, 128)
    weights["encoded/kernel"] = rng.normal(0, 0.03, (3 * 3 * 128, 128))
    weights["encoded/bias"] = rng.normal(0, 0.1, 128)
    return {name: value.astype(np.float32).astype(np.float64) for name, value in weights.items()}


def write_keras(path: Path, weights: Weights, *, nested: bool = False) -> Path:
    """Write both layouts that were published: by layer, or inside another model and numbered on from its layers."""
    with h5py.File(path, "w") as file:
        for name, value in weights.items():
            layer, part = name.split("/")
            if nested:
                kind, _, number = layer.rpartition("_")
                layer = (
                    f"{kind}_{int(number) + 9 - (kind == 'batch_normalization')}" if number.isdecimal() else "dense_6"
                )
            folder = f"sequential_3/{layer}" if nested else f"{layer}/{layer}"
            file[f"model_weights/{folder}/{part}:0"] = value.astype(np.float32)
    return path


def encode_in_numpy(images: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """Keras's layers on (N, 64, 64, 3) in [0, 1]: convolution (stride 2, valid), leaky ReLU, batch norm; flatten; dense."""
    x = images * 2 - 1
    for index in range(1, 5):
        kernel = weights[f"conv2d_{index}/kernel"]
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))[:, ::2, ::2]
        x = np.einsum("nyxcij,ijco->nyxo", windows, kernel, optimize=True) + weights[f"conv2d_{index}/bias"]
        x = np.where(x > 0, x, 0.2 * x)
        gamma, beta, mean, variance = (
            weights[f"batch_normalization_{index}/{part}"]
            for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        x = gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta
    return x.reshape(len(x), -1) @ weights["encoded/kernel"] + weights["encoded/bias"]


@pytest.mark.parametrize("nested", [False, True])
def test_agrees_with_the_keras_layers(tmp_path: Path, nested: bool) -> None:
    weights = random_weights(0)
    encoder = NICEncoder(write_keras(tmp_path / "nic.h5", weights, nested=nested))
    images = np.random.default_rng(1).random((3, 64, 64, 3))
    with torch.inference_mode():
        found = encoder.double()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(found, encode_in_numpy(images, weights), rtol=1e-6, atol=1e-8)
    assert (encoder.input_px, encoder.channels, encoder.training) == (64, 128, False)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"gone\.h5: no such file"):
        NICEncoder(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("weights")
    with pytest.raises(RequestError, match=r"text\.h5: not the Keras HDF5 weights"):
        NICEncoder(tmp_path / "text.h5")


@pytest.mark.parametrize("broken", ["missing", "shape"])
def test_a_file_that_lacks_a_layer_or_has_another_shape(tmp_path: Path, broken: str) -> None:
    weights = random_weights(0)
    if broken == "missing":
        del weights["conv2d_3/kernel"]
    else:
        weights["encoded/kernel"] = weights["encoded/kernel"][:, :64]
    with pytest.raises(RequestError, match=r"nic\.h5: not the Keras HDF5 weights"):
        NICEncoder(write_keras(tmp_path / "nic.h5", weights))


def test_published_weights(data_dir: Path) -> None:
    for name in ("bigan", "multitask-4"):
        path = data_dir / "weights" / f"nic_encoder_{name}.h5"
        if not path.is_file():
            pytest.skip(f"{path.name} is not there")
        with torch.inference_mode():
            vectors = NICEncoder(path)(torch.rand(4, 3, 64, 64))
        assert torch.isfinite(vectors).all()
        assert (vectors.std(dim=0) > 0).all()
