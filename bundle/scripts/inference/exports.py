"""The folder of one slide's heat map: its values in three formats, a picture, outlines for two viewers, the observation mask."""

import gzip
import logging
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..common.errors import SlideError
from ..common.files import atomic_path
from ..slides.companions import is_dicom
from ..slides.geometry import PatchGrid
from .annotations import outline, write_asap_xml, write_geojson
from .heat_map_view import HeatMapView
from .ome_tiff import write_ome_tiff
from .overlay import write_overlay
from .parametric_map import can_write_dicom, write_parametric_map

_LOGGER = logging.getLogger(__name__)


def write_heat_map(folder: Path, view: HeatMapView) -> None:
    """Write ``cam.nii.gz``, ``cam.ome.tif``, ``cam.png``, ``cam.geojson``, ``cam.xml`` and ``observed.png``, each whole.

    Of a DICOM slide that is there, also ``cam.dcm`` where highdicom is installed; if its files do not serve, a warning says so.
    Where the resolution is unknown, NIfTI and scale bar are in level-0 pixels, which is logged.

    Args:
        folder: the slide's folder, made where it is missing.
        view: the heat map.

    Raises:
        OSError: a file cannot be written.
    """
    if view.mpp_xy is None:
        _LOGGER.info("a slide's resolution is unknown: its cam.nii.gz and scale bar are in level-0 pixels")
    bands = outline(view.heat, view.grid, class_name=view.class_name)
    write_nifti(folder / "cam.nii.gz", view)
    write_ome_tiff(folder / "cam.ome.tif", view)
    write_overlay(folder / "cam.png", view)
    write_geojson(folder / "cam.geojson", bands, bounds_xy_px=view.bounds_xy_px, kind=view.kind)
    write_asap_xml(folder / "cam.xml", bands)
    write_observed(folder / "observed.png", view.observed)
    if view.slide.is_file() and is_dicom(view.slide) and can_write_dicom():
        try:
            write_parametric_map(folder / "cam.dcm", view)
        except SlideError as error:
            _LOGGER.warning("a DICOM slide has no cam.dcm: its files do not serve (%s)", error.__cause__)
            _LOGGER.debug("%s", error)


def nifti_affine(grid: PatchGrid, mpp_xy: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return the affine (4, 4) from voxel (column, row, 0) to the world of NIfTI, in mm from the slide's top-left corner.

    World axes are right, anterior, superior. On a screen that shows an axial slice, patient left and posterior are right and down,
    so x of the slide counts as left and y as posterior. Both signs are minus; ITK, which flips them, has x, y as on the slide.
    The translation leads to the middle of the first cell. The slice is as thick as a cell is wide; a section's thickness is not
    known. Without a resolution the unit is the level-0 pixel.
    """
    mm_x, mm_y = (1.0, 1.0) if mpp_xy is None else (mpp_xy[0] / 1000, mpp_xy[1] / 1000)
    step_x, step_y = grid.patch_px_level0 * mm_x, grid.patch_px_level0 * mm_y
    left, top = grid.origin_xy_px
    affine = np.diag([-step_x, -step_y, step_x, 1.0])
    affine[:2, 3] = -(left * mm_x + step_x / 2), -(top * mm_y + step_y / 2)
    return affine


def write_nifti(path: Path, view: HeatMapView) -> None:
    """Write the map (H, W) as a float32 volume (W, H, 1), compressed: array axis 0 is x (columns), axis 1 is y (rows)."""
    image = nibabel.Nifti1Image(view.heat.T[:, :, None].astype(np.float32), None)
    affine = nifti_affine(view.grid, view.mpp_xy)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("unknown" if view.mpp_xy is None else "mm")
    with atomic_path(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def write_observed(path: Path, observed: NDArray[np.bool_]) -> None:
    """Write the observation mask as a grey PNG, one pixel per patch: 255 observed, 0 not."""
    with atomic_path(path) as partial:
        Image.fromarray(observed.astype(np.uint8) * 255).save(partial, format="PNG")
