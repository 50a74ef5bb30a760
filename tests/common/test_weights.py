"""Weights as they are read from files, here those of an S-CAE."""

from pathlib import Path

import pytest
import torch

from scripts.common.errors import RequestError
from scripts.common.weights import read_weights
from scripts.scae.scae_network import SCAE


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the state dict of an untrained S-CAE."""
    folder = tmp_path_factory.mktemp("weights")
    torch.save(SCAE().state_dict(), folder / "bare.pt")
    return folder


def read(path: Path) -> dict[str, torch.Tensor]:
    return read_weights(path, network=SCAE(), made_by="train_scae.yaml")


@pytest.mark.parametrize("entry", [None, "model"])
def test_a_bare_state_dict_or_that_of_a_checkpoint(tmp_path: Path, weights: Path, entry: str | None) -> None:
    state = torch.load(weights / "bare.pt", weights_only=True)
    torch.save({entry: state} if entry else state, tmp_path / "x.pt")
    found = read(tmp_path / "x.pt")
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"gone\.pt: no such file; expected the weights that train_scae\.yaml writes"
    ):
        read(tmp_path / "gone.pt")


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
        read(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64])
def test_weights_of_another_type(tmp_path: Path, weights: Path, dtype: torch.dtype) -> None:
    state = torch.load(weights / "bare.pt", weights_only=True)
    name = next(name for name, value in state.items() if value.is_floating_point())
    torch.save({**state, name: state[name].to(dtype)}, tmp_path / "x.pt")
    with pytest.raises(RequestError, match=rf"x\.pt: does not fit SCAE \(1 entries differ, the first is {name}\)"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(tmp_path: Path, weights: Path, value: float) -> None:
    state = torch.load(weights / "bare.pt", weights_only=True)
    name = sorted(state)[0]
    state[name].view(-1)[0] = value
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(RequestError, match=rf"x\.pt: weights that are NaN or infinite \(in {name}\)"):
        read(tmp_path / "x.pt")


def test_a_flipped_bit_is_noticed(tmp_path: Path, weights: Path) -> None:
    """By the archive's checksums, at which torch.load does not look."""
    content = bytearray((weights / "bare.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "x.pt").write_bytes(content)
    torch.load(tmp_path / "x.pt", weights_only=True)
    with pytest.raises(RequestError, match=r"x\.pt: damaged \(.* has not its checksum\); expected the weights"):
        read(tmp_path / "x.pt")
