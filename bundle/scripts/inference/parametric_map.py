"""The heat map of a DICOM slide as a DICOM Parametric Map that lies on the slide, written by highdicom where it is installed."""

import hashlib
import logging
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..common.errors import SlideError
from ..common.files import atomic_path
from ..common.version import BUNDLE_VERSION
from ..dsnet.heat_map import MapKind
from ..slides.companions import companions_of
from .heat_map_view import HeatMapView

if TYPE_CHECKING:
    from pydicom import Dataset

TILE_PX = 256
LABEL_CHARACTERS, TEXT_CHARACTERS = 16, 64
"""At most, of DICOM's short and long strings."""

_LOGGER = logging.getLogger(__name__)


@cache
def can_write_dicom() -> bool:
    """Whether highdicom is installed; where it is not, one line of the log says how to get it."""
    if find_spec("highdicom") is not None:
        return True
    _LOGGER.info(
        'the heat maps of DICOM slides are written as DICOM too (cam.dcm) with highdicom: pip install "highdicom>=0.28", or the '
        "extra dicom"
    )
    return False


def write_parametric_map(path: Path, view: HeatMapView) -> None:
    """Write a map (H, W) of its slide as a Parametric Map (DICOM PS3.3 A.75), float32, one pixel per patch, as tiles.

    It takes patient, study, specimen and frame of reference from the slide's finest level, and refers to that image. Its pixels are
    whole patches of that level, placed by its origin, orientation and spacing whatever slides.csv says; it begins at the slide's
    corner and covers all of it (0 where there is no V), since viewers lay it there without asking for an offset. Where the grid is
    off the slide's corner by part of a patch, so is the map's origin. Its identifiers follow from slide, class and values, so that
    the same map is the same instance.

    Args:
        path: the file.
        view: the heat map, its grid in pixels of the finest level; ``slide`` is any file of the series, the other levels lie
            beside it.

    Raises:
        SlideError: the slide's files lack what such a map needs.
        OSError: a file cannot be read or written.
    """
    slide = view.slide
    try:
        source = _finest_level(slide)
        parametric_map = _parametric_map(source, _placed(source, view), view)
    except (AttributeError, ValueError) as error:
        raise SlideError(
            f"{slide}: no parametric map can refer to this slide ({error}); expected a whole VL Whole Slide Microscopy series: "
            "export it anew from its archive"
        ) from error
    with atomic_path(path) as partial:
        parametric_map.save_as(partial)


@dataclass(frozen=True)
class _PlacedMap:
    """A map that covers its whole slide.

    Attributes:
        values: of the map, float32 (H, W), 0 where there is no V.
        origin_mm: middle of its first pixel in the slide's coordinate system, x, y, z.
    """

    values: NDArray[np.float32]
    origin_mm: list[float]


def _placed(source: "Dataset", view: HeatMapView) -> _PlacedMap:
    """Lay the map on the image ``source`` of the whole slide: whole patches from its corner on, as far as either of them goes."""
    import highdicom

    (left, top), step = view.grid.origin_xy_px, view.grid.patch_px_level0
    first_column, first_row = max(0, left // step), max(0, top // step)
    shift_x, shift_y = left - first_column * step, top - first_row * step
    rows, columns = view.heat.shape
    values = np.zeros(
        (
            max(first_row + rows, ceil((source.TotalPixelMatrixRows - shift_y) / step)),
            max(first_column + columns, ceil((source.TotalPixelMatrixColumns - shift_x) / step)),
        ),
        dtype=np.float32,
    )
    values[first_row : first_row + rows, first_column : first_column + columns] = view.heat
    to_slide = highdicom.spatial.ImageToReferenceTransformer.for_image(source, for_total_pixel_matrix=True)
    (middle,) = to_slide(np.array([[shift_x + step / 2, shift_y + step / 2]]))
    return _PlacedMap(values, middle.tolist())


def _parametric_map(source: "Dataset", placed: _PlacedMap, view: HeatMapView) -> "Dataset":
    """Make the instance: whose it is and where it lies by ``source``, its identifiers by slide, class and values."""
    import highdicom
    from pydicom.uid import generate_uid

    grid, kind, class_name, (rows, columns) = view.grid, view.kind, view.class_name, placed.values.shape
    digest = hashlib.sha256(placed.values.tobytes()).hexdigest()
    series, instance = (
        generate_uid(entropy_srcs=[level, source.SOPInstanceUID, str(grid), class_name, BUNDLE_VERSION, digest])
        for level in ("series", "instance")
    )
    measures = source.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    return highdicom.pm.ParametricMap(
        [source],
        placed.values,
        series_instance_uid=series,
        series_number=1,
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer="dsnet-wsi",
        manufacturer_model_name="DSNet",
        software_versions=BUNDLE_VERSION,
        device_serial_number="0",
        contains_recognizable_visual_features=False,
        content_label="GRAD_CAM" if "CAM" in kind.title else kind.title.upper().replace(" ", "_"),
        content_description=f"{kind.title}, {class_name}"[:TEXT_CHARACTERS],
        series_description=f"Heat map, {class_name}"[:TEXT_CHARACTERS],
        specific_character_set="ISO_IR 192",  # UTF-8, for the class's name
        real_world_value_mappings=[_meaning(kind, class_name)],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.5, window_width=1.0)],
        pixel_measures=highdicom.PixelMeasuresSequence(
            pixel_spacing=[float(side) * grid.patch_px_level0 for side in measures.PixelSpacing],
            slice_thickness=measures.SliceThickness,
        ),
        plane_positions=[highdicom.PlanePositionSequence("SLIDE", placed.origin_mm, pixel_matrix_position=(1, 1))],
        tile_pixel_array=True,
        tile_size=(min(TILE_PX, rows), min(TILE_PX, columns)),
        dimension_organization_type="TILED_SPARSE",
    )


def _meaning(kind: MapKind, class_name: str) -> Any:
    """What a value of the map means: a highdicom ``RealWorldValueMapping``."""
    import highdicom
    from pydicom.sr.codedict import codes

    return highdicom.pm.RealWorldValueMapping(
        lut_label=class_name[:LABEL_CHARACTERS],
        lut_explanation=f"{kind.title}, {class_name}, {kind.unit}"[:TEXT_CHARACTERS],
        unit=codes.UCUM.NoUnits,
        value_range=(0.0, 1.0),
        quantity_definition=codes.DCM.Probability if kind.is_probability else codes.DCM.ClassActivation,
    )


def _finest_level(slide: Path) -> "Dataset":
    """Read the largest image of the slide's own series, without its pixels.

    Raises:
        ValueError: the series holds no image of the whole slide.
        AttributeError: a file lacks what tells.
    """
    from pydicom import dcmread
    from pydicom.uid import VLWholeSlideMicroscopyImageStorage

    own, *others = (dcmread(file, stop_before_pixels=True) for file in (slide, *companions_of(slide)))
    volumes = [
        image
        for image in (own, *others)
        if image.SOPClassUID == VLWholeSlideMicroscopyImageStorage
        and image.SeriesInstanceUID == own.SeriesInstanceUID
        and "VOLUME" in image.ImageType
    ]
    if not volumes:
        raise ValueError("no image of type VOLUME in its series")
    return max(volumes, key=lambda image: image.TotalPixelMatrixColumns)
