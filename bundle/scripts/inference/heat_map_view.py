"""The heat map of one slide with all that its writers say about it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..dsnet.heat_map import GRAD_CAM, MapKind
from ..slides.geometry import T_PIXELS_PER_PATCH, PatchGrid


@dataclass(frozen=True)
class HeatMapView:
    """A heat map, where it lies, and what it is evidence for.

    Attributes:
        heat: heat map on V's grid, (H, W), from 0 to 1, 0 where not observed.
        observed: observation mask O, (H, W).
        thumbnail: T, (2H, 2W, 3L), the finest level first; None where there is none.
        grid: where the cells lie, in level-0 pixels.
        mpp_xy: micrometres per level-0 pixel along x and y; None where neither embedding nor table nor slide says so: sizes are
            then given in level-0 pixels.
        class_name: class that the heat is evidence for.
        slide: the slide's file, which may be absent.
        bounds_xy_px: top-left corner of what was scanned, in level-0 pixels; not 0, 0 for MRXS and SCN.
        kind: what the values are.
        picture: RGB of the box that the map covers, of any size; None where the slide gives none.

    Raises:
        ValueError: the arrays do not fit each other, or the heat is not from 0 to 1.
    """

    heat: NDArray[np.float32]
    observed: NDArray[np.bool_]
    thumbnail: NDArray[np.uint8] | None
    grid: PatchGrid
    mpp_xy: tuple[float, float] | None
    class_name: str
    slide: Path
    bounds_xy_px: tuple[int, int] = (0, 0)
    kind: MapKind = GRAD_CAM
    picture: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        rows, columns = self.heat.shape
        if self.observed.shape != self.heat.shape:
            raise ValueError(
                f"observed has shape {self.observed.shape}, expected that of the heat map, {self.heat.shape}"
            )
        if self.grid.shape_yx != self.heat.shape:
            raise ValueError(f"the grid is {self.grid.shape_yx}, expected the shape of the heat map, {self.heat.shape}")
        height, width = T_PIXELS_PER_PATCH * rows, T_PIXELS_PER_PATCH * columns
        if self.thumbnail is not None and self.thumbnail.shape[:2] != (height, width):
            raise ValueError(f"thumbnail has shape {self.thumbnail.shape}, expected ({height}, {width}, 3 L)")
        if not (self.heat.min() >= 0 and self.heat.max() <= 1):
            raise ValueError(
                f"the heat map goes from {self.heat.min():g} to {self.heat.max():g}, expected 0 to 1 and no NaN"
            )

    @property
    def background(self) -> NDArray[np.uint8]:
        """RGB of what lies under the map: the picture, else the finest level of T, else white."""
        if self.picture is not None:
            return self.picture
        if self.thumbnail is not None:
            return self.thumbnail[:, :, :3]
        return np.full((1, 1, 3), 255, dtype=np.uint8)
