import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from torch import nn

from scripts.common.errors import RequestError
from scripts.common.pipeline import map_ahead
from scripts.encoding.engine import CUDA_STREAMS, CudaEngine, fold_batch_norm
from scripts.encoding.engine_choice import make_engine
from scripts.encoding.named_encoder import identity_of
from scripts.encoding.raw import RawPatches
from scripts.encoding.resnet import resnet50_stage3
from scripts.encoding.wrapped import WrappedEncoder
from scripts.scae.scae_network import SCAE
from scripts.slides.geometry import resize_patches

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["mps", "mps:0", "meta"])
def test_a_device_that_no_engine_is_for_is_refused(name):
    with pytest.raises(RequestError, match=rf"^device {name}: .*expected cpu, cuda or cuda:N: name one with --device$"):
        make_engine(NormAfterActivation(), device=torch.device(name), engine="auto")


class Encoder(nn.Module):
    """An S-CAE with the statistics of a trained one: its mask fires at some places, and its batch norms do something."""

    input_px = SCAE.input_px
    channels = 128

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scae = SCAE()
        self.scae.train()
        with torch.no_grad():
            for _ in range(3):
                self.scae.decompose(torch.rand(4, 3, 112, 112))
        self.eval()

    def forward(self, patches):
        return self.scae.encode(patches)


class NormAfterActivation(nn.Sequential):
    """The order of the published encoders: convolution, activation, batch norm."""

    input_px = 16
    channels = 4

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self[2].running_mean.uniform_(-1, 1)
        self[2].running_var.uniform_(0.5, 2)
        self.eval()


@pytest.fixture(scope="module", params=[Encoder, NormAfterActivation])
def network(request):
    return request.param()


@pytest.fixture(scope="module", params=["torch", "openvino"])
def engine_name(request):
    if request.param == "openvino":
        pytest.importorskip("scripts.encoding.openvino_engine", reason="OpenVINO is not installed")
    return request.param


