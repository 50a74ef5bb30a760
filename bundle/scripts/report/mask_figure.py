"""The stage ``comparing_masks``: Fig. 5, the run-length criterion against Otsu's method on given slides."""

import logging
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..common.apart import Apart
from ..common.errors import RequestError, SlideError
from ..common.files import atomic_path, write_csv, writing_to
from ..common.option_words import TissueMethod
from ..common.outputs import HeldOutputs
from ..common.progress import track
from ..encoding.thumbnail import build_thumbnail
from ..slides.box import read_box
from ..slides.geometry import PATCH_UM, PatchGrid, plan_reading
from ..slides.opening import DEFAULT_READING, Reading, open_slide
from ..slides.table import SlideRow, read_slides
from ..tissue.mask import score_functions, tissue_mask
from ..tissue.score import slide_scores
from ..tissue.threshold import TissueMask

SIDE_PX = 800
PANEL_IN = 4.0
DPI = 150
NAMES: dict[TissueMethod, str] = {"otsu": "Otsu on the intensity", "rle": "run lengths"}

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaskRow:
    """One method on one slide: a row of ``masks.csv``; ``status`` is done, empty or failed."""

    slide_id: str
    method: TissueMethod
    status: Literal["done", "empty", "failed"]
    patches: int = 0
    kept: int = 0
    glass_threshold: float | None = None
    threshold: float | None = None
    reason: str = ""


def compare_masks(
    slides: str | Path | None,
    output_dir: str | Path,
    *,
    patch_um: float = PATCH_UM,
    reading: Reading = DEFAULT_READING,
    replace: bool = False,
) -> list[MaskRow]:
    """Write ``<slide_id>.png`` (slide, both masks) for every slide, and ``masks.csv``.

    Args:
        slides: a slide, a folder or a CSV.
        output_dir: folder of the outputs.
        patch_um: side of a patch.
        reading: how slides are read.
        replace: whether the figures of another request may be replaced.

    Returns:
        rows of the table.

    Raises:
        RequestError: there is no slide, or see :class:`..common.outputs.HeldOutputs`.
        SlideError: a slide failed; the others are done and the table says which.
    """
    if slides is None:
        raise RequestError("no slides given: name a slide file, a folder or a CSV with --slides")
    output = Path(output_dir)
    listed = read_slides(slides)
    rows: list[MaskRow] = []
    request = {"slides": str(Path(slides).absolute()), "patch_um": patch_um}
    names = ("masks.csv", *(f"{slide.slide_id}.png" for slide in listed))
    with (
        writing_to(output),
        HeldOutputs(output, "comparing_masks", request, writes=names, replace=replace),
        Apart(partial(_look, patch_um, reading), timeout_s=reading.timeout_s) as apart,
    ):
        for slide in track(listed, total=len(listed), what="masks", unit="slide"):
            try:
                pixels, grid, masks = apart.run(slide.path, slide)
            except SlideError as error:
                rows += [MaskRow(slide.slide_id, method, "failed", reason=str(error)) for method in NAMES]
            else:
                _draw(output / f"{slide.slide_id}.png", pixels, grid, masks)
                rows += _rows_of(slide, masks)
        write_csv(output / "masks.csv", [field.name for field in fields(MaskRow)], (asdict(row) for row in rows))
    failed = sum(row.status == "failed" for row in rows) // len(NAMES)
    if failed:
        raise SlideError(
            f"{failed} of {len(listed)} slides failed, all others are done; {output / 'masks.csv'} says why"
        )
    return rows


def _look(
    patch_um: float, reading: Reading, slide: SlideRow
) -> tuple[NDArray[np.uint8], PatchGrid, dict[TissueMethod, TissueMask]]:
    """The slide's pixels, its grid, and its mask by each method."""
    with open_slide(slide.path, reading) as reader:
        grid = plan_reading(reader, patch_um=patch_um, read_level="highest", mpp=slide.mpp).grid
        scores = slide_scores(reader, grid, scores=score_functions(), patch_um=patch_um)
        pixels = read_box(reader, grid, SIDE_PX)
        if pixels is None:
            pixels = build_thumbnail(reader, grid, levels=1)
    return pixels, grid, {method: tissue_mask(scores, method=method) for method in NAMES}


def _rows_of(slide: SlideRow, masks: dict[TissueMethod, TissueMask]) -> list[MaskRow]:
    return [
        MaskRow(
            slide_id=slide.slide_id,
            method=method,
            status="done" if mask.mask.any() else "empty",
            patches=mask.mask.size,
            kept=int(mask.mask.sum()),
            glass_threshold=mask.glass_threshold,
            threshold=mask.threshold,
            reason=mask.reason,
        )
        for method, mask in masks.items()
    ]


def _draw(path: Path, pixels: NDArray[np.uint8], grid: PatchGrid, masks: dict[TissueMethod, TissueMask]) -> None:
    """Draw the slide and what each mask keeps of it, the rest black as in the paper."""
    rows, columns = grid.shape_yx
    height = PANEL_IN * min(2.0, rows / columns)
    figure = Figure(figsize=(3 * PANEL_IN, height + 0.4), dpi=DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(1, 3)
    extent = (0, columns, rows, 0)
    axes[0].imshow(pixels, extent=extent)
    axes[0].set_title("slide")
    for panel, (method, mask) in zip(axes[1:], masks.items(), strict=True):
        left_out = np.zeros((rows, columns, 4))
        left_out[..., 3] = ~mask.mask
        panel.imshow(pixels, extent=extent)
        panel.imshow(left_out, extent=extent, interpolation="nearest")
        panel.set_title(f"{NAMES[method]}: {mask.mask.sum():,} of {mask.mask.size:,} patches")
    for panel in axes:
        panel.set_axis_off()
    with atomic_path(path) as partial:
        canvas.print_png(partial, metadata={"Software": None})
