"""``last.pt``: the state of a training, after every epoch."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from ..common.boundary import file_boundary
from ..common.errors import RequestError
from ..common.same_request import refuse_another
from ..common.weights import load_tensors, require_finite_weights

FORMAT = "dsnet-training/3"
STATE_NAME = "last.pt"

_TYPES: dict[str, tuple[type, ...]] = {
    "settings": (dict,),
    "epoch": (int,),
    "network": (dict,),
    "best": (dict, NoneType),
    "best_metric": (int, float, NoneType),
    "best_metric_epoch": (int, NoneType),
    "scaler": (dict, NoneType),
}
"""Type of each entry; optimizer, loss and schedule check their own states on loading."""


def read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, object]:
    """Read ``last.pt``, and compare the settings in it.

    Args:
        path: the file.
        settings: what the training that goes on must have in common with its beginning, by id.

    Raises:
        RequestError: it is of another version or of other settings, its weights are no numbers, or it is damaged.
    """
    expected = "the state of a training: leave --resume out to train anew"
    state = load_tensors(path, expected=expected)
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise RequestError(f"{path}: format {found!r}, expected {FORMAT!r}: leave --resume out to train anew")
    remedy = "give the former, or train anew without --resume (--max_epochs may change)"
    with file_boundary(path, "damaged", expected):
        _require_whole(state)
        for weights in (state["network"], state["best"] or {}):
            require_finite_weights(path, weights)
        refuse_another(path, state["settings"], settings, remedy=remedy)
    return state


def _require_whole(state: Mapping[str, Any]) -> None:
    """Refuse a state of which a part is of another type, or does not go with another one.

    Raises:
        TypeError, KeyError, ValueError: says which.
    """
    for name, types in _TYPES.items():
        if not isinstance(state[name], types):
            raise TypeError(f"{name} is {type(state[name]).__name__}")
    if state["epoch"] < 0:
        raise ValueError(f"epoch {state['epoch']}")
    best_epoch = state["best_metric_epoch"]
    if (state["best"] is None) != (best_epoch is None or best_epoch < 0):
        raise ValueError(f"best weights of epoch {best_epoch}")
    if state["best"] is not None and not (best_epoch <= state["epoch"] and isinstance(state["best_metric"], float)):
        raise ValueError(f"best weights of epoch {best_epoch} of {state['epoch']}, of metric {state['best_metric']}")
