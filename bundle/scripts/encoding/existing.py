"""What lies in the output folder already under the names of the slides' embeddings: whose it is, and of which slide."""

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.errors import RequestError, SlideError
from ..common.journal import is_our_hdf5
from ..slides.table import SlideRow
from .embedding_file import header_of
from .settings import EncodingSettings, is_content_of
from .store import FORMAT


def request_of(encoder: str, settings: EncodingSettings) -> dict[str, Any]:
    """What decides the embeddings of a folder, besides the slides."""
    return {"encoder": encoder, **asdict(settings)}


def require_same_origin(
    rows: Sequence[SlideRow], output: Path, request: dict[str, Any], *, replace: bool, elsewhere: str
) -> list[str]:
    """Refuse to replace embeddings of another request or of other slides; return the names of those that are ours.

    Args:
        rows: the slides that will be encoded.
        output: folder of the embeddings.
        request: of :func:`request_of`.
        replace: whether they may be replaced.
        elsewhere: the remedy that names another folder.

    Raises:
        RequestError: names the first embedding that is of another request, or that came from another slide.
    """
    paths = _slides_before(output)
    ours = []
    for row in rows:
        path = output / f"{row.slide_id}.h5"
        stated = _parameters(path) if path.is_file() else None
        if stated is None and not (path.is_file() and is_our_hdf5(path)):
            continue
        ours.append(path.name)
        if replace or stated is None:
            continue
        changed = [
            f"{name} was {stated[name]!r}, now {value!r}"
            for name, value in request.items()
            if name in stated and stated[name] != value
        ]
        if changed:
            raise RequestError(
                f"{path}: made with another request ({'; '.join(changed)}); expected the same in one folder: {elsewhere}, or "
                "replace it with --replace true"
            )
        before = paths.get(row.slide_id)
        if before is not None and not _same_place(before, row.path) and not is_content_of(stated, row.path):
            raise RequestError(
                f"{path}: made from {before}, and {row.path} would replace it; expected one slide a name: {elsewhere}, or "
                "replace it with --replace true"
            )
    return ours


def rows_before(manifest: Path) -> list[dict[str, str]]:
    """Read the rows of a manifest; none where it is missing or is not one."""
    if not manifest.is_file():
        return []
    with open(manifest, newline="", encoding="utf-8", errors="replace") as file:
        return [row for row in csv.DictReader(file) if row.get("slide_id") and row.get("slide")]


def _slides_before(output: Path) -> dict[str, str]:
    """Path of the slide that each embedding was made from, as the manifests say, those of shards included."""
    return {
        row["slide_id"]: row["slide"]
        for manifest in sorted(output.glob("manifest*.csv"))
        for row in rows_before(manifest)
        if row.get("output")
    }


def _same_place(before: str, path: Path) -> bool:
    return os.path.abspath(before) == os.path.abspath(path)


def _parameters(path: Path) -> dict[str, Any] | None:
    """What an embedding of ours was made with; None where it is not ours, or is damaged and will be made anew."""
    try:
        attributes = header_of(path).attributes
        stated = json.loads(attributes["parameters"]) if attributes["format"] == FORMAT else None
    except (SlideError, KeyError, ValueError):
        return None
    return stated if isinstance(stated, dict) else None
