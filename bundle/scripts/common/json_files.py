"""JSON files of ours, read again: truncated, foreign or changed ones are refused in one line."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .boundary import file_boundary
from .errors import RequestError

Kind = type | tuple[type, ...]

NONE = type(None)
NUMBER = (int, float)


def read_json(
    path: str | Path, *, expected: str, fields: Mapping[str, Kind] | None = None, format: str | None = None
) -> dict[str, Any]:
    """Read a JSON object and check what will be taken from it.

    Args:
        path: the file.
        expected: what wrote it and what to do, such as "what inference writes: run it anew"; it ends every message.
        fields: kind of the value of each field that must be there; ``a.b`` is the field b of the object a.
        format: what its field ``format`` must say.

    Raises:
        RequestError: the file is missing, is no JSON object, or a field is missing or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"{path}: no such file, expected {expected}")
    with file_boundary(path, "not JSON", expected):
        content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise RequestError(f"{path}: a {type(content).__name__}, expected {expected}")
    if format is not None and content.get("format") != format:
        raise RequestError(f"{path}: format {content.get('format')!r}, expected {format!r}, {expected}")
    require_fields(path, content, fields or {}, expected=expected)
    return content


def require_fields(path: str | Path, content: Mapping[str, Any], fields: Mapping[str, Kind], *, expected: str) -> None:
    """Check the kinds of the fields of an object that was read from ``path``; see :func:`read_json`.

    Raises:
        RequestError: one is missing, is of another kind, or is NaN or infinite.
    """
    for name, kind in fields.items():
        value: Any = content
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise RequestError(f"{path}: has no {name}, expected {expected}")
            value = value[part]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        fits = isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds)
        if not fits or (isinstance(value, float) and not math.isfinite(value)):
            raise RequestError(f"{path}: {name} is {str(value)[:60]!r}, expected {expected}")
