"""Heat maps for tests of their writers."""

from pathlib import Path

import numpy as np

from scripts.inference.heat_map_view import HeatMapView
from scripts.slides.geometry import PatchGrid


def view_of(
    cam: np.ndarray,
    *,
    observed: np.ndarray | None = None,
    thumbnail: np.ndarray | None = None,
    origin_xy_px: tuple[int, int] = (640, 256),
    patch_px_level0: int = 128,
    mpp_xy: tuple[float, float] | None = (0.5, 0.5),
    class_name: str = "tumour",
    slide: Path = Path("absent.svs"),
    bounds_xy_px: tuple[int, int] = (0, 0),
    picture: np.ndarray | None = None,
) -> HeatMapView:
    """A map of a slide that is not there, observed everywhere, unless told otherwise."""
    rows, columns = cam.shape
    return HeatMapView(
        heat=cam,
        observed=np.ones_like(cam, dtype=bool) if observed is None else observed,
        thumbnail=thumbnail,
        grid=PatchGrid(patch_px_level0, origin_xy_px, (rows, columns)),
        mpp_xy=mpp_xy,
        class_name=class_name,
        slide=slide,
        bounds_xy_px=bounds_xy_px,
        picture=picture,
    )