@pytest.fixture(scope="module")
def patches():
    """Half smooth, half noise, 128 px per side."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 240, (9, 8, 8, 3)).astype(np.uint8).repeat(16, axis=1).repeat(16, axis=2)
    return np.concatenate([coarse, rng.integers(0, 256, (8, 128, 128, 3)).astype(np.uint8)])


def plain(network, patches):
    with torch.inference_mode():
        return network(resize_patches(torch.from_numpy(patches), network.input_px) / 255).numpy()


def test_vectors_are_those_of_the_plain_network(network, engine_name, patches):
    found = make_engine(network, device=CPU, engine=engine_name)(patches)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain(network, patches), atol=1e-5)


def test_bfloat16_is_close(network, engine_name, patches):
    found = make_engine(network, device=CPU, engine=engine_name, precision="bfloat16")(patches)
    expected = plain(network, patches)
    cosine = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosine.min() > 0.999
    assert found.dtype == np.float32


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_patch_does_not_depend_on_its_batch(network, engine_name, patches, precision):
    """To the last bit: what is resumed, cut into bands or masked must be what was written in one go."""
    engine = make_engine(network, device=CPU, engine=engine_name, precision=precision)
    whole = engine(patches)
    for size in (1, 3, 16):
        parts = [engine(patches[start : start + size]) for start in range(0, len(patches), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_threads_at_once_give_the_same_bits(network, engine_name, patches):
    engine = make_engine(network, device=CPU, engine=engine_name)
    assert engine.streams == torch.get_num_threads()
    expected = engine(patches)
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(engine, [patches] * 6):
            np.testing.assert_array_equal(found, expected)
    assert torch.get_num_threads() == threads, "the caller's own number of threads is its own"


def test_folding_changes_no_vector_and_not_the_network(network):
    before = identity_of(network)
    folded = fold_batch_norm(network)
    assert identity_of(network) == before
    batch = torch.rand(2, 3, network.input_px, network.input_px)
    with torch.inference_mode():
        torch.testing.assert_close(folded(batch), network(batch), atol=1e-5, rtol=0)


def test_batch_norms_after_convolutions_are_gone():
    trunk = fold_batch_norm(Encoder()).scae.trunk
    assert not [module for module in trunk.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in fold_batch_norm(NormAfterActivation()) if isinstance(module, nn.BatchNorm2d)]


def test_no_weight_of_a_folded_network_asks_for_a_gradient(network):
    assert not any(weight.requires_grad for weight in fold_batch_norm(network).parameters())
    assert all(weight.requires_grad for weight in network.parameters())


@pytest.fixture
def made_streams(monkeypatch):
    """The CPU in place of a GPU, without pinned memory; counts the streams that are made."""
    made, empty = MagicMock(), torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", made)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **options: empty(*shape, **options))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    return made


def test_slide_after_slide_is_encoded_in_the_same_streams(made_streams, network, patches):
    """Each slide has its own threads; blocks that a stream has left are kept for that stream alone."""
    engine = CudaEngine(fold_batch_norm(network), device=CPU)
    for _ in range(20):
        for found in map_ahead(engine, [patches[:1]] * 4, threads=engine.streams):
            np.testing.assert_allclose(found, plain(network, patches[:1]), atol=1e-5)
    assert made_streams.call_count <= CUDA_STREAMS


def test_a_call_that_fails_gives_its_stream_back(made_streams, network, patches):
    engine = CudaEngine(fold_batch_norm(network), device=CPU)
    for _ in range(CUDA_STREAMS + 1):
        with pytest.raises(TypeError):
            engine(None)
    assert len(engine(patches[:1])) == 1


@pytest.mark.parametrize(("precision", "allowed"), [("float32", False), ("float16", True)])
def test_float32_on_a_gpu_is_not_tf32(made_streams, network, precision, allowed):
    CudaEngine(fold_batch_norm(network), device=CPU, precision=precision)
    assert torch.backends.cudnn.allow_tf32 is allowed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "tensorrt"}, "engine 'tensorrt': expected one of auto, torch, openvino"),
        ({"precision": "int8"}, "precision 'int8': expected one of float32"),
        ({"precision": "float16"}, "a CPU does not compute with"),
        ({"engine": "openvino", "device": torch.device("cuda")}, "runs on a CPU alone"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        make_engine(NormAfterActivation(), **{"device": CPU, **options})


def test_openvino_that_computes_in_another_precision_is_refused(monkeypatch):
    """As on a processor without bfloat16; auto takes torch then."""
    openvino_engine = pytest.importorskip("scripts.encoding.openvino_engine", reason="OpenVINO is not installed")
    core = openvino_engine.openvino.Core()

    class WithoutBfloat16:
        def compile_model(self, model, device, options):
            return core.compile_model(model, device, options | {"INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino_engine.openvino, "Core", WithoutBfloat16)
    with pytest.raises(RequestError, match="precision is 'bfloat16', and OpenVINO computes in f32 on this processor"):
        make_engine(NormAfterActivation(), device=CPU, engine="openvino", precision="bfloat16")
    assert make_engine(NormAfterActivation(), device=CPU, engine="auto", precision="bfloat16").name == "torch"


def test_a_missing_openvino_is_named_and_auto_does_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "scripts.encoding.openvino_engine", raising=False)
    with pytest.raises(RequestError, match="OpenVINO is not installed"):
        make_engine(NormAfterActivation(), device=CPU, engine="openvino")
    assert make_engine(NormAfterActivation(), device=CPU, engine="auto").name == "torch"


ENGINE = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from encoding.test_engine import NormAfterActivation
from scripts.common.process import send_no_telemetry
from scripts.encoding.engine_choice import make_engine
send_no_telemetry()
make_engine(NormAfterActivation(), device=torch.device("cpu"), engine="openvino")
loaded = [name for name, module in sys.modules.items() if module and name.startswith("openvino_telemetry")]
assert "openvino" in sys.modules and not loaded, loaded
"""


def test_openvino_reports_nothing():
    """Left to itself it sends usage data to a server, from the import on."""
    if find_spec("openvino") is None:
        pytest.skip("OpenVINO is not installed")
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", ENGINE, str(root / "bundle"), str(root / "tests")], check=True)


def test_resnet50_by_both_engines() -> None:
    """Folded batch norm and OpenVINO, where it is installed, give what the network gives."""
    encoder = WrappedEncoder(partial(resnet50_stage3, "random"), input_px=64)
    patches = np.random.default_rng(0).integers(0, 256, (3, 80, 80, 3)).astype(np.uint8)
    with torch.inference_mode():
        expected = encoder(resize_patches(torch.from_numpy(patches), 64) / 255).numpy()
    for name in ("torch", "auto"):
        engine = make_engine(encoder, device=CPU, engine=name)
        np.testing.assert_allclose(engine(patches), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_raw_patches_are_whole_numbers_by_both_engines() -> None:
    patches = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    for name in ("torch", "auto"):
        found = make_engine(RawPatches(32), device=CPU, engine=name)(patches)
        expected = patches.transpose(0, 3, 1, 2).reshape(3, -1)
        np.testing.assert_array_equal(found.astype(np.float16), expected)
