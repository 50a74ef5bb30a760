from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from scripts.common.errors import RequestError
from scripts.encoding.named_encoder import identity_of
from scripts.encoding.wrapped import WrappedEncoder


class Means(nn.Module):
    """Mean of each colour, so that the normalisation shows; ``rows`` gives a map instead of a vector."""

    def __init__(self, rows: bool = False) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=3) if self.rows else images.mean(dim=(2, 3))


def test_input_is_normalised_and_output_counted() -> None:
    encoder = WrappedEncoder(Means, input_px=8, mean=(0.1, 0.2, 0.3), std=(1, 2, 4))
    assert (encoder.input_px, encoder.channels, encoder.training) == (8, 3, False)
    torch.testing.assert_close(encoder(torch.full((2, 3, 8, 8), 0.5)), torch.tensor([[0.4, 0.15, 0.05]] * 2))


def test_identity_tells_what_changes_the_vectors() -> None:
    first = identity_of(WrappedEncoder(Means, input_px=8))
    assert first.startswith("Means-8px sha256:")
    assert identity_of(WrappedEncoder(Means, input_px=8)) == first
    assert identity_of(WrappedEncoder(Means, input_px=16)) != first
    assert identity_of(WrappedEncoder(Means, input_px=8, mean=(0.5, 0.5, 0.5))) != first


def test_networks_that_do_not_serve() -> None:
    with pytest.raises(RequestError, match=r"Means-8px: gives \(2, 3, 8\) for two patches, expected \(2, C\)"):
        WrappedEncoder(lambda: Means(rows=True), input_px=8)
    with pytest.raises(RequestError, match=r"Sequential-8px: takes no patches of 8 px.*correct input_px"):
        WrappedEncoder(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)), input_px=8)
    with pytest.raises(RequestError, match="expected three numbers"):
        WrappedEncoder(Means, input_px=8, std=(1, 0, 1))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.jit.trace(network, torch.rand(1, 3, 16, 16)).save(tmp_path / "theirs.ts")
    encoder = WrappedEncoder(lambda: torch.jit.load(tmp_path / "theirs.ts"), input_px=16)
    assert encoder.channels == 5
    assert identity_of(encoder).startswith("Sequential-16px")
    images = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(encoder(images), network((images - encoder.mean) / encoder.std))
    for content in (None, b"nothing"):
        if content:
            (tmp_path / "none.ts").write_bytes(content)
        with pytest.raises(RequestError, match=r"the encoder's network cannot be made.*check --encoder"):
            WrappedEncoder(lambda: torch.jit.load(tmp_path / "none.ts"), input_px=16)
