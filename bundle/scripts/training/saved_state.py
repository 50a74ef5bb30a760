"""``last.pt``: the state of a training, after every epoch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.same_request import refuse_another
from ..encoding.encoders import load_tensors, require_finite

FORMAT = "dsnet-training/3"
STATE_NAME = "last.pt"


def read_state(path: Path, settings: Mapping[str, Any]) -> dict[str, object]:
    """Read ``last.pt``, and compare the settings in it.

    Args:
        path: the file.
        settings: what the training that goes on must have in common with its beginning, by id.

    Raises:
        RequestError: it is of another version or of other settings, or its weights are no numbers.
    """
    state = load_tensors(path, expected="the state of a training: leave --resume out to train anew")
    found = state.get("format") if isinstance(state, dict) else type(state).__name__
    if found != FORMAT:
        raise RequestError(f"{path}: format {found!r}, expected {FORMAT!r}: leave --resume out to train anew")
    for weights in (state["network"], state["best"] or {}):
        require_finite(path, weights)
    remedy = "give the former, or train anew without --resume (--max_epochs may change)"
    refuse_another(path, state["settings"], settings, remedy=remedy)
    return state
