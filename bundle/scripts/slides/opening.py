"""The choice of the reader for a file."""

import logging
from collections.abc import Callable
from pathlib import Path

from ..common.errors import RequestError, SlideError
from ..common.names import printable
from ..common.option_table import checked
from ..common.watch import reading
from .reader import SlideReader
from .tiff_slide import TiffSlide, examine_tiff

BACKENDS = ("cucim", "openslide", "tifffile")

_LOGGER = logging.getLogger(__name__)


@reading()
def open_slide(
    path: str | Path,
    *,
    backend: str = "auto",
    num_workers: int = 0,
    device: str = "cpu",
    unreadable_tiles: str = "fail",
) -> SlideReader:
    """Open a slide with the reader that serves its file.

    Args:
        path: Slide file.
        backend: ``"auto"`` takes the first of cuCIM, OpenSlide and tifffile that is installed, may read the file, and reads it.
            For a TIFF :func:`~.tiff_slide.examine_tiff` says who may, before any of them sees it. The name of a reader insists on
            it.
        num_workers: Threads that decode; 0 means one.
        device: ``"cuda"`` lets cuCIM decode on the GPU where it can; the patches come to the host all the same.
        unreadable_tiles: ``"fail"``, or ``"mask"`` to make them white and list them.

    Raises:
        SlideError: The file is missing, damaged, contradicts itself, or is of a format that no reader takes.
        RequestError: ``backend`` or ``unreadable_tiles`` is another word.
    """
    checked("unreadable_tiles", unreadable_tiles)
    path = Path(path)
    if backend != "auto" and backend not in BACKENDS:
        raise RequestError(f"backend {backend!r}: expected one of auto, {', '.join(BACKENDS)}")
    require_file(path)
    if (shown := printable(path)) != str(path):
        raise SlideError(f"{shown}: the path is not UTF-8, which the readers expect: rename the file")
    reasons = []
    try:
        tiff = examine_tiff(path)
        served_by, reason = (tiff.readers, tiff.reason) if tiff else (("openslide",), "no TIFF")
    except SlideError as error:
        tiff, served_by, reason = None, (), ""
        reasons.append(str(error))
    openers = _openers(tiff, num_workers=num_workers, device=device)
    if served_by and backend not in ("auto", *served_by):
        reasons.append(f"{backend}: {reason}")
    for name in served_by if backend == "auto" else set(served_by) & {backend}:
        try:
            reader = openers[name](path)
        except SlideError as error:
            reasons.append(f"{name}: {error}")
            continue
        reader.unreadable_tiles = unreadable_tiles
        _LOGGER.debug("%s is read by %s", path, name)
        return reader
    raise SlideError(
        f"{path}: cannot be read ({'; '.join(reasons)}), expected a whole slide: compare the file with its source, "
        "else convert it to a tiled pyramidal TIFF"
    )


def require_file(path: Path) -> None:
    """Check that a slide is there.

    Raises:
        SlideError: It is not, or what has its name is no file.
    """
    if not path.is_file():
        what = "a link that leads to no file" if path.is_symlink() else "no such file"
        if path.exists():
            what = "a folder, a pipe or a device, expected a file"
        raise SlideError(f"{path}: {what}: correct the path or put the slide there")


def _openers(tiff: TiffSlide | None, *, num_workers: int, device: str) -> dict[str, Callable[[Path], SlideReader]]:
    """Return what opens a slide with each backend; their native libraries are imported only when a slide is opened."""

    def cucim(path: Path) -> SlideReader:
        from .backends.cucim_reader import CucimReader

        return CucimReader(path, tiff, num_workers=num_workers, device=device)

    def openslide(path: Path) -> SlideReader:
        from .backends.openslide_reader import OpenSlideReader

        return OpenSlideReader(path, tiff, num_workers=num_workers)

    def tifffile(path: Path) -> SlideReader:
        from .backends.tifffile_reader import TifffileReader

        return TifffileReader(path, tiff, num_workers=num_workers)

    return {"cucim": cucim, "openslide": openslide, "tifffile": tifffile}
