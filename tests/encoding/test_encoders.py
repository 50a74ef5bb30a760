from pathlib import Path

import pytest
import torch

from scripts.common.errors import RequestError
from scripts.encoding.encoders import SCAEEncoder
from scripts.encoding.named_encoder import identity_of
from scripts.scae.scae_network import SCAE


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained S-CAE as train_scae.yaml saves it, and its bare state dict."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    state = SCAE().state_dict()
    torch.save({"model": state}, folder / "checkpoint.pt")
    torch.save(state, folder / "bare.pt")
    return folder


@pytest.mark.parametrize("name", ["checkpoint.pt", "bare.pt"])
def test_encodes_as_the_trained_network(weights: Path, name: str) -> None:
    encoder = SCAEEncoder(weights / name)
    network = SCAE().eval()
    network.load_state_dict(torch.load(weights / "bare.pt", weights_only=True))
    patches = torch.rand(2, 3, 112, 112)
    with torch.inference_mode():
        vectors = encoder(patches)
        torch.testing.assert_close(vectors, network.encode(patches))
    assert vectors.shape == (2, 128)
    assert (encoder.input_px, encoder.channels, encoder.training) == (112, 128, False)


@pytest.mark.parametrize(("strategy", "channels"), [("foreground", 96), ("background", 32)])
def test_parts_of_the_same_network(weights: Path, strategy: str, channels: int) -> None:
    encoder, whole = SCAEEncoder(weights / "bare.pt", strategy=strategy), SCAEEncoder(weights / "bare.pt")
    assert encoder.channels == channels
    name, digest = identity_of(whole).split()
    assert name == "SCAEEncoder"  # as in every embedding since the first
    assert identity_of(encoder) == f"SCAEEncoder-{strategy} {digest}"
    with torch.inference_mode():
        assert encoder(torch.rand(1, 3, 112, 112)).shape == (1, channels)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"gone\.pt: no such file; expected the weights that train_scae\.yaml writes"
    ):
        SCAEEncoder(tmp_path / "gone.pt")


@pytest.mark.parametrize("content", ["text", "cut", "tensor", "list"])
def test_no_checkpoint(tmp_path: Path, weights: Path, content: str) -> None:
    path = tmp_path / "x.pt"
    if content == "text":
        path.write_text("not weights")
    elif content == "cut":
        path.write_bytes((weights / "bare.pt").read_bytes()[:5000])
    else:
        torch.save(torch.zeros(3) if content == "tensor" else [1, 2], path)
    with pytest.raises(RequestError, match=r"x\.pt: not a checkpoint of tensors.*expected the weights that train_scae"):
        SCAEEncoder(path)


def test_weights_of_another_strategy(weights: Path) -> None:
    with pytest.raises(RequestError, match=r"bare\.pt: does not fit SCAE \(\d+ entries differ.*check the strategy"):
        SCAEEncoder(weights / "bare.pt", strategy="mixed")


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_weights_of_another_type(tmp_path: Path, weights: Path, dtype: torch.dtype) -> None:
    state = torch.load(weights / "bare.pt", weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    torch.save({**state, name: state[name].to(dtype)}, tmp_path / "x.pt")
    with pytest.raises(RequestError, match=rf"x\.pt: does not fit SCAE \(1 entries differ, the first is {name}\)"):
        SCAEEncoder(tmp_path / "x.pt")


def test_an_unknown_strategy(weights: Path) -> None:
    with pytest.raises((RequestError, ValueError), match="strategy 'both': expected one of separated"):
        SCAEEncoder(weights / "bare.pt", strategy="both")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, weights: Path, value: float) -> None:
    state = torch.load(weights / "bare.pt", weights_only=True)
    name = sorted(state)[0]
    state[name].view(-1)[0] = value
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(RequestError, match=rf"x\.pt: weights that are NaN or infinite \(in {name}\)"):
        SCAEEncoder(tmp_path / "x.pt")


def test_a_flipped_bit_is_noticed(tmp_path: Path, weights: Path) -> None:
    """By the archive's checksums, at which torch.load does not look."""
    content = bytearray((weights / "bare.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    torch.load(tmp_path / "x.pt", weights_only=True)
    with pytest.raises(RequestError, match=r"x\.pt: damaged \(.* has not its checksum\); expected the weights"):
        SCAEEncoder(tmp_path / "x.pt")
