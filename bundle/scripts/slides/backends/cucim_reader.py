"""Slides read by cuCIM: tiled TIFF, Aperio SVS and Philips TIFF, many patches per call."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...common.errors import SlideError
from ...common.native_output import native_output
from ..reader import Decoded, SlideReader
from ..sweep import CHUNK_BYTES
from ..tiff_slide import TiffSlide

MAX_BATCH = 16
"""Patches that cuCIM decodes ahead; bounds its memory whatever the number asked for."""

DECODING_FAILED = re.compile(
    rb"ERROR in line|\[Error\]|[Cc]orrupt|Stream does not end|Premature end|Not enough data|Bogus encoding|Wrong length of decoded"
    rb"|Using code not yet in table|not terminated with EOI|[Ff]ailed to decode|Tile part length"
)
DIRECTORY_LOST = re.compile(rb"Failed to read directory|Can not read TIFF directory")
NOISE = re.compile(
    rb"^(?:\[(?:Error|Warning|error|warning)\][^\n]*\n\n?"  # cuCIM; OpenJPEG's words end their line themselves
    rb"|(?:ERROR in line \d+ while |(?:_?TIFF|O?JPEG|LZW|Fax|Zip|PackBits)\w*: |Corrupt JPEG data|Premature end of |\[cuslide"
    rb"|nvImageCodec |libnv|(?:\[(?:ERROR|WARNING)\] )?(?:Failed to load |Could not load |dlopen lib))[^\n]*\n"
    rb"|[^\n]*: (?:Can not read TIFF directory|Failed to read directory|Not enough data |Sanity check on )[^\n]*\n)",
    re.MULTILINE,
)
"""Lines of cuCIM, of its codecs and of libtiff; other lines are those of other threads, whatever words stand in them."""

_LOGGER = logging.getLogger(__name__)


class CucimReader(SlideReader):
    """Reads through ``cucim.CuImage``.

    Args:
        path: slide file.
        tiff: what its directories say, without which cuCIM does not see the file.
        num_workers: threads that decode; cuCIM's batched call needs one at least.
        device: ``"cpu"``, or ``"cuda"`` to decode on the GPU what cuCIM can decode there.

    Raises:
        SlideError: cuCIM is not installed (it exists for Linux alone) or does not list the levels of the directories.
    """

    backend = "cucim"

    def __init__(self, path: Path, tiff: TiffSlide | None, *, num_workers: int = 0, device: str = "cpu") -> None:
        if tiff is None or tiff.tiles is None:
            raise SlideError("no TIFF whose directories tell where the pixels lie")
        try:
            from cucim.clara import CuImage
        except ImportError as error:
            raise SlideError(f"cuCIM is not installed ({error})") from error
        try:
            with native_output(NOISE) as printed:
                image = CuImage(str(path))
                if printed.says(DIRECTORY_LOST):
                    raise SlideError("a directory of the TIFF is missing: the file was cut off")
                listed = tuple((int(w), int(h)) for w, h in image.resolutions["level_dimensions"])
                native = tiff.native_levels(listed)
        except (RuntimeError, ValueError, KeyError) as error:
            raise SlideError(f"not opened ({error})") from error
        super().__init__(
            path,
            level_sizes_xy_px=tuple(listed[level] for level in native),
            mpp_xy=tiff.mpp_xy,
            tile_sizes_xy_px=tuple(level.tile_xy_px for level in tiff.levels),
        )
        self._image = image
        self._native = native
        self._tiles = tiff.tiles
        self.lost_tiles = tiff.tiles.lost
        self._options = read_options(num_workers=num_workers, device=device)

    def _decode(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> Iterator[Decoded]:
        whole = self._tiles.whole(corners_xy, size_xy_px=size_xy_px, level=level)
        if not whole.all():
            yield from self._one_by_one(corners_xy, whole, size_xy_px=size_xy_px, level=level)
            return
        regions = max(MAX_BATCH, CHUNK_BYTES // (3 * size_xy_px[0] * size_xy_px[1]))
        for start in range(0, len(corners_xy), regions):
            corners, readable = corners_xy[start : start + regions], whole[start : start + regions]
            done = 0
            for batch in self._while_sound(corners, size_xy_px=size_xy_px, level=level):
                done += len(batch)
                yield batch, np.ones(len(batch), dtype=bool)
            if done < len(corners):  # something is wrong with one of these: find out which
                yield from self._one_by_one(corners[done:], readable[done:], size_xy_px=size_xy_px, level=level)

    def _while_sound(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[NDArray[np.uint8]]:
        """Decode regions in one call; yield batches (M, height, width, 3), each living until the next, up to a failure.

        What cuCIM says of a batch is there before the batch is. That of a later one, decoded ahead, ends it a little early.
        """
        batches = self._batches(corners_xy, size_xy_px=size_xy_px, level=level)
        try:
            with native_output(NOISE) as printed:
                try:
                    for batch in batches:
                        if printed.says(DECODING_FAILED):
                            return
                        yield batch
                finally:
                    for _ in batches:  # what is decoded ahead may have something to say, too
                        pass
        except (RuntimeError, ValueError) as error:
            _LOGGER.debug("%s: level %d: %s", self.path, level, error)

    def _batches(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[NDArray[np.uint8]]:
        # cuCIM refuses a region larger than the whole level; what is past the border is the caller's to fill
        level_width, level_height = self.level_sizes_xy_px[level]
        width, height = min(size_xy_px[0], level_width), min(size_xy_px[1], level_height)
        # cuCIM divides a location by the mean of both sides' downsamples, in single precision, and cuts: aim at the pixel's middle
        downsample = (
            sum(whole / own for whole, own in zip(self.level_sizes_xy_px[0], (level_width, level_height), strict=True))
            / 2
        )
        locations = np.floor((corners_xy + 0.5) * downsample).astype(np.int64)
        batches = self._image.read_region(
            location=locations.tolist(),
            size=[width, height],
            level=self._native[level],
            batch_size=min(MAX_BATCH, len(locations)),
            **self._options,
        )
        left = len(locations)
        for batch in batches:
            pixels = _to_host(batch).reshape(-1, height, width, 3)[:left]  # the next batch takes its memory
            left -= len(pixels)
            yield pixels

    def _one_by_one(
        self, corners_xy: NDArray[np.int64], allowed: NDArray[np.bool_], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[Decoded]:
        """Decode regions singly, those that are ``allowed``, to know which of them fail."""
        level_width, level_height = self.level_sizes_xy_px[level]
        blank = np.zeros((1, min(size_xy_px[1], level_height), min(size_xy_px[0], level_width), 3), dtype=np.uint8)
        for corner, may_be_read in zip(corners_xy, allowed, strict=True):
            pixels, readable = blank, False
            if may_be_read:
                for decoded in self._while_sound(corner[None], size_xy_px=size_xy_px, level=level):
                    pixels, readable = decoded.copy(), True
            yield pixels, np.array([readable])

    def close(self) -> None:
        """Release the file."""
        self._image.close()


def read_options(*, num_workers: int, device: str) -> dict[str, object]:
    """Build what every call of ``read_region`` gets; on a CPU no device is named."""
    options: dict[str, object] = {"num_workers": max(1, num_workers)}
    if device.startswith("cuda"):
        options["device"] = device
    return options


def _to_host(batch: Any) -> NDArray[np.uint8]:
    if hasattr(batch, "__cuda_array_interface__"):
        return torch.as_tensor(batch, device="cuda").cpu().numpy()
    return np.asarray(batch)
