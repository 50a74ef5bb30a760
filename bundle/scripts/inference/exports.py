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
from ..dsnet.heat_map import GRAD_CAM, MapKind
from ..slides.companions import is_dicom
from ..slides.geometry import PatchGrid
from .annotations import outline, write_asap_xml, write_geojson
from .ome_tiff import write_ome_tiff
from .overlay import write_overlay
from .parametric_map import can_write_dicom, write_parametric_map

_LOGGER = logging.getLogger(__name__)


def write_heat_map(
    folder: Path,
    *,
    cam: NDArray[np.float32],
    observed: NDArray[np.bool_],
    thumbnail: NDArray[np.uint8] | None,
    origin_xy_px: tuple[int, int],
    patch_px_level0: int,
    mpp_x: float | None,
    mpp_y: float | None,
    class_name: str,
    slide: Path,
    bounds_xy_px: tuple[int, int],
    kind: MapKind = GRAD_CAM,
    picture: NDArray[np.uint8] | None = None,
) -> None:
    """Write ``cam.nii.gz``, ``cam.ome.tif``, ``cam.png``, ``cam.geojson``, ``cam.xml`` and ``observed.png``, each whole or not at all.

    Of a DICOM slide that is there, also ``cam.dcm`` where highdicom is installed; if its files do not serve, a warning says so.

    Args:
        folder: the slide's folder, made where it is missing.
        cam: heat map on V's grid, (H, W), from 0 to 1, 0 where not observed.
        observed: observation mask O, (H, W).
        thumbnail: T, (2H, 2W, 3L), the finest level first; None where there is none (the picture is then on white).
        origin_xy_px: top-left corner of the cell at row 0, column 0, in level-0 pixels.
        patch_px_level0: side of a cell in level-0 pixels.
        mpp_x: micrometres a level-0 pixel along x; None where nothing says so (feature files of other tools): NIfTI and
            scale bar are then in level-0 pixels, which is logged.
        mpp_y: the same along y.
        class_name: class that the heat is evidence for.
        slide: the slide's file, which may be absent.
        bounds_xy_px: top-left corner of what was scanned, in level-0 pixels; not 0, 0 for MRXS and SCN.
        kind: what the values are.
        picture: RGB of the same box, finer than T, for ``cam.png``; None takes T.

    Raises:
        ValueError: the arrays do not fit each other, or the heat is not from 0 to 1.
        OSError: a file cannot be written.
    """
    rows, columns = cam.shape
    if observed.shape != cam.shape:
        raise ValueError(f"observed has shape {observed.shape}, expected that of the heat map, {cam.shape}")
    if thumbnail is not None and thumbnail.shape[:2] != (2 * rows, 2 * columns):
        raise ValueError(f"thumbnail has shape {thumbnail.shape}, expected ({2 * rows}, {2 * columns}, 3 L)")
    if not (cam.min() >= 0 and cam.max() <= 1):
        raise ValueError(f"the heat map goes from {cam.min():g} to {cam.max():g}, expected 0 to 1 and no NaN")
    if mpp_x is None or mpp_y is None:
        _LOGGER.info("a slide's resolution is unknown: its cam.nii.gz and scale bar are in level-0 pixels")
    grid = PatchGrid(patch_px_level0, origin_xy_px, (rows, columns))
    bands = outline(cam, grid, class_name=class_name)
    write_nifti(folder / "cam.nii.gz", cam, grid, mpp_x=mpp_x, mpp_y=mpp_y)
    write_ome_tiff(folder / "cam.ome.tif", cam, grid, mpp_x=mpp_x, mpp_y=mpp_y, class_name=class_name, kind=kind)
    write_overlay(
        folder / "cam.png",
        cam=cam,
        observed=observed,
        picture=thumbnail[:, :, :3] if picture is None and thumbnail is not None else picture,
        grid=grid,
        mpp_x=mpp_x,
        mpp_y=mpp_y,
        class_name=class_name,
        kind=kind,
    )
    write_geojson(folder / "cam.geojson", bands, bounds_xy_px=bounds_xy_px, kind=kind)
    write_asap_xml(folder / "cam.xml", bands)
    write_observed(folder / "observed.png", observed)
    if slide.is_file() and is_dicom(slide) and can_write_dicom():
        try:
            write_parametric_map(folder / "cam.dcm", cam, grid, slide=slide, class_name=class_name, kind=kind)
        except SlideError as error:
            _LOGGER.warning("a DICOM slide has no cam.dcm: its files do not serve (%s)", error.__cause__)
            _LOGGER.debug("%s", error)


def nifti_affine(grid: PatchGrid, *, mpp_x: float | None, mpp_y: float | None) -> NDArray[np.float64]:
    """Return the affine (4, 4) from voxel (column, row, 0) to the world of NIfTI, in mm from the slide's top-left corner.

    World axes are right, anterior, superior. On a screen that shows an axial slice, patient left and posterior are right and down,
    so x of the slide counts as left and y as posterior: both signs are minus, and ITK, which flips them, has x, y as on the slide. The
    translation leads to the middle of the first cell. The slice is as thick as a cell is wide; a section's thickness is not known.
    Without a resolution the unit is the level-0 pixel.
    """
    mm_x, mm_y = (1.0, 1.0) if mpp_x is None or mpp_y is None else (mpp_x / 1000, mpp_y / 1000)
    step_x, step_y = grid.patch_px_level0 * mm_x, grid.patch_px_level0 * mm_y
    left, top = grid.origin_xy_px
    affine = np.diag([-step_x, -step_y, step_x, 1.0])
    affine[:2, 3] = -(left * mm_x + step_x / 2), -(top * mm_y + step_y / 2)
    return affine


def write_nifti(
    path: Path, cam: NDArray[np.float32], grid: PatchGrid, *, mpp_x: float | None, mpp_y: float | None
) -> None:
    """Write the map (H, W) as a float32 volume (W, H, 1), compressed: array axis 0 is x (columns), axis 1 is y (rows)."""
    image = nibabel.Nifti1Image(cam.T[:, :, None].astype(np.float32), None)
    affine = nifti_affine(grid, mpp_x=mpp_x, mpp_y=mpp_y)
    image.set_sform(affine, code="scanner")
    image.set_qform(affine, code="scanner")
    image.header.set_xyzt_units("unknown" if mpp_x is None or mpp_y is None else "mm")
    with atomic_path(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), mtime=0))


def write_observed(path: Path, observed: NDArray[np.bool_]) -> None:
    """Write the observation mask as a grey PNG, one pixel a patch: 255 observed, 0 not."""
    with atomic_path(path) as partial:
        Image.fromarray(observed.astype(np.uint8) * 255).save(partial, format="PNG")
