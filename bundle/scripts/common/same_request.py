"""Whether what lies somewhere is the result of this very request: how two requests are compared, and how a difference is told.

A request is what decides outputs, by name or by id: plain JSON. Whoever writes outputs keeps it beside them, or in them: the
journal of a folder (:mod:`.journal`), ``run.json`` of a study's run, ``last.pt`` of a training, an attribute of an embedding.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from .errors import RequestError, first_of

_MOST = 60  # characters of a value in a message


def noted(request: Mapping[str, Any]) -> dict[str, object]:
    """A request as it is read again from where it is kept; what JSON does not know becomes a text."""
    content: dict[str, object] = json.loads(json.dumps(request, default=str))
    return content


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say what differs between two requests, by name; empty where they are the same.

    A part of a request in a mapping has an id (``options#max_epochs``). What one of them does not have counts as null: an option
    that a later version adds is null in the requests of before.

    >>> difference({"seed": 1, "options": {}}, {"seed": 1, "options": {"max_epochs": 3}})
    'options#max_epochs was null, now 3'
    """
    old, new = (dict(_leaves(noted(request))) for request in (before, now))
    changed = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return first_of([f"{name} was {_short(old.get(name))}, now {_short(new.get(name))}" for name in changed])


def refuse_another(place: object, before: Mapping[str, Any], now: Mapping[str, Any], *, remedy: str) -> None:
    """Refuse what was made for another request.

    Args:
        place: where it lies.
        before: the request that it was made for.
        now: the request of this run.
        remedy: what to do; it ends the message.

    Raises:
        RequestError: names what differs.
    """
    if changed := difference(before, now):
        raise RequestError(f"{place}: made for another request ({changed}); expected the same request: {remedy}")


def _leaves(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in part.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}#")
        else:
            yield f"{prefix}{key}", value


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
