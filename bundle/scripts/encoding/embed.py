"""Transformation of one slide: patches to V, pyramid to T, tissue mask to O."""

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from torch import nn

from ..common.errors import NoTissueError, RequestError
from ..common.version import BUNDLE_VERSION
from ..slides.geometry import PATCH_PX, PATCH_UM, PatchGrid, ReadPlan, is_read_level, plan_reading, resize_patches
from ..slides.reader import SlideReader, open_slide
from ..slides.table import SlideRow
from ..tissue.mask import METHODS, find_tissue
from ..tissue.threshold import TissueMask
from .store import FORMAT, embedding_writer, write_attributes
from .thumbnail import PIXELS_PER_PATCH, build_thumbnail

HEAD_BYTES = 65536  # of a slide file, that tell it from another of the same size


@dataclass(frozen=True)
class EncodingSettings:
    """Everything that decides what an embedding file holds, besides the slide and the encoder.

    Attributes:
        patch_um: side of a patch on the slide.
        read_level: "auto", "highest" (level 0, as in the paper) or a level's number.
        tissue_method: "rle" or "otsu".
        thumbnail_levels: L.

    Raises:
        RequestError: a setting lies outside its range.
    """

    patch_um: float = PATCH_UM
    read_level: str | int = "auto"
    tissue_method: str = "rle"
    thumbnail_levels: int = 3

    def __post_init__(self) -> None:
        for name, fits, expected in (
            ("patch_um", self.patch_um > 0, "micrometres, over 0"),
            ("read_level", is_read_level(self.read_level), "auto, highest or a level's number"),
            ("tissue_method", self.tissue_method in METHODS, f"one of {', '.join(METHODS)}"),
            ("thumbnail_levels", self.thumbnail_levels >= 1, "1 or more"),
        ):
            if not fits:
                raise RequestError(f"{name} is {getattr(self, name)!r}, expected {expected}")


class NamedEncoder:
    """A patch encoder with the name and the hash of its weights, on its device.

    Args:
        network: a :class:`.encoders.PatchEncoder`.
        device: where it runs.
        batch_size: patches a batch.
    """

    def __init__(self, network: nn.Module, *, device: torch.device, batch_size: int = 64) -> None:
        self.network = network.to(device).eval()
        self.device = device
        self.batch_size = batch_size
        self.input_px = int(network.input_px)  # type: ignore[arg-type]
        self.channels = int(network.channels)  # type: ignore[arg-type]

    @cached_property
    def identity(self) -> str:
        """What :func:`identity_of` says of the network."""
        return identity_of(self.network)

    @torch.inference_mode()
    def encode(self, patches: np.ndarray) -> np.ndarray:
        """Encode patches as read, uint8 (N, h, w, 3), to float32 (N, channels)."""
        batch = resize_patches(torch.from_numpy(patches).to(self.device), self.input_px) / 255
        return self.network(batch).float().cpu().numpy()


