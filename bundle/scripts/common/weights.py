"""Weights from files: a checkpoint is read on the CPU, and refused where it is damaged or does not fit its network."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .boundary import file_boundary
from .errors import RequestError


def read_weights(path: str | Path, *, network: nn.Module, made_by: str) -> dict[str, Tensor]:
    """Read a state dict that fits ``network``, from a bare state dict or from a checkpoint's entry ``model``.

    Raises:
        RequestError: the file is missing, is no checkpoint, or does not fit.
    """
    expected = f"the weights that {made_by} writes"
    state = read_state_dict(path, expected=expected)
    require_fitting_weights(path, state, network=network, expected="weights trained with the same settings")
    return state


def read_state_dict(path: str | Path, *, expected: str) -> dict[str, Tensor]:
    """Read a bare state dict, or a checkpoint's entry ``model``; ``expected`` says in errors what the file should be.

    Raises:
        RequestError: the file is missing, is no checkpoint, or holds NaN or infinity.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file; expected {expected}: train first or name another file")
    content = load_tensors(path, expected=expected)
    state = content.get("model", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise RequestError(f"{path}: not a checkpoint of tensors by name; expected {expected}: name that file")
    require_finite_weights(path, state)
    return state


def load_tensors(path: str | Path, *, expected: str) -> Any:
    """Read what ``torch.save`` wrote, on the CPU and without running anything that the file may hold.

    Raises:
        RequestError: the file is no such file, or holds more than tensors and plain values.
    """
    what = "not a checkpoint of tensors"
    with file_boundary(path, what, expected):
        require_sums(path, expected=expected)
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # its text advises to run what the file holds
            raise RequestError(f"{path}: {what} ({type(error).__name__}); expected {expected}") from error


def require_sums(path: str | Path, *, expected: str) -> None:
    """Refuse an archive of ``torch.save`` of which an entry has another checksum than it states; ``torch.load`` does not look.

    Raises:
        RequestError: one has.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise RequestError(
                f"{path}: damaged ({damaged} has not its checksum); expected {expected}: compare the file with its source"
            )


def require_finite_weights(path: str | Path, state: Mapping[str, Tensor]) -> None:
    """Refuse weights of which some are no numbers.

    Raises:
        RequestError: some are NaN or infinite.
    """
    found = first_not_finite(state)
    if found is not None:
        raise RequestError(
            f"{path}: weights that are NaN or infinite (in {found}), expected finite numbers, as of a training that did not "
            "diverge: name another file, or train anew"
        )


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """Name of the first tensor that holds NaN or infinity; None where all are finite."""
    return next((name for name, value in state.items() if not torch.isfinite(value).all()), None)


def require_fitting_weights(path: str | Path, state: dict[str, Tensor], *, network: nn.Module, expected: str) -> None:
    """Check that ``state``, read from ``path``, has the names, shapes and types of ``network``.

    Raises:
        RequestError: it has not.
    """
    own = network.state_dict()
    wrong = sorted(set(own) ^ set(state)) + sorted(
        name
        for name in own
        if name in state and (own[name].shape, own[name].dtype) != (state[name].shape, state[name].dtype)
    )
    if wrong:
        raise RequestError(
            f"{path}: does not fit {type(network).__name__} ({len(wrong)} entries differ, the first is {wrong[0]}); "
            f"expected {expected}: check the strategy or the network's arguments"
        )
