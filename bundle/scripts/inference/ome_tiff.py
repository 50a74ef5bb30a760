"""The heat map's values as a pyramidal OME-TIFF, one pixel per patch, for QuPath, Fiji, napari and all with Bio-Formats."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from torch.nn import functional as F

from ..common.files import atomic_path
from .heat_map_view import HeatMapView

TILE_PX = 256
UM_PER_CM = 1e4


def write_ome_tiff(path: Path, view: HeatMapView) -> None:
    """Write the map as one float32 channel called by its class, each further level the mean of 2 x 2 pixels of the last.

    Levels are added until one fits a tile. ``PhysicalSizeX`` and ``PhysicalSizeY`` are the sides of a patch, ``PositionX`` and
    ``PositionY`` its box's top-left corner from the slide's, all in um (https://docs.openmicroscopy.org/ome-model).

    Args:
        path: the file.
        view: the heat map; without a resolution sizes and position are left out.
    """
    grid, class_name = view.grid, view.class_name
    levels = [np.ascontiguousarray(view.heat, dtype=np.float32)]
    while max(levels[-1].shape) > TILE_PX:
        levels.append(F.avg_pool2d(torch.from_numpy(levels[-1])[None, None], 2, ceil_mode=True)[0, 0].numpy())
    digest = hashlib.sha256(levels[0].tobytes()).hexdigest()
    resolution_said = " ".join(map(str, view.mpp_xy or (None, None)))
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": f"{view.kind.title}, {class_name}",
        "Channel": {"Name": [class_name]},
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{digest} {grid} {resolution_said} {class_name}")),
    }
    resolution: dict[str, Any] = {}
    if view.mpp_xy is not None:
        mpp_x, mpp_y = view.mpp_xy
        width_um, height_um = grid.patch_px_level0 * mpp_x, grid.patch_px_level0 * mpp_y
        left, top = grid.origin_xy_px
        metadata |= {"PhysicalSizeX": width_um, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": height_um, "PhysicalSizeYUnit": "µm"}
        metadata["Plane"] = {
            "PositionX": [left * mpp_x],
            "PositionXUnit": ["µm"],
            "PositionY": [top * mpp_y],
            "PositionYUnit": ["µm"],
        }
        resolution = {"resolution": (UM_PER_CM / width_um, UM_PER_CM / height_um), "resolutionunit": "CENTIMETER"}
    with atomic_path(path) as partial, tifffile.TiffWriter(partial, ome=True) as tiff:
        for number, level in enumerate(levels):
            reduced = (
                {"subfiletype": 1, "metadata": None} if number else {"subifds": len(levels) - 1, "metadata": metadata}
            )
            tiff.write(
                level,
                tile=(TILE_PX, TILE_PX),
                photometric="minisblack",
                compression="zlib",
                **({} if number else resolution),
                **reduced,
            )
