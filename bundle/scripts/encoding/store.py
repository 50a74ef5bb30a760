"""The embedding file ``<slide_id>.h5`` as it is read: V, O and T of one slide, in the layout that TRIDENT and CLAM read."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..common.boundary import slide_boundary
from ..common.errors import SlideError
from ..common.hdf5 import open_hdf5
from ..slides.geometry import T_PIXELS_PER_PATCH, PatchGrid, is_plausible
from .checksums import CHECKED, SEAL, require_sealed
from .embedding_values import observed_rows, read_values, require_cells, require_coords, require_features, stated_px
from .regrid import common_step, require_one_vector_each, snap_to_grid
from .tissue_record import TissueRecord, read_tissue

FORMAT = "dsnet-embedding/1"


@dataclass(frozen=True)
class Embedding:
    """One slide after Transformation.

    Attributes:
        features: v of every observed patch, (N, C).
        coords_xy_px: their top-left corners in level-0 pixels, (N, 2).
        grid_yx: their row and column in V, (N, 2).
        shape_yx: rows and columns of V, the tightest box of the observed patches.
        patch_px_level0: side of a cell of V in level-0 pixels: of a patch, or of the step between patches that overlap.
        thumbnail: T, uint8 (2 rows, 2 columns, 3 L); None where the file has none.
        tissue: how the slide's tissue was found; None where the file does not say.
        attributes: the root attributes.
    """

    features: NDArray[np.floating[Any]]
    coords_xy_px: NDArray[np.int64]
    grid_yx: NDArray[np.int32]
    shape_yx: tuple[int, int]
    patch_px_level0: int
    thumbnail: NDArray[np.uint8] | None
    tissue: TissueRecord | None = None
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def origin_xy_px(self) -> tuple[int, int]:
        """Top-left corner of V's first cell in level-0 pixels; of patches off a common grid the median tells."""
        corners = self.coords_xy_px - self.grid_yx[:, ::-1].astype(np.int64) * self.patch_px_level0
        x, y = np.rint(np.median(corners, axis=0))
        return int(x), int(y)

    @property
    def grid(self) -> PatchGrid:
        """Where the cells of V lie."""
        return PatchGrid(self.patch_px_level0, self.origin_xy_px, self.shape_yx)

    @property
    def mpp_xy(self) -> tuple[float, float] | None:
        """Micrometres per level-0 pixel along x and y; None where the file does not state both, as a slide may have them."""
        try:
            mpp_xy = float(self.attributes["mpp_x"]), float(self.attributes["mpp_y"])
        except (KeyError, TypeError, ValueError):  # another tool may write anything
            return None
        return mpp_xy if is_plausible(mpp_xy) else None

    def places(self, channel_range: Sequence[int | None] = (0, None)) -> NDArray[np.int32]:
        """Number of the vector in each cell of V, (rows, columns), from 1; 0 where the channels [first, last) were not observed."""
        observed = observed_rows(self.features[:, slice(*channel_range)])
        numbers = np.arange(1, 1 + len(self.features))
        places = np.zeros(self.shape_yx, dtype=np.int32)
        places[self.grid_yx[:, 0], self.grid_yx[:, 1]] = np.where(observed, numbers, 0)
        return places


def read_ours(file: h5py.File, path: Path, *, verify: bool) -> Embedding:
    """Read a file of ours, every value once.

    Args:
        file: the file, open.
        path: its path, for messages.
        verify: compare what was read with the file's checksums.

    Raises:
        SlideError: it differs from a checksum, or its values do not fit each other.
    """
    values = {name: read_values(file, name, path) for name in CHECKED if name in file}
    if verify:
        require_sealed(file, path, values)
    features, coords_xy_px = require_features(values["features"], path), require_coords(values["coords"], path)
    grid_yx, shape_yx = values["grid"], tuple(int(side) for side in file.attrs["grid_shape"])
    stated = stated_px(file, path)
    thumbnail = values.get("thumbnail")
    _require_same_length(features, coords_xy_px, path)
    require_cells(shape_yx, len(features), path)
    if grid_yx.shape != (len(features), 2) or (grid_yx < 0).any() or (grid_yx >= shape_yx).any():
        raise SlideError(
            f"{path}: patches outside its grid of {shape_yx[0]} x {shape_yx[1]}, expected them inside: encode the slide anew"
        )
    if thumbnail is not None and (
        thumbnail.dtype != np.uint8 or thumbnail.shape[:2] != tuple(T_PIXELS_PER_PATCH * side for side in shape_yx)
    ):
        raise SlideError(
            f"{path}: a thumbnail {thumbnail.dtype} {thumbnail.shape} on a grid of {shape_yx[0]} x {shape_yx[1]}, expected uint8 "
            "and two pixels per patch: encode the slide anew"
        )
    return Embedding(
        features=features,
        coords_xy_px=coords_xy_px,
        grid_yx=grid_yx.astype(np.int32),
        shape_yx=(shape_yx[0], shape_yx[1]),
        patch_px_level0=stated[0] if stated else common_step(coords_xy_px, path),
        thumbnail=thumbnail,
        tissue=read_tissue(file),
        attributes=dict(file.attrs),
    )


