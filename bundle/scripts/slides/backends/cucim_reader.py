"""Slides read by cuCIM: tiled TIFF, Aperio SVS and Philips TIFF, many patches a call."""

import ctypes
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...common.errors import SlideError
from ...common.memory import keep_freed_memory
from ..reader import Decoded, SlideReader
from ..tiff_slide import TiffSlide

MAX_BATCH = 16
"""Patches that cuCIM decodes ahead; bounds its memory whatever the number asked for."""

DECODING_FAILED = re.compile(
    rb"ERROR in line|\[Error\]|[Cc]orrupt|Stream does not end|Premature end|Not enough data|Bogus encoding|Wrong length of decoded"
    rb"|Using code not yet in table|not terminated with EOI|[Ff]ailed to decode|Tile part length"
)
DIRECTORY_LOST = re.compile(rb"Failed to read directory|Can not read TIFF directory")
NATIVE = re.compile(
    rb"ERROR in line|\[(Error|Warning|warning|error)\]|JPEG|TIFF|compression support is not configured|nvImageCodec|libnv"
    rb"|[Ff]ailed to (load|open)|Bogus|premature|^\s*$|" + DECODING_FAILED.pattern
)
"""Lines of cuCIM, its codecs and libtiff; the first two are those it writes beside any pixels, or on a file cut off."""

_PRINTING = threading.Lock()
_C_LIBRARY = ctypes.CDLL(None)
_LOGGER = logging.getLogger(__name__)


class CucimReader(SlideReader):
    """Reads through ``cucim.CuImage``.

    Args:
        path: Slide file.
        tiff: What its directories say, without which cuCIM does not see the file.
        num_workers: Threads that decode; cuCIM's batched call needs one at least.
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
        keep_freed_memory()
        try:
            with _native_messages() as messages:
                image = CuImage(str(path))
                if messages.match(DIRECTORY_LOST):
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
        self._options = read_options(num_workers=num_workers, device=device)

    def _decode(self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int) -> Iterator[Decoded]:
        whole = self._tiles.whole(corners_xy, size_xy_px=size_xy_px, level=level)
        if not whole.all():
            yield from self._one_by_one(corners_xy, whole, size_xy_px=size_xy_px, level=level)
            return
        done = 0
        try:
            with _native_messages() as messages:
                for batch in self._batches(corners_xy, size_xy_px=size_xy_px, level=level):
                    if messages.match(DECODING_FAILED):
                        break
                    yield batch, np.ones(len(batch), dtype=bool)
                    done += len(batch)
        except (RuntimeError, ValueError) as error:
            _LOGGER.debug("%s: level %d: %s", self.path, level, error)
        left = corners_xy[done:]
        if len(left):  # something is wrong with a tile of the batch at hand: find out which
            yield from self._one_by_one(left, np.ones(len(left), dtype=bool), size_xy_px=size_xy_px, level=level)

    def _batches(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> Iterator[NDArray[np.uint8]]:
        # cuCIM refuses a region larger than the whole level; what is past the border is the caller's to fill
        level_width, level_height = self.level_sizes_xy_px[level]
        width, height = min(size_xy_px[0], level_width), min(size_xy_px[1], level_height)
        # cuCIM divides a location by the downsample in single precision and cuts: aim at the middle of the pixel
        locations = np.floor((corners_xy + 0.5) * self.level_downsamples[level]).astype(np.int64)
        batches = self._image.read_region(
            location=locations.tolist(),
            size=[width, height],
            level=self._native[level],
            batch_size=min(MAX_BATCH, len(locations)),
            **self._options,
        )
        left = len(locations)
        for batch in batches:
            pixels = _to_host(batch).reshape(-1, height, width, 3)[:left]
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
                try:
                    with _native_messages() as messages:
                        pixels = next(self._batches(corner[None], size_xy_px=size_xy_px, level=level)).copy()
                        readable = not messages.match(DECODING_FAILED)
                except (RuntimeError, ValueError) as error:
                    _LOGGER.debug("%s: level %d: %s", self.path, level, error)
            yield pixels, np.array([readable])

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


def _flush_native() -> None:
    """Let the streams of the C library give out what they hold back."""
    _C_LIBRARY.fflush(None)


class _Messages:
    """What native code has printed since the block was entered."""

    def __init__(self, capture: int) -> None:
        self._capture = capture
        self._seen = 0

    def match(self, pattern: re.Pattern[bytes]) -> bool:
        """Whether ``pattern`` is found in what is new since the last question."""
        _flush_native()
        return bool(pattern.search(self._new()))

    def _new(self) -> bytes:
        content = os.pread(self._capture, os.fstat(self._capture).st_size - self._seen, self._seen)
        self._seen += len(content)
        return content

    def all(self) -> bytes:
        """Return everything that was printed."""
        self._seen = 0
        return self._new()


@contextmanager
def _native_messages() -> Iterator[_Messages]:
    """Catch what is printed: cuCIM tells of a tile that it cannot decode only there, and returns any memory as its pixels.

    It is kept in memory, since what cannot be written to a full or missing temporary folder would not be missed. Some of it goes to
    stdout, some to stderr. What cuCIM says goes to the debug log, all else to stderr. One thread at a time.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with _PRINTING, _descriptor_of_memory() as capture:
        _flush_native()
        kept = [os.dup(descriptor) for descriptor in (1, 2)]
        messages = _Messages(capture)
        try:
            os.dup2(capture, 1)
            os.dup2(capture, 2)
            yield messages
        finally:
            _flush_native()
            for descriptor, original in zip((1, 2), kept, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
            lines = messages.all().splitlines(keepends=True)
            said = b"".join(line for line in lines if NATIVE.search(line))
            if said.strip():
                _LOGGER.debug("cuCIM: %s", said.decode(errors="replace").strip())
            for line in lines:
                if not NATIVE.search(line):
                    os.write(2, line)


@contextmanager
def _descriptor_of_memory() -> Iterator[int]:
    """Open a file that lies in memory alone; Linux has them, and cuCIM exists for Linux alone."""
    descriptor = os.memfd_create("messages")
    try:
        yield descriptor
    finally:
        os.close(descriptor)
