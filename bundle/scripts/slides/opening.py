"""The choice of the reader for a file."""

import logging
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.apart import DECODE_TIMEOUT_S
from ..common.errors import SlideError
from ..common.names import printable
from ..common.option_table import checked
from ..common.option_words import Backend, BackendChoice, UnreadableTiles, words
from ..common.watch import reading
from .reader import SlideReader
from .tiff_slide import TiffSlide, examine_tiff

BACKENDS: tuple[Backend, ...] = words(Backend)

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """How slides are read, whichever they are.

    Attributes:
        backend: ``"auto"`` takes the first of cuCIM, tifffile and OpenSlide that is installed, may read the file and reads it.
            Who may read a TIFF is decided before any of them sees it, by :func:`~.tiff_slide.examine_tiff`. Their names insist.
        num_workers: Threads that decode; 0 means one.
        device: ``"cuda"`` lets cuCIM decode on the GPU where it can; the patches come to the host all the same.
        unreadable_tiles: ``"fail"``: a tile that cannot be decoded is an error; ``"mask"``: it is white, and remembered.
        timeout_s: Longest call of a decoder; a slide whose decoder does not return for so long fails.

    Raises:
        RequestError: A value is of another type, or lies outside its range.
    """

    backend: BackendChoice = "auto"
    num_workers: int = 0
    device: str = "cpu"
    unreadable_tiles: UnreadableTiles = "fail"
    timeout_s: float = DECODE_TIMEOUT_S

    def __post_init__(self) -> None:
        for name in ("backend", "num_workers", "unreadable_tiles", "timeout_s"):
            checked(name, getattr(self, name))


DEFAULT_READING = Reading()


@reading()
def open_slide(path: str | Path, how: Reading = DEFAULT_READING) -> SlideReader:
    """Open a slide with the reader that serves its file.

    Args:
        path: slide file.
        how: it is read.

    Raises:
        SlideError: The file is missing, damaged, contradicts itself, or is of a format that no reader takes.
    """
    path = Path(path)
    _require_file(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise SlideError(
            f"{printable(path)}: the path is not UTF-8, which the readers expect: rename the file"
        ) from None
    reasons = []
    try:
        tiff = examine_tiff(path)
        served_by, reason = (tiff.readers, tiff.reason) if tiff else (("openslide",), "no TIFF")
    except SlideError as error:
        tiff, served_by, reason = None, (), ""
        reasons.append(str(error))
    openers = _openers(tiff, how)
    if served_by and how.backend not in ("auto", *served_by):
        reasons.append(f"{how.backend}: {reason}")
    for name in served_by if how.backend == "auto" else set(served_by) & {how.backend}:
        try:
            reader = openers[name](path)
        except SlideError as error:
            reasons.append(f"{name}: {error}")
            continue
        reader.unreadable_tiles = how.unreadable_tiles
        _LOGGER.debug("%s is read by %s", path, name)
        return reader
    raise SlideError(
        f"{path}: cannot be read ({'; '.join(reasons)}), expected a whole slide: compare the file with its source, "
        "else convert it to a tiled pyramidal TIFF"
    )


def _require_file(path: Path) -> None:
    """Check that a slide is there.

    Raises:
        SlideError: It is not, or what has its name is no file.
    """
    if path.is_file():
        return
    what, remedy = "no such file", "correct the path or put the slide there"
    if path.is_symlink() and not path.exists():
        what = "a link that leads to no file"
    elif path.is_dir():
        what = "a folder, expected a file"
        remedy = "name the slide's file: of DICOM one .dcm file of the series, of MRXS the .mrxs file beside its folder"
    elif path.exists():
        what = "a pipe or a device, expected a file"
    elif any(path.with_name(unicodedata.normalize(form, path.name)).is_file() for form in ("NFC", "NFD")):
        what = "no such file, but one whose name reads alike and is written with other Unicode characters"
        remedy = "rename the file, or copy its name into the table"
    raise SlideError(f"{path}: {what}: {remedy}")


def _openers(tiff: TiffSlide | None, how: Reading) -> dict[Backend, Callable[[Path], SlideReader]]:
    """Return what opens a slide with each backend; their native libraries are imported only when a slide is opened."""

    def cucim(path: Path) -> SlideReader:
        from .backends.cucim_reader import CucimReader

        return CucimReader(path, tiff, num_workers=how.num_workers, device=how.device)

    def openslide(path: Path) -> SlideReader:
        from .backends.openslide_reader import OpenSlideReader

        return OpenSlideReader(path, tiff, num_workers=how.num_workers)

    def tifffile(path: Path) -> SlideReader:
        from .backends.tifffile_reader import TifffileReader

        return TifffileReader(path, tiff, num_workers=how.num_workers)

    return {"cucim": cucim, "openslide": openslide, "tifffile": tifffile}