def read_foreign(file: h5py.File, path: Path) -> Embedding:
    """Read a feature file of another tool: ``features`` and ``coords`` alone.

    The grid is rebuilt from the coordinates and cropped to the tightest box of the patches whose vector is not zero; a leading
    axis of 1 is dropped. Where patches overlap by what the file states (``overlap`` and ``patch_size``, as TRIDENT writes them), a
    cell of V is the middle of a patch, one step wide. Patches off a common grid go to the nearest cell.

    Args:
        file: the file, open.
        path: its path, for messages.

    Raises:
        SlideError: it holds no patch, or its coordinates lie on no regular grid of a size that a slide can have.
    """
    features = require_features(read_values(file, "features", path), path)
    coords_xy_px = require_coords(read_values(file, "coords", path), path)
    _require_same_length(features, coords_xy_px, path)
    observed = observed_rows(features)
    features, coords_xy_px = _rows(features, observed.nonzero()[0]), coords_xy_px[observed]
    require_one_vector_each(features, coords_xy_px, path)
    patch_px, step_px = stated_px(file, path) or (common_step(coords_xy_px, path),) * 2
    grid_yx, kept = snap_to_grid(coords_xy_px, step_px, path)
    rows, columns = (int(size) for size in grid_yx.max(axis=0) + 1)
    require_cells((rows, columns), len(grid_yx), path)
    return Embedding(
        features=_rows(features, kept),
        coords_xy_px=coords_xy_px[kept] + (patch_px - step_px) // 2,
        grid_yx=grid_yx.astype(np.int32),
        shape_yx=(rows, columns),
        patch_px_level0=step_px,
        thumbnail=None,
        attributes=dict(file.attrs),
    )


def _rows(features: NDArray[np.floating[Any]], kept: NDArray[np.int64]) -> NDArray[np.floating[Any]]:
    """The rows ``kept``, in their order; where that is all of them, the array itself, which may be large."""
    return features if len(kept) == len(features) else features[kept]


def observed_places(embedding: Embedding, channel_range: Sequence[int | None], path: Path) -> NDArray[np.int32]:
    """Return :meth:`Embedding.places` of the channels [first, last).

    Raises:
        SlideError: v is zero everywhere in these channels.
    """
    places = embedding.places(channel_range)
    if not places.any():
        raise SlideError(
            f"{path}: no observed patch in the channels {list(channel_range)}, expected at least one: leave this slide out or "
            "use more channels"
        )
    return places


@contextmanager
def opened_embedding(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading.

    Raises:
        SlideError: it cannot be opened as HDF5, has our checksums and another format, or something goes wrong inside the block.
    """
    with slide_boundary(path, "encode the slide anew, or write the feature file anew"), ExitStack() as stack:
        try:
            file = stack.enter_context(open_hdf5(path))
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
            raise SlideError(
                f"{path}: not a readable HDF5 file ({why}); expected the slide's embedding: encode the slide"
            ) from error
        found = file.attrs.get("format")
        if found != FORMAT and SEAL in file.attrs:  # else it would pass for the feature file of another tool
            raise SlideError(f"{path}: format {found!r}, expected {FORMAT!r}: encode the slide anew with this version")
        yield file


def is_ours(file: h5py.File) -> bool:
    """Whether the file was written by `.writer.embedding_writer`, and not by another tool."""
    return bool(file.attrs.get("format") == FORMAT)


def _require_same_length(features: NDArray[Any], coords_xy_px: NDArray[Any], path: Path) -> None:
    if len(features) != len(coords_xy_px):
        raise SlideError(
            f"{path}: features {features.shape} and coords {coords_xy_px.shape}, expected (N, C) and (N, 2): write the file anew"
        )
