"""The network as TorchScript and as ONNX gives the same logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from random_matrices import random_image
from torch import Tensor

from scripts.dsnet.network import DSNet

OPSET = 18


def trained_network() -> DSNet:
    torch.manual_seed(0)
    network = DSNet()
    for _ in range(2):
        network(batch(9, 7))
    network.standardise.mean.fill_(0.5)
    return network.eval()


def batch(height: int, width: int) -> Tensor:
    """Two slides with wide gaps, so that some windows see nothing; the second takes a corner of the grid."""
    images = torch.zeros(2, 164, height, width)
    images[0] = random_image(height, width, share=0.05)
    images[1, :, :5, :6] = random_image(5, 6, seed=1)
    return images


def test_scripted_network_equals_the_eager_one(tmp_path: Path) -> None:
    network = trained_network()
    torch.jit.script(network).save(str(tmp_path / "network.ts"))
    loaded = torch.jit.load(str(tmp_path / "network.ts"))
    for images in (batch(9, 7), batch(16, 20)):
        torch.testing.assert_close(loaded(images), network(images))
        for found, expected in zip(loaded.attend(images), network.attend(images), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_onnx_network_equals_the_eager_one(tmp_path: Path, dynamo: bool) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    network, images, path = trained_network(), batch(20, 16), tmp_path / "network.onnx"
    names = {"input_names": ["image"], "output_names": ["pred"]}
    torch.onnx.export(network, (images,), str(path), opset_version=OPSET, dynamo=dynamo, **names)  # type: ignore[arg-type]
    model = onnx.load(str(path))
    onnx.checker.check_model(model)
    (found,) = reference.ReferenceEvaluator(model).run(None, {"image": images.numpy()})
    np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-3, atol=1e-5)
