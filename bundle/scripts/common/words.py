"""``true``, ``false`` and ``null`` on the command line, as the configs spell them.

Fire reads options as Python, so ``--heat_maps false`` arrives as the text "false", which is true. The config is merged by then, and a
component is not given the parser; the resolver that builds the component is on the stack, though.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from monai.bundle.reference_resolver import ReferenceResolver
from monai.bundle.utils import ID_SEP_KEY

from .errors import RequestError

WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def understood(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with their values for the words."""
    return {
        name: WORDS.get(value.lower(), value) if isinstance(value, str) else value for name, value in options.items()
    }


def set_in_config(options: Mapping[str, Any]) -> None:
    """Put the values of ``options`` into the config that the calling component belongs to, before they are used.

    Args:
        options: values by id.

    Raises:
        RequestError: the config cannot be reached; nothing is then taken for another value than was meant.
    """
    if not options:
        return
    frame = inspect.currentframe()
    while frame is not None and not isinstance(frame.f_locals.get("self"), ReferenceResolver):
        frame = frame.f_back
    if frame is None:
        raise _refused(next(iter(options)))
    resolver: ReferenceResolver = frame.f_locals["self"]
    for name, value in options.items():
        item = resolver.get_item(name)
        if item is None:
            raise _refused(name)
        item.update_config(value)
        parent, _, key = name.rpartition(ID_SEP_KEY)
        holder = resolver.get_item(parent)
        content = holder.get_config() if holder else None  # the same objects as in the config's tree
        if isinstance(content, dict):
            content[key] = value
        elif isinstance(content, list):
            content[int(key)] = value


def _refused(name: str) -> RequestError:
    return RequestError(
        f"--{name.replace(ID_SEP_KEY, '#')}: this version of MONAI takes true, false and null for texts; write True, False or None"
    )
