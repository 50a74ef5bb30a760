"""The heat map's values as a pyramidal OME-TIFF, one pixel a patch, for QuPath, Fiji, napari and whatever else reads Bio-Formats."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from ..common.files import atomic_path
from ..dsnet.heat_map import GRAD_CAM, MapKind
from ..slides.geometry import PatchGrid

TILE_PX = 256
UM_PER_CM = 1e4


def write_ome_tiff(
    path: Path,
    cam: NDArray[np.float32],
    grid: PatchGrid,
    *,
    mpp_x: float | None,
    mpp_y: float | None,
    class_name: str,
    kind: MapKind = GRAD_CAM,
) -> None:
    """Write a map (H, W) as one float32 channel called ``class_name``, each further level the mean of 2 x 2 pixels of the last.

    Levels are added until one fits a tile. ``PhysicalSizeX`` and ``PhysicalSizeY`` are the sides of a patch, ``PositionX`` and
    ``PositionY`` its box's top-left corner from the slide's, all in um (https://docs.openmicroscopy.org/ome-model).

    Args:
        path: the file.
        cam: the map, of any finite values.
        grid: where its cells lie.
        mpp_x: micrometres a level-0 pixel along x; None leaves sizes and position out.
        mpp_y: the same along y.
        class_name: name of the channel.
        kind: what the values are.
    """
    levels = [np.ascontiguousarray(cam, dtype=np.float32)]
    while max(levels[-1].shape) > TILE_PX:
        levels.append(F.avg_pool2d(torch.from_numpy(levels[-1])[None, None], 2, ceil_mode=True)[0, 0].numpy())
    digest = hashlib.sha256(levels[0].tobytes()).hexdigest()
    metadata: dict[str, Any] = {
        "axes": "YX",
        "Name": f"{kind.title}, {class_name}",
        "Channel": {"Name": [class_name]},
        "UUID": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{digest} {grid} {mpp_x} {mpp_y} {class_name}")),
    }
    resolution: dict[str, Any] = {}
    if mpp_x is not None and mpp_y is not None:
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
