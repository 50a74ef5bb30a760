"""What every slide reader offers, and the choice of the reader for a file."""

import abc
import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ..common.errors import RequestError, SlideError

WHITE = 255
BACKENDS = ("cucim", "openslide")
_LOGGER = logging.getLogger(__name__)


class SlideReader(abc.ABC):
    """One open slide, read patch by patch on the host.

    A reader holds handles of native libraries, so it is opened in the process that uses it and is neither pickled nor
    kept over a fork.

    Attributes:
        path: File of the slide.
        backend: ``"cucim"`` or ``"openslide"``.
        level_sizes_xy_px: Width and height of every pyramid level, finest first.
        level_downsamples: Size of a pixel of every level in level-0 pixels (mean of x and y).
        mpp_xy: Micrometres a level-0 pixel along x and y as the metadata say; ``None`` where they say nothing.
        bounds_xywh_px: Region that holds the scan: left, top, width, height in level-0 pixels. The whole slide where
            the format has no bounds.
    """

    backend: str

    def __init__(
        self,
        path: Path,
        *,
        level_sizes_xy_px: tuple[tuple[int, int], ...],
        mpp_xy: tuple[float, float] | None,
        bounds_xywh_px: tuple[int, int, int, int] | None = None,
    ) -> None:
        width, height = level_sizes_xy_px[0]
        self.path = path
        self.level_sizes_xy_px = level_sizes_xy_px
        self.level_downsamples = tuple((width / w + height / h) / 2 for w, h in level_sizes_xy_px)
        self.mpp_xy = mpp_xy
        self.bounds_xywh_px = bounds_xywh_px or (0, 0, width, height)

    def read_patches(
        self, coords_xy_px: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        """Read patches of one size from one level, in the order asked for.

        What lies past the border of the slide is white, and so is what the scanner did not record.

        Args:
            coords_xy_px: Top-left corners in level-0 pixels, (N, 2); they may be negative or past the border. They are
                rounded to the nearest pixel of ``level``.
            size_xy_px: Width and height of a patch in pixels of ``level``.
            level: Pyramid level, 0 the finest.

        Returns:
            RGB, (N, height, width, 3).

        Raises:
            SlideError: The slide has no such level, or its pixels cannot be decoded.
        """
        if not 0 <= level < len(self.level_sizes_xy_px):
            raise SlideError(
                f"{self.path}: no pyramid level {level}, expected 0 to {len(self.level_sizes_xy_px) - 1}: "
                "choose read_level auto or highest"
            )
        coords_xy_px = np.asarray(coords_xy_px).reshape(-1, 2)
        corners = np.floor(coords_xy_px / self.level_downsamples[level] + 0.5).astype(np.int64)
        size = np.array(size_xy_px)
        level_size = np.array(self.level_sizes_xy_px[level])
        if len(corners) and ((corners >= 0) & (corners + size <= level_size)).all():
            return self._read_level(corners, size_xy_px=size_xy_px, level=level)
        patches = np.full((len(corners), size[1], size[0], 3), WHITE, dtype=np.uint8)
        wanted = np.flatnonzero(((corners < level_size) & (corners + size > 0)).all(axis=1))
        if not len(wanted):
            return patches
        inside = np.maximum(corners[wanted], 0)
        read = self._read_level(inside, size_xy_px=size_xy_px, level=level)
        shifts = inside - corners[wanted]
        extents = np.minimum(size - shifts, level_size - inside)
        for index, source, (x, y), (width, height) in zip(wanted, read, shifts, extents, strict=True):
            patches[index, y : y + height, x : x + width] = source[:height, :width]
        return patches

    @abc.abstractmethod
    def _read_level(
        self, corners_xy: NDArray[np.int64], *, size_xy_px: tuple[int, int], level: int
    ) -> NDArray[np.uint8]:
        """Read (M, height, width, 3) at corners (M, 2) inside the level, in its pixels; anything past its border."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release the file; the reader cannot be used after that."""

    def __enter__(self) -> "SlideReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def open_slide(path: str | Path, *, backend: str = "auto", num_workers: int = 0, device: str = "cpu") -> SlideReader:
    """Open a slide with the reader that serves its file.

    Args:
        path: Slide file.
        backend: ``"auto"`` takes cuCIM where it is installed and reads the file, else OpenSlide; ``"cucim"`` and
            ``"openslide"`` insist.
        num_workers: Threads that decode patches inside cuCIM; 0 decodes in the calling thread.
        device: ``"cuda"`` lets cuCIM decode on the GPU where it can; the patches come to the host all the same.

    Raises:
        SlideError: The file is missing, damaged or of a format that no reader takes.
        RequestError: ``backend`` is none of the three.
    """
    path = Path(path)
    openers = _openers(num_workers=num_workers, device=device)
    if backend != "auto" and backend not in openers:
        raise RequestError(f"backend {backend!r}: expected one of auto, {', '.join(openers)}")
    if not path.is_file():
        raise SlideError(f"{path}: no such file: correct the path or put the slide there")
    reasons = []
    for name in openers if backend == "auto" else [backend]:
        try:
            reader = openers[name](path)
        except SlideError as error:
            reasons.append(f"{name}: {error}")
            continue
        _LOGGER.debug("%s is read by %s", path, name)
        return reader
    raise SlideError(
        f"{path}: cannot be read ({'; '.join(reasons)}): check that the file is whole (its size against the source), "
        "else convert it to a tiled pyramidal TIFF"
    )


def _openers(*, num_workers: int, device: str) -> dict[str, Callable[[Path], SlideReader]]:
    """Name the backends in order of preference; their native libraries are imported only when a slide is opened."""

    def cucim(path: Path) -> SlideReader:
        from .cucim_reader import CucimReader

        return CucimReader(path, num_workers=num_workers, device=device)

    def openslide(path: Path) -> SlideReader:
        from .openslide_reader import OpenSlideReader

        return OpenSlideReader(path)

    return {"cucim": cucim, "openslide": openslide}
