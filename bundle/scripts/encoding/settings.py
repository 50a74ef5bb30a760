"""What an embedding file depends on, besides the slide's pixels and the encoder's weights."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..common.option_table import checked
from ..common.option_words import Precision, PrecisionChoice, ReadLevel, TissueMethod
from ..common.version import BUNDLE_VERSION
from ..slides.companions import companions_of
from ..slides.geometry import PATCH_UM
from ..slides.reader import SlideReader
from ..slides.table import SlideRow

HEAD_BYTES = 65536  # of a slide file, that tell it from another of the same size
COMPANION_HEAD_BYTES = 4096  # of each of its companions, which may be thousands


@dataclass(frozen=True)
class EncodingSettings:
    """Everything that decides what an embedding file holds, besides the slide and the encoder.

    Attributes:
        patch_um: side of a patch on the slide.
        read_level: "auto", "highest" (level 0, as in the paper) or a level's number.
        tissue_method: "rle" or "otsu".
        drop_pen: with "rle", leave out patches with the colour of pen.
        thumbnail_levels: L.
        precision: of the encoder's arithmetic: "float32", "bfloat16" or "float16"; "auto" is resolved by :mod:`.precision` before
            a slide is encoded.

    Raises:
        RequestError: a setting lies outside its range.
    """

    patch_um: float = PATCH_UM
    read_level: ReadLevel = "auto"
    tissue_method: TissueMethod = "rle"
    drop_pen: bool = True
    thumbnail_levels: int = 3
    precision: PrecisionChoice = "float32"

    def __post_init__(self) -> None:
        for setting in fields(self):
            object.__setattr__(self, setting.name, checked(setting.name, getattr(self, setting.name)))

    @property
    def known_precision(self) -> Precision:
        """The precision, which is not "auto" any more.

        Raises:
            RequestError: it is.
        """
        if self.precision == "auto":
            raise RequestError(
                "precision is 'auto', expected one that is known where a slide is encoded: name one, or call with_precision"
            )
        return self.precision


def parameters_of(row: SlideRow, encoder: str, settings: EncodingSettings, reader: SlideReader | None = None) -> str:
    """State all that an embedding depends on; a file whose statement differs is stale.

    Args:
        row: the slide; its size and first ``HEAD_BYTES`` bytes stand for its content, and names, sizes and first
            ``COMPANION_HEAD_BYTES`` bytes for those of the other files that it is made of. No times: a copy is the same slide.
        encoder: name and hash of the patch encoder.
        settings: the settings.
        reader: the slide, open: its resolution, levels and bounds count as read, since they may be corrected behind the pixels.
            Without it, what is stated is all but that.

    Raises:
        OSError: the slide cannot be read.
    """
    companions = hashlib.sha256()
    for file in companions_of(row.path):
        name = os.path.relpath(file, row.path.parent)
        companions.update(f"{name} {file.stat().st_size} {_head_sha256(file, COMPANION_HEAD_BYTES)}\n".encode())
    return json.dumps(
        {
            **asdict(settings),
            "precision": settings.known_precision,
            "companions_sha256": companions.hexdigest(),
            "encoder": encoder,
            "mpp": row.mpp,
            **_content(row.path),
            "version": BUNDLE_VERSION,
            **({} if reader is None else {"read": _read(reader)}),
        },
        sort_keys=True,
    )


def is_content_of(stated: dict[str, object], path: Path) -> bool:
    """Whether a statement was made about a slide of the same content; True where the slide cannot be read now."""
    try:
        return all(stated.get(name) == value for name, value in _content(path).items())
    except OSError:
        return True


def is_replaced(attributes: Mapping[str, Any], path: Path) -> bool:
    """Whether an embedding says that it was made of other content than the slide's file has now; False where either tells nothing.

    Args:
        attributes: root attributes of the embedding.
        path: the slide.
    """
    stated = stated_parameters(attributes) or {}
    return "slide_bytes" in stated and not is_content_of(stated, path)


def stated_parameters(attributes: Mapping[str, Any]) -> dict[str, object] | None:
    """What an embedding was made with, as its root attributes state by :func:`parameters_of`; None where they do not."""
    try:
        stated = json.loads(attributes["parameters"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    return stated if isinstance(stated, dict) else None


def _content(path: Path) -> dict[str, object]:
    return {"slide_bytes": path.stat().st_size, "slide_head_sha256": _head_sha256(path, HEAD_BYTES)}


def _read(reader: SlideReader) -> dict[str, object]:
    return {
        "bounds_xywh_px": [int(side) for side in reader.bounds_xywh_px],
        "level_sizes_xy_px": [[int(side) for side in size] for size in reader.level_sizes_xy_px],
        "mpp_xy": None if reader.mpp_xy is None else [float(mpp) for mpp in reader.mpp_xy],
    }


def _head_sha256(path: Path, count: int) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read(count)).hexdigest()
