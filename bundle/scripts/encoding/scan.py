"""A slide without a pyramid, in one pass: every tile is decoded once, for the tissue mask, the thumbnail and the features.

Where the finest level is also the one that scores and thumbnail have to come from, finding the tissue first would decode the
slide twice or three times. Here each patch is scored, averaged and, unless it is certainly glass, encoded when it is read; the
features wait in a file until the threshold is known.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.pipeline import map_ahead
from ..slides.geometry import T_PIXELS_PER_PATCH, ReadPlan, area_average
from ..slides.reader import SlideReader
from ..tissue.mask import score_functions, tissue_mask
from ..tissue.score import pooled, score_level
from ..tissue.threshold import GLASS_RANGE
from .named_encoder import NamedEncoder
from .prepared import PreparedSlide, require_tissue
from .settings import EncodingSettings
from .thumbnail import thumbnail_level

SPOOL_ROWS = 4096


class _Scanned(NamedTuple):
    """What one batch of n patches gave; ``features`` belong to the ``candidates`` among them."""

    scores: dict[str, NDArray[np.float32]]
    quarters: torch.Tensor
    candidates: NDArray[np.bool_]
    features: NDArray[np.float32] | None


class Spool:
    """Features of candidates on disk, in a file that has no name and so leaves nothing behind."""

    def __init__(self, folder: Path, channels: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed on leaving the block)
        self._channels = channels
        self._cells: list[NDArray[np.int64]] = []

    def append(self, cells: NDArray[np.int64], features: NDArray[np.float32]) -> None:
        """Add the features (n, C) of the grid's cells (n,), in increasing order."""
        self._cells.append(cells)
        self._file.write(np.ascontiguousarray(features, dtype=np.float32).tobytes())

    def take(self, observed: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
        """Yield the features of the observed cells (the grid's mask, flat), in order, some thousand rows at a time."""
        cells = np.concatenate(self._cells) if self._cells else np.empty(0, dtype=np.int64)
        self._file.seek(0)
        for start in range(0, len(cells), SPOOL_ROWS):
            part = cells[start : start + SPOOL_ROWS]
            rows = np.frombuffer(self._file.read(4 * len(part) * self._channels), dtype=np.float32)
            yield rows.reshape(len(part), self._channels)[observed[part]]

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()


def serves_all(reader: SlideReader, plan: ReadPlan, settings: EncodingSettings) -> bool:
    """Whether patches, scores and thumbnail all come from level 0, so that one pass gives all of them.

    Only with run-length scores: they have a bound under which nothing is tissue on any slide.
    """
    levels = {
        plan.level,
        score_level(reader, plan.grid, patch_um=settings.patch_um)[0],
        thumbnail_level(reader, plan.grid),
    }
    return levels == {0} and settings.tissue_method == "rle"


def scan_slide(
    reader: SlideReader, plan: ReadPlan, settings: EncodingSettings, encoder: NamedEncoder | None, spool: Spool | None
) -> PreparedSlide:
    """Read the whole slide once, row by row of patches.

    Args:
        reader: a slide that :func:`serves_all`.
        plan: how it is read.
        settings: the settings.
        encoder: encodes what is not certainly glass; None leaves the features to a second pass.
        spool: takes the features.

    Raises:
        NoTissueError: the slide holds no tissue.
        SlideError: the pixels cannot be decoded, or there is no tissue where they can.
    """
    grid = plan.grid
    rows, columns = grid.shape_yx
    coords_xy_px = grid.coords_xy_px(np.indices(grid.shape_yx, dtype=np.int32).reshape(2, -1).T)
    functions = score_functions(drop_pen=settings.drop_pen)
    _, pool = score_level(reader, grid, patch_um=settings.patch_um)
    edges = np.linspace(0, plan.read_px, T_PIXELS_PER_PATCH + 1).tolist()

    def scanned(patches: NDArray[np.uint8]) -> _Scanned:
        small = pooled(patches, pool)
        scores = {name: function(small) for name, function in functions.items()}
        candidates = scores["rle"] >= GLASS_RANGE[0]
        features = None
        if encoder is not None and candidates.any():
            features = encoder.encode(patches[candidates])
        return _Scanned(scores, area_average(torch.from_numpy(patches), edges, edges), candidates, features)

    scores = {name: np.zeros(rows * columns, dtype=np.float32) for name in functions}
    quarters = torch.empty(rows * columns, T_PIXELS_PER_PATCH, T_PIXELS_PER_PATCH, 3)
    batch_size = 64 if encoder is None else encoder.batch_size
    size = (plan.read_px, plan.read_px)
    batches = reader.iter_patches(coords_xy_px, size_xy_px=size, level=plan.level, batch_size=batch_size)
    start = 0
    for batch in map_ahead(scanned, batches, threads=1 if encoder is None else encoder.streams):
        cells = slice(start, start + len(batch.candidates))
        for name, values in batch.scores.items():
            scores[name][cells] = values
        quarters[cells] = batch.quarters
        if spool is not None and batch.features is not None:
            spool.append(start + np.flatnonzero(batch.candidates), batch.features)
        start += len(batch.candidates)
    lost = reader.unreadable(coords_xy_px, size_xy_px=size, level=plan.level)
    for values in scores.values():
        values[lost] = np.nan
    tissue = tissue_mask({name: values.reshape(rows, columns) for name, values in scores.items()})
    finest = quarters.view(rows, columns, T_PIXELS_PER_PATCH, T_PIXELS_PER_PATCH, 3).permute(0, 2, 1, 3, 4)
    finest = finest.reshape(T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns, 3)
    return require_tissue(reader, PreparedSlide(plan, tissue, finest))
