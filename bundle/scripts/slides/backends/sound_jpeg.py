"""JPEGs that OpenSlide alone can place, decoded strictly before their level is read.

OpenSlide goes on where the codes of a JPEG end before its bytes do, as behind a flipped bit: with other pixels from there on. The
JPEGs are the tiles of a Leica SCN and a Ventana BIF, and the images of a MIRAX slide and a Hamamatsu VMS. All of a level is
decoded, since where its tiles lie on the slide OpenSlide alone knows. Of a MIRAX slide the index is examined, too: an image that it
does not place is white for OpenSlide.
"""

import mmap
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import simplejpeg

from ...common.errors import SlideError
from ...common.watch import reading
from ..companions import IMAGE_OF_VMS, MAP_OF_VMS
from ..tiff_codes import JPEG
from ..tiff_slide import TiffSlide
from .jpeg_parts import parts_of
from .mirax_index import images_of
from .strict_decoding import jpeg_stream

BATCH = 32  # JPEGs decoded at once
SCALED = 8
"""Pixels are made of every n-th frequency: the codes are all read, and little else is done."""

JPEG_START = b"\xff\xd8"

MAP_DOWNSAMPLE = 12
"""From here on the levels of a VMS are made of its map; up to 8, OpenSlide scales the images while it decodes them."""


class Jpeg(NamedTuple):
    """A JPEG, and what an error calls it."""

    name: str
    content: bytes


class SoundJpegs:
    """The JPEGs of a slide, by level.

    Args:
        path: slide file.
        tiff: what the directories of a TIFF say.
    """

    def __init__(self, path: Path, tiff: TiffSlide | None) -> None:
        self._path = path
        self._placed = tiff.placed if tiff else ()
        self._suffix = path.suffix.lower()
        self._sound: set[int] = set()

    @property
    def checks_levels(self) -> bool:
        """Whether the slide holds such JPEGs, so that :meth:`require` goes through all of a level."""
        in_tiles = any(page.compression == JPEG for pages in self._placed for page in pages)
        return in_tiles or self._suffix in (".vms", ".mrxs")

    def require(self, level: int, *, downsample: float, pool: Executor) -> None:
        """Decode the JPEGs of a level, the first time that it is asked for.

        Raises:
            SlideError: One is damaged, as far as libjpeg notices, or cannot be read.
        """
        source = level if self._suffix != ".vms" else int(downsample >= MAP_DOWNSAMPLE)
        if source in self._sound:
            return
        jpegs = {".vms": self._of_vms, ".mrxs": self._of_mirax}.get(self._suffix, self._tiles)(source)
        while True:
            with reading():
                some = list(islice(jpegs, BATCH))
                reasons = list(pool.map(_fault, some))
            if not some:
                break
            for jpeg, reason in zip(some, reasons, strict=True):
                if reason:
                    raise self._damaged(jpeg.name, reason)
        self._sound.add(source)

    def _damaged(self, name: str, reason: str) -> SlideError:
        return SlideError(
            f"{self._path}: {name} is damaged ({reason}), which OpenSlide would pass over; expected a whole file: compare it with "
            "its source (in this format --reading#unreadable_tiles mask cannot leave it out)"
        )

    def _tiles(self, level: int) -> Iterator[Jpeg]:
        """Of the directories of a level, those that are stored."""
        pages = self._placed[level] if level < len(self._placed) else ()
        with open(self._path, "rb") as file:
            for page in pages:
                for index in page.recorded.nonzero()[0].tolist() if page.compression == JPEG else ():
                    name = f"tile {index} of directory {page.number}"
                    content = os.pread(file.fileno(), int(page.counts[index]), int(page.offsets[index]))
                    try:
                        yield Jpeg(name, jpeg_stream(page.jpeg_tables, content))
                    except ValueError as error:
                        raise self._damaged(name, str(error)) from error

    def _of_mirax(self, level: int) -> Iterator[Jpeg]:
        """Of the images of a level, those that are JPEG; OpenSlide itself tells what is wrong with the others."""
        try:
            images = images_of(self._path, level)
        except (ValueError, KeyError, OSError) as error:
            raise self._damaged("its index", str(error)) from error
        for path, of_file in groupby(images, key=lambda image: image.path):
            with open(path, "rb") as file:
                for image in of_file:
                    content = os.pread(file.fileno(), image.length, image.start)
                    if content.startswith(JPEG_START):
                        yield Jpeg(f"the image at {image.start} of {path.name}", content)

    def _of_vms(self, source: int) -> Iterator[Jpeg]:
        """Of the images that a VMS names, or of its map (1), in parts."""
        text = self._path.read_text(encoding="utf-8", errors="replace")
        for name in (MAP_OF_VMS if source else IMAGE_OF_VMS).findall(text):
            try:
                with (
                    open(self._path.parent / name, "rb") as file,
                    mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
                ):
                    for part in parts_of(content):
                        yield Jpeg(name, part)
            except ValueError as error:
                raise self._damaged(name, str(error)) from error


def _fault(jpeg: Jpeg) -> str:
    """What libjpeg says of a JPEG; nothing where it is sound."""
    try:
        simplejpeg.decode_jpeg(jpeg.content, strict=True, min_factor=SCALED)
    except ValueError as error:
        return str(error)
    return ""
