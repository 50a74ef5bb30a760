"""What the embeddings of one data set have to agree on."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..common.errors import RequestError

Stated = TypeVar("Stated", bound=str)


def agreed(folder: Path, what: str, stated: Mapping[str, Stated | None]) -> Stated | None:
    """Return what the embeddings of a folder state, as far as they state it; None where none does.

    Args:
        folder: of the embeddings, for the message.
        what: plural noun for the message, such as "encoders".
        stated: value that each file states, by slide id; None where it states none.

    Raises:
        RequestError: they state different things.
    """
    known = {slide_id: one for slide_id, one in stated.items() if one is not None}
    if len(set(known.values())) > 1:
        raise RequestError(
            f"{folder}: embeddings of {len(set(known.values()))} different {what} ({disagreement(known)}), expected one: "
            "encode all slides anew with the same"
        )
    return next(iter(known.values()), None)


def disagreement(values: Mapping[str, Any], unit: str = "") -> str:
    """Say which value most files have, and which files have another."""
    ((usual, _), *_) = Counter(values.values()).most_common()
    others = ", ".join(f"{name}.h5 {value}" for name, value in values.items() if value != usual)
    return f"most {usual} {unit}".rstrip() + f"; {others}"
