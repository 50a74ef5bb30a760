"""``--encoder`` and an overlay change what makes V; the other stages follow."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from tiny_flow import ON_CPU, cause_of, read_rows, run_config
from torch import nn

from scripts.slides.synthetic import write_tiny_slide_set


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_slide_set(tmp_path_factory.mktemp("slides"))


def encode(slides: Path, output: Path, overlay: str, **options: Any) -> Path:
    run_config("encode.yaml", overlay, run_id="encoding", slides=slides, output_dir=output, **options, **ON_CPU)
    return output


def train_and_infer(slides: Path, dataset: Path, overlay: str, output: Path, **options: Any) -> list[dict[str, str]]:
    """Train DSNet on the embeddings, then classify one of the slides from its pixels."""
    model = output / "model.pt"
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": model}
    run_config("train.yaml", run_id="training", max_epochs=1, **folders, **ON_CPU)
    one = slides.parent / "slides" / "test_000.tif"
    folders = {"slides": one, "output_dir": output / "predictions", "model": model}
    run_config("inference.yaml", overlay, run_id="inference", heat_maps=False, **folders, **options, **ON_CPU)
    return read_rows(output / "predictions" / "predictions.csv")


def test_resnet50(slides: Path, tmp_path: Path) -> None:
    """Its third stage has 1024 channels; weights are drawn, as no trained ones are at hand, and 32 px take little time."""
    options = {"encoder": "random", "job#engine": "torch", "encoder_def#input_px": 32}
    dataset = encode(slides, tmp_path / "data", "encode_resnet50.yaml", **options)
    with h5py.File(dataset / "train_000.h5") as file:
        assert file["features"].shape[1] == 1024
        assert np.ptp(file["features"][:], axis=0).max() > 0
        assert file.attrs["encoder"].startswith("Sequential-32px sha256:")
        assert file.attrs["read_level"] == 0
    assert len(train_and_infer(slides, dataset, "encode_resnet50.yaml", tmp_path, **options)) == 1


def test_the_default_weights_are_no_resnet(slides: Path, tmp_path: Path) -> None:
    """An overlay without --encoder must not run on random weights."""
    with pytest.raises(RuntimeError) as caught:
        encode(slides, tmp_path / "data", "encode_resnet50.yaml", encoder=tmp_path / "scae.pt")
    assert "expected a state dict of ResNet-50" in str(cause_of(caught.value))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["bigan", "multitask-4"])
def test_published_encoders(slides: Path, data_dir: Path, tmp_path: Path, name: str) -> None:
    """Neural image compression: 64 um, 128 channels, real weights; slides are classified by the same overlay (one is enough)."""
    weights = data_dir / "weights" / f"nic_encoder_{name}.h5"
    if not weights.is_file():
        pytest.skip(f"{weights.name} is not there")
    dataset = encode(slides, tmp_path / "data", "encode_nic.yaml", encoder=weights)
    with h5py.File(dataset / "train_000.h5") as file:
        assert file["features"].shape[1] == 128
        assert file.attrs["patch_um"] == 64
        assert file.attrs["encoder"].startswith("NICEncoder sha256:")
    if name == "multitask-4":
        assert len(train_and_infer(slides, dataset, "encode_nic.yaml", tmp_path, encoder=weights)) == 1


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_by_an_overlay(slides: Path, tmp_path: Path) -> None:
    """As docs/encoders.md shows it."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.jit.trace(network, torch.rand(1, 3, 224, 224)).save(tmp_path / "theirs.ts")
    (tmp_path / "encode_mine.yaml").write_text(
        "+settings: {patch_um: 112.0}\n"
        "encoder_def:\n"
        "  _target_: scripts.encoding.wrapped.WrappedEncoder\n"
        "  _mode_: callable\n"
        "  input_px: 224\n"
        "  network: {_target_: torch.jit.load, _mode_: callable, f: '@encoder'}\n"
    )
    options = {"encoder": tmp_path / "theirs.ts", "job#engine": "torch"}
    dataset = encode(slides, tmp_path / "data", str(tmp_path / "encode_mine.yaml"), **options)
    with h5py.File(dataset / "train_000.h5") as file:
        assert file["features"].shape[1] == 6
        assert file["coords"].attrs["patch_size_level0"] == 224
