"""What a GPU computes is what the CPU computes; `make gpu-check` runs these where there is one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from dsnet.random_matrices import random_image
from scae.random_textures import random_textures
from tiny_flow import BUNDLE, CONFIGS, run_config
from torch.nn.functional import cross_entropy
from training.embedding_files import write_dataset
from training.observed_slides import slide_of

from scripts.dsnet.grad_cam import class_activation_map
from scripts.dsnet.network import DSNet
from scripts.encoding.encoders import SCAEEncoder
from scripts.encoding.named_encoder import NamedEncoder
from scripts.scae.scae_network import SCAE
from scripts.slides.opening import Reading, open_slide
from scripts.slides.synthetic import write_tiny_slide_set
from scripts.training.batches import PadCollate, dense_image

pytestmark = pytest.mark.cuda
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convolutions without TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("float16", 2e-2), ("bfloat16", 1e-1)])
def test_the_engine(exact: None, tmp_path: Path, precision: str, tolerance: float) -> None:
    torch.manual_seed(0)
    scae = SCAE().train()
    with torch.no_grad():
        scae.decompose(random_textures(8))
    torch.save(scae.state_dict(), tmp_path / "scae.pt")
    network = SCAEEncoder(tmp_path / "scae.pt")
    patches = (255 * random_textures(40, seed=1)).byte().permute(0, 2, 3, 1).contiguous().numpy()
    expected = NamedEncoder(network, device=CPU).encode(patches)
    found = NamedEncoder(network, device=CUDA, precision=precision).encode(patches)
    assert np.abs(found - expected).max() < tolerance * expected.std()


def test_the_input_of_the_network() -> None:
    batches = [PadCollate()([slide_of(5, 4, label=0), slide_of(3, 6, label=1)]) for _ in range(2)]
    expected, found = (dense_image(batch, device) for batch, device in zip(batches, (CPU, CUDA), strict=True))
    assert found.is_cuda and found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("head", ["slide", "patch"])
def test_a_training_step(exact: None, head: str) -> None:
    """In float64, where only the order of the sums differs."""
    images = torch.stack([random_image(24, 20, seed=seed, embedding_channels=16) for seed in range(2)]).double()
    gradients = []
    for device in (CPU, CUDA):
        torch.manual_seed(0)
        network = DSNet(embedding_channels=16, head=head).double().to(device)
        cross_entropy(network(images.to(device)), torch.tensor([0, 1], device=device)).backward()
        gradients.append({name: weight.grad.cpu() for name, weight in network.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-6, atol=1e-9)


def test_a_heat_map(exact: None) -> None:
    torch.manual_seed(0)
    network, image = DSNet(embedding_channels=16), random_image(24, 20, embedding_channels=16)[None]
    expected = class_activation_map(network, image, 1)
    np.testing.assert_allclose(class_activation_map(network.to(CUDA), image.to(CUDA), 1), expected, atol=1e-3)


def test_training_and_evaluation(tmp_path: Path) -> None:
    """In mixed precision, as train.yaml does it on a GPU."""
    dataset = write_dataset(tmp_path / "data", gap=1.0)
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "run", "device": "cuda"}
    run_config("train.yaml", "recommended.yaml", run_id="training", max_epochs=3, **options)
    state = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in state.values())
    options |= {"output_dir": tmp_path / "eval", "model": tmp_path / "run" / "model.pt"}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", **options)
    assert (tmp_path / "eval" / "metrics.json").is_file()


def test_nccl_with_one_process(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    files = str([str(CONFIGS / name) for name in ("train.yaml", "multi_gpu_train.yaml")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "1"]
    command += ["-m", "monai.bundle", "run", "training", "--bundle_root", str(BUNDLE), "--config_file", files]
    command += ["--dataset_dir", str(dataset), "--output_dir", str(tmp_path / "run"), "--max_epochs", "1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    assert (tmp_path / "run" / "model.pt").is_file()


def test_decoding_on_the_device(tmp_path: Path) -> None:
    pytest.importorskip("cucim")
    slide = next(write_tiny_slide_set(tmp_path / "slides").parent.glob("slides/*.tif"))
    corners = np.array([(0, 0), (256, 256), (100, 37)])
    read = []
    for device in ("cpu", "cuda"):
        with open_slide(slide, Reading(backend="cucim", num_workers=2, device=device)) as reader:
            read.append(reader.read_patches(corners, size_xy_px=(256, 256), level=0).astype(int))
    assert np.abs(read[1] - read[0]).mean() < 1
