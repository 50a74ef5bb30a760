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


def test_weights_of_another_strategy(weights: Path) -> None:
    with pytest.raises(RequestError, match=r"bare\.pt: does not fit SCAE \(\d+ entries differ.*check the strategy"):
        SCAEEncoder(weights / "bare.pt", strategy="mixed")


def test_an_unknown_strategy(weights: Path) -> None:
    with pytest.raises((RequestError, ValueError), match="strategy 'both': expected one of separated"):
        SCAEEncoder(weights / "bare.pt", strategy="both")
