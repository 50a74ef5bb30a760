"""Slides read by OpenSlide: NDPI, MRXS, SCN, DICOM and the rest that cuCIM does not take."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from .reader import WHITE, SlideReader

if TYPE_CHECKING:
    from openslide import OpenSlide


class OpenSlideReader(SlideReader):
    """Reads through ``openslide.OpenSlide``, one patch after the other.

    On levels whose downsample is not a whole number OpenSlide shifts by the fraction of a pixel and blends neighbours:
    there, its pixels differ slightly from cuCIM's.

    Args:
        path: Slide file.

    Raises:
        SlideError: OpenSlide is not installed or does not read the file.
    """

    backend = "openslide"

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except (ImportError, OSError) as error:
            raise SlideError(f"OpenSlide is not installed ({error})") from error
        self._error = openslide.OpenSlideError
        try:
            slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise SlideError(f"not opened ({error})") from error
        super().__init__(
            path,
            level_sizes_xy_px=tuple(slide.level_dimensions),
            mpp_xy=_mpp_xy(slide),
            bounds_xywh_px=_bounds_xywh_px(slide),
        )
        self._slide = slide

    def _read_level(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        width, height = size_xy_px
        locations = np.rint(corners_xy * self.level_downsamples[level]).astype(np.int64)
        patches = np.empty((len(corners_xy), height, width, 3), dtype=np.uint8)
        for patch, (x, y) in zip(patches, locations.tolist(), strict=True):
            try:
                rgba = np.asarray(self._slide.read_region((x, y), level, size_xy_px))
            except self._error as error:
                raise SlideError(
                    f"{self.path}: OpenSlide cannot decode level {level} ({error}): check that the file is whole"
                ) from error
            patch[:] = on_white(rgba)
        return patches

    def close(self) -> None:
        """Release the file."""
        self._slide.close()


def on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay RGBA (..., 4) over white and return RGB (..., 3); what the scanner did not record is transparent."""
    alpha = rgba[..., 3:].astype(np.uint16)
    if (alpha == WHITE).all():
        return rgba[..., :3]
    blended = (rgba[..., :3] * alpha + WHITE * (255 - alpha) + 127) // 255
    return blended.astype(np.uint8)


def _mpp_xy(slide: "OpenSlide") -> tuple[float, float] | None:
    try:
        return float(slide.properties["openslide.mpp-x"]), float(slide.properties["openslide.mpp-y"])
    except (KeyError, ValueError):
        return None


def _bounds_xywh_px(slide: "OpenSlide") -> tuple[int, int, int, int] | None:
    try:
        x, y, width, height = (
            int(slide.properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height")
        )
    except (KeyError, ValueError):
        return None
    return x, y, width, height