def identity_of(network: nn.Module) -> str:
    """Class and SHA-256 over all weights, the same whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.cpu().numpy()).tobytes())
    return f"{type(network).__name__} sha256:{digest.hexdigest()}"


def parameters_of(row: SlideRow, encoder: NamedEncoder, settings: EncodingSettings) -> str:
    """State all that an embedding depends on; a file whose statement differs is stale."""
    with open(row.path, "rb") as slide:
        head = hashlib.sha256(slide.read(HEAD_BYTES)).hexdigest()
    return json.dumps(
        {
            **asdict(settings),
            "encoder": encoder.identity,
            "mpp": row.mpp,
            "slide_bytes": row.path.stat().st_size,
            "slide_head_sha256": head,
            "version": BUNDLE_VERSION,
        },
        sort_keys=True,
    )


def embed_slide(
    row: SlideRow,
    path: Path,
    *,
    encoder: NamedEncoder,
    settings: EncodingSettings,
    num_workers: int = 0,
    decode_device: str = "cpu",
) -> int:
    """Write the embedding file of one slide and return the number of observed patches.

    Raises:
        NoTissueError: the slide holds no tissue; nothing is written.
        SlideError: the slide cannot be read at the resolution asked for.
        OSError: the file cannot be written.
    """
    with open_slide(row.path, num_workers=num_workers, device=decode_device) as reader:
        plan = plan_reading(
            reader, patch_um=settings.patch_um, patch_px=PATCH_PX, read_level=settings.read_level, mpp=row.mpp
        )
        tissue = find_tissue(reader, plan.grid, method=settings.tissue_method, patch_um=settings.patch_um)
        row0, column0, rows, columns = tissue.box
        if not rows:
            raise NoTissueError(tissue.reason)
        grid = plan.grid.crop(row0, column0, rows, columns)
        grid_yx = np.argwhere(tissue.mask[row0 : row0 + rows, column0 : column0 + columns]).astype(np.int32)
        coords_xy_px = grid.coords_xy_px(grid_yx)
        with embedding_writer(path, patches=len(grid_yx), channels=encoder.channels) as file:
            file["grid"][:] = grid_yx
            file["coords"][:] = coords_xy_px
            file["coords"].attrs.update({"patch_size_level0": grid.patch_px_level0, "name": row.slide_id})
            for start in range(0, len(grid_yx), encoder.batch_size):
                batch = slice(start, start + encoder.batch_size)
                patches = reader.read_patches(
                    coords_xy_px[batch], size_xy_px=(plan.read_px, plan.read_px), level=plan.level
                )
                file["features"][batch] = encoder.encode(patches)
            file["thumbnail"] = build_thumbnail(reader, grid, levels=settings.thumbnail_levels)
            _describe_tissue(file.create_group("tissue"), tissue)
            write_attributes(file, _attributes(row, reader, plan, grid, len(grid_yx), tissue, encoder, settings))
    return len(grid_yx)


def _describe_tissue(group: Any, tissue: TissueMask) -> None:
    """Keep the scores, their histogram and both thresholds, so that a mask can be judged without the slide."""
    group["scores"] = tissue.scores
    group["histogram_counts"] = tissue.histogram_counts
    group["histogram_edges"] = tissue.histogram_edges
    group.attrs.update(
        {"method": tissue.method, "threshold": tissue.threshold, "glass_threshold": tissue.glass_threshold}
    )


def _attributes(
    row: SlideRow,
    reader: SlideReader,
    plan: ReadPlan,
    grid: PatchGrid,
    patches: int,
    tissue: TissueMask,
    encoder: NamedEncoder,
    settings: EncodingSettings,
) -> dict[str, Any]:
    rows, columns = grid.shape_yx
    slide_bytes = 3 * reader.level_sizes_xy_px[0][0] * reader.level_sizes_xy_px[0][1]
    levels = settings.thumbnail_levels
    embedding_bytes = 4 * patches * encoder.channels + 3 * levels * PIXELS_PER_PATCH**2 * rows * columns
    return {
        "format": FORMAT,
        "slide": row.path.name,
        "patches": patches,
        "grid_shape": np.array(grid.shape_yx, dtype=np.int64),
        "origin_xy_px": np.array(grid.origin_xy_px, dtype=np.int64),
        "patch_um": settings.patch_um,
        "patch_size_level0": grid.patch_px_level0,
        "mpp_x": plan.mpp_x,
        "mpp_y": plan.mpp_y,
        "read_level": plan.level,
        "read_px": plan.read_px,
        "slide_size_xy_px": np.array(reader.level_sizes_xy_px[0], dtype=np.int64),
        "backend": reader.backend,
        "encoder": encoder.identity,
        "tissue_threshold": tissue.threshold,
        "compression_ratio": compression_ratio(encoder.channels, levels),
        "compression_ratio_bytes": slide_bytes / embedding_bytes,
        "parameters": parameters_of(row, encoder, settings),
        "version_bundle": BUNDLE_VERSION,
        "version_monai": monai.__version__,
        "version_torch": str(torch.__version__),
    }


def compression_ratio(channels: int, levels: int, *, patch_px: int = PATCH_PX) -> float:
    """3 S^2 K^2 / (3 S^2 L + C K^2) with K = S / 2 (V-A.a): 229.5 for C = 128, L = 3."""
    k = patch_px / PIXELS_PER_PATCH
    return 3 * patch_px**2 * k**2 / (3 * patch_px**2 * levels + channels * k**2)
