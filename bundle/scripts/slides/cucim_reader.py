"""Slides read by cuCIM: tiled TIFF, Aperio SVS and Philips TIFF, many patches a call."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..common.errors import SlideError
from .reader import SlideReader

MAX_BATCH = 64
"""Patches that cuCIM decodes ahead; bounds its memory whatever the number asked for."""

_LOGGER = logging.getLogger(__name__)


class CucimReader(SlideReader):
    """Reads through ``cucim.CuImage``.

    Args:
        path: Slide file.
        num_workers: Threads that decode; cuCIM's batched call needs one at least.
        device: ``"cpu"``, or ``"cuda"`` to decode on the GPU what cuCIM can decode there.

    Raises:
        SlideError: cuCIM is not installed (it exists for Linux alone) or does not read the file as RGB tiles.
    """

    backend = "cucim"

    def __init__(self, path: Path, *, num_workers: int = 0, device: str = "cpu") -> None:
        try:
            from cucim.clara import CuImage
        except ImportError as error:
            raise SlideError(f"cuCIM is not installed ({error})") from error
        try:
            with _native_messages_to_log():
                image = CuImage(str(path))
                channels = image.read_region(location=(0, 0), size=(1, 1), level=0).shape[-1]
                mpp_xy = _mpp_xy(image)
        except (RuntimeError, ValueError, KeyError) as error:
            raise SlideError(f"not opened ({error})") from error
        if channels != 3:
            image.close()
            raise SlideError("not a tiled 8-bit RGB image, which cuCIM would load whole")
        super().__init__(
            path,
            level_sizes_xy_px=tuple((int(w), int(h)) for w, h in image.resolutions["level_dimensions"]),
            mpp_xy=mpp_xy,
        )
        self._image = image
        self._options = read_options(num_workers=num_workers, device=device)

    def _read_level(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        # cuCIM refuses a region larger than the whole level; what is past the border is the caller's to fill
        level_width, level_height = self.level_sizes_xy_px[level]
        width, height = min(size_xy_px[0], level_width), min(size_xy_px[1], level_height)
        # cuCIM divides a location by the downsample in single precision and cuts: aim at the middle of the pixel
        locations = np.floor((corners_xy + 0.5) * self.level_downsamples[level]).astype(np.int64)
        patches = np.empty((len(corners_xy), height, width, 3), dtype=np.uint8)
        done = 0
        try:
            batches = self._image.read_region(
                location=locations.tolist(),
                size=[width, height],
                level=level,
                batch_size=min(MAX_BATCH, len(locations)),
                **self._options,
            )
            for batch in batches:
                # the batch's memory is used again for the next one: copied at once
                pixels = _to_host(batch).reshape(-1, height, width, 3)
                patches[done : done + len(pixels)] = pixels
                done += len(pixels)
        except (RuntimeError, ValueError) as error:
            raise SlideError(
                f"{self.path}: cuCIM cannot decode level {level} ({error}): check that the file is whole, "
                "or read it with backend openslide"
            ) from error
        return patches

    def close(self) -> None:
        """Release the file."""
        self._image.close()


def read_options(*, num_workers: int, device: str) -> dict[str, Any]:
    """Build what every call of ``read_region`` gets; on a CPU no device is named."""
    options: dict[str, Any] = {"num_workers": max(1, num_workers)}
    if device.startswith("cuda"):
        options["device"] = device
    return options


def _to_host(batch: Any) -> NDArray[np.uint8]:
    if hasattr(batch, "__cuda_array_interface__"):
        return torch.as_tensor(batch, device="cuda").cpu().numpy()
    return np.asarray(batch)


def _mpp_xy(image: Any) -> tuple[float, float] | None:
    """Return the resolution along x and y; cuCIM gives Aperio's only as text, and an empty unit where it knows none."""
    aperio = image.metadata.get("aperio")
    if aperio is not None:
        try:
            mpp = float(aperio["MPP"])
        except (KeyError, ValueError):
            return None
        return mpp, mpp
    spacing = dict(zip(image.dims, image.spacing(), strict=True))
    units = dict(zip(image.dims, image.spacing_units(), strict=True))
    if units["X"] != "micrometer" or units["Y"] != "micrometer":
        return None
    return float(spacing["X"]), float(spacing["Y"])


@contextmanager
def _native_messages_to_log() -> Iterator[None]:
    """Send what native code writes to stderr to the debug log: cuCIM, on opening, lists the GPU codecs it lacks."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as capture:
        kept = os.dup(2)
        try:
            os.dup2(capture.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            capture.seek(0)
            if messages := capture.read().decode(errors="replace").strip():
                _LOGGER.debug("cuCIM: %s", messages)
