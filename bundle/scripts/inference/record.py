"""What inference keeps of its run and of a slide beside the prediction: the material of the report."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..common.config_settings import Plain
from ..common.files import atomic_path, relative_to, write_json
from ..common.option_table import is_path
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..common.version import BUNDLE_VERSION
from ..encoding.job import ManifestRow
from ..encoding.settings import HEAD_BYTES, is_replaced
from ..encoding.store import Embedding
from ..encoding.tissue_record import TissueRecord
from ..evaluation.predictions import Prediction
from ..slides.geometry import T_PIXELS_PER_PATCH
from ..tissue.pen import INK_SHARE, pen_colour_scores
from ..training.model_card import ModelCard
from .heat_map_view import HeatMapView

RUN_FORMAT = "dsnet-inference/1"
SCORES_FORMAT = "dsnet-scores/1"
_SEPARATOR = re.compile(r"[/\\]")  # of folders


@dataclass(frozen=True)
class SlideOrigin:
    """Where a predicted slide comes from.

    Attributes:
        patient: whose slide it is; None where that is not known.
        seen_in: split in which the model met an equal embedding when it was trained; None if in none.
    """

    patient: str | None
    seen_in: str | None


def write_run(
    path: Path,
    *,
    card: ModelCard,
    threshold: float | None,
    settings: Mapping[str, Any],
    slides: Mapping[str, SlideOrigin],
    mapped: Collection[str] = (),
    not_predicted: Iterable[ManifestRow] = (),
) -> None:
    """Write the model card as it was used, the threshold, all settings and the slides; the card's fingerprints of slides stay out.

    Args:
        path: the file.
        card: the model card.
        threshold: decision threshold that was applied, the card's or another.
        settings: options of the stage by name; values that JSON does not know are written as text.
        slides: where each predicted slide comes from, by the id in ``predictions.csv``.
        mapped: ids of those whose heat map this run wrote; any other map in the folder is of an earlier one.
        not_predicted: what became of the other slides of this run.
    """
    plain = (str, int, float, bool, type(None))
    content = {
        "format": RUN_FORMAT,
        "threshold": threshold,
        "card": {name: value for name, value in card.to_json().items() if name != "seen"},
        "settings": {name: value if isinstance(value, plain) else str(value) for name, value in settings.items()},
        "slides": {slide_id: asdict(origin) | {"mapped": slide_id in mapped} for slide_id, origin in slides.items()},
        "not_predicted": {row.slide_id: {"status": row.status, "error": row.error} for row in not_predicted},
        "versions": {"bundle": BUNDLE_VERSION, "monai": monai.__version__, "torch": str(torch.__version__)},
    }
    write_json(path, content)


def with_pseudonyms(settings: Mapping[str, Plain], names: Names) -> dict[str, Plain]:
    """Return the settings as they may be written: each path is replaced by what ``names`` calls it."""
    return {
        name: names.place(value) if isinstance(value, str) and (is_path(name) or _SEPARATOR.search(value)) else value
        for name, value in settings.items()
    }


def _print_of(slide: Path, embedding: Embedding) -> str | None:
    """Fingerprint of the slide that was judged; an empty text, which no file has, where another lies in its place."""
    return "" if is_replaced(embedding.attributes, slide) else slide_fingerprint(slide)


def write_scores(
    folder: Path,
    view: HeatMapView,
    *,
    item: Mapping[str, Any],
    prediction: Prediction,
    embedding: Embedding,
    names: Names = AS_THEY_ARE,
) -> None:
    """Write ``scores.json`` and, unless it is white all over, the finest level of T as ``thumbnail.png``.

    Args:
        folder: the slide's folder.
        view: its heat map, with the finest level of T.
        item: of the slide, as :class:`.slide_set.InferenceSet` lists it.
        prediction: what was predicted.
        embedding: the slide's embedding.
        names: where slides have other names, nothing is told of the file.
    """
    attributes, tissue = embedding.attributes, embedding.tissue
    thumbnail = _finest(view.thumbnail)
    mpp_x, mpp_y = view.mpp_xy or (None, None)
    rows, columns = embedding.shape_yx
    patches = len(embedding.features)
    cell_mm2 = None if view.mpp_xy is None else embedding.patch_px_level0**2 * view.mpp_xy[0] * view.mpp_xy[1] / 1e6
    content = {
        "format": SCORES_FORMAT,
        "slide": "" if names.anonymise else relative_to(item["slide"], folder.parent),
        "slide_print": None if names.anonymise else _print_of(Path(item["slide"]), embedding),
        "class_shown": view.class_name,
        "heat_map": view.kind.title,
        "stream_score": prediction.stream_score,
        "channel_scores": list(prediction.channel_scores),
        "encoder": str(attributes.get("encoder", "unknown")),
        "engine": attributes.get("engine"),
        "backend": attributes.get("backend"),
        "grid": {
            "shape_yx": [rows, columns],
            "origin_xy_px": list(embedding.origin_xy_px),
            "patch_px_level0": int(embedding.patch_px_level0),
        },
        "resolution": {
            "mpp_x": mpp_x,
            "mpp_y": mpp_y,
            "patch_um": _number(attributes.get("patch_um")),
            "read_level": _whole(attributes.get("read_level")),
            "read_px": _whole(attributes.get("read_px")),
            "slide_size_xy_px": [int(side) for side in attributes.get("slide_size_xy_px", ())] or None,
        },
        "tissue": {
            "patches": patches,
            "area_mm2": None if cell_mm2 is None else patches * cell_mm2,
            "box_mm2": None if cell_mm2 is None else rows * columns * cell_mm2,
            "left_out": _whole(attributes.get("patches_left_out")),
            **(_groups(tissue, patches) if tissue else {}),
            "pen_coloured": None if thumbnail is None else _pen_coloured(thumbnail, embedding),
        },
    }
    write_json(folder / "scores.json", content)
    if thumbnail is not None:
        with atomic_path(folder / "thumbnail.png") as partial:
            Image.fromarray(thumbnail).save(partial)


def slide_fingerprint(path: Path) -> str | None:
    """SHA-256 over the size and the first bytes of a slide file; None where there is none.

    The report shows pixels of a slide only where the file still has the print that inference saw: a changed ``scores.json`` cannot
    make it show another one.
    """
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    return hashlib.sha256(f"{path.stat().st_size} ".encode() + head).hexdigest()


def _finest(thumbnail: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
    """The finest level of T (2H, 2W, 3); None where it is white all over."""
    return thumbnail[:, :, :3] if thumbnail is not None and (thumbnail[:, :, :3] < 255).any() else None


def _groups(tissue: TissueRecord, patches: int) -> dict[str, object]:
    """Count the patches of the whole slide that the criterion left out, by the reason."""
    glass = tissue.scores < tissue.glass_threshold
    flat = ~glass & (tissue.scores < tissue.threshold)
    return {
        "method": tissue.method,
        "threshold": tissue.threshold,
        "glass_threshold": tissue.glass_threshold,
        "glass": int(glass.sum()),
        "ink_or_debris": int(flat.sum()),
        "pen": tissue.pen,
        "specks": max(0, int((~glass & ~flat).sum()) - tissue.pen - patches),
    }


def _pen_coloured(thumbnail: NDArray[np.uint8], embedding: Embedding) -> int:
    """Count the observed patches of which most of the thumbnail's 2 x 2 pixels have the colour of pen."""
    (rows, columns), k = embedding.shape_yx, T_PIXELS_PER_PATCH
    pen = pen_colour_scores(thumbnail.reshape(-1, 1, 1, 3)).reshape(rows, k, columns, k).mean(axis=(1, 3))
    return int((pen[tuple(embedding.grid_yx.T)] >= INK_SHARE).sum())


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
