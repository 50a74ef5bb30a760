"""Names that become names of files: a slide's id, wherever it comes from (a table, a request, a file)."""

import os

from .errors import RequestError

MAX_NAME_BYTES = 250
"""The longest file name is 255 bytes on the usual file systems; the longest suffix behind a slide's id is ``.html``."""


def name_fault(name: str) -> str | None:
    """Say in a few words why no file could be named by ``name`` inside a folder; None where one can."""
    if not name.strip():
        return "is empty"
    if name in (".", ".."):
        return "means a folder"
    for mark, words in (("/", "a slash"), ("\\", "a backslash"), ("\0", "a NUL")):
        if mark in name:
            return f"holds {words}"
    if (length := len(os.fsencode(name))) > MAX_NAME_BYTES:
        return f"has {length} bytes"
    return None


def require_plain_name(name: str, where: str) -> str:
    """Return ``name`` where files inside a folder can be named by it; ``where`` names its source in the error.

    Raises:
        RequestError: it is empty, leads to another folder, or is too long for a file's name.
    """
    fault = name_fault(name)
    if fault is not None:
        raise RequestError(
            f"{where}: slide_id {elided(name)!r} {fault}, expected the name of a file without a folder, of at most "
            f"{MAX_NAME_BYTES} bytes: correct it, or give another in the column slide_id of a table"
        )
    return name


def printable(path: str | os.PathLike[str]) -> str:
    """``path`` as text that can be written anywhere: bytes that are no UTF-8 with backslashes."""
    return os.fspath(path).encode(errors="backslashreplace").decode()


def elided(name: str, characters: int = 60) -> str:
    """``name``, its middle left out where it is long."""
    half = characters // 2
    return name if len(name) <= characters else f"{name[:half]}...{name[-half:]}"
