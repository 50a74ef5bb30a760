"""Slides of scanners' own formats to be damaged, by the writers of the tests, and what a strict reading of their parts would notice."""

import configparser
import io
import shutil
import struct
import sys
import zlib
from collections.abc import Callable, Container
from pathlib import Path
from random import Random

import numpy as np
import pydicom
import simplejpeg
from campaign_damage import bits, cut, grown, head_bits, noise, zeros
from campaign_oracle import complaint
from campaign_slides import MPP, Pixels

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from slides.bif_file import write_bif
from slides.dicom_file import write_dicom_slide
from slides.mirax_file import write_mirax
from slides.philips_file import write_philips
from slides.scn_file import MACRO_PX, write_scn
from slides.vms_file import write_vms

TILE_PX = 64
PNG = b"\x89PNG\r\n\x1a\n"


def _bif(path: Path, pixels: Pixels) -> None:
    side = len(pixels) // 56 * 56 - 56 + 8
    write_bif(path, pixels[:side, :side], mpp=MPP)


def _philips(path: Path, pixels: Pixels) -> None:
    write_philips(path, pixels, np.ones((len(pixels) // TILE_PX,) * 2, dtype=bool), mpp_xy=(MPP, MPP))


def _scn(path: Path, pixels: Pixels) -> None:
    write_scn(path, pixels, [(128, 64, 512, 640)], mpp=MPP)


def _mirax(path: Path, pixels: Pixels) -> None:
    write_mirax(path, pixels, np.ones((len(pixels) // TILE_PX,) * 2, dtype=bool), mpp=MPP)


def _vms(path: Path, pixels: Pixels) -> None:
    write_vms(path, pixels, mpp=MPP)


def _dicom(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(exist_ok=True)
    write_dicom_slide(path.parent, [pixels, np.ascontiguousarray(pixels[::2, ::2])], mpp_xy=(MPP, MPP))


VENDORS: dict[str, Callable[[Path, Pixels], None]] = {
    ".bif": _bif, ".tiff": _philips, ".scn": _scn, ".mrxs": _mirax, ".vms": _vms, ".dcm": _dicom,
}  # fmt: skip
"""By suffix; the first three are TIFF."""

TIFFS = (".bif", ".tiff", ".scn")


def write_vendor_slides(folder: Path, pixels: Pixels) -> list[Path]:
    """Write a slide of each format, and return its main files."""
    written = []
    for suffix, write in VENDORS.items():
        path = folder / "dicom" / "level0.dcm" if suffix == ".dcm" else folder / f"vendor{suffix}"
        write(path, pixels)
        written.append(path)
    return written


def parts_of(path: Path) -> list[Path]:
    """All files of a slide, the main one first."""
    if path.suffix == ".mrxs":
        return [path, *sorted(path.with_suffix("").iterdir())]
    if path.suffix == ".vms":
        return [path, *sorted(path.parent.glob(f"{path.stem}_*.jpg"))]
    if path.suffix == ".dcm":
        return [path, *(other for other in sorted(path.parent.glob("*.dcm")) if other != path)]
    return [path]


def copy_slide(source: Path, folder: Path, stem: str) -> Path:
    """Copy a slide with all its parts under another name; return its main file."""
    if source.suffix == ".dcm":
        shutil.copytree(source.parent, folder / stem)
        return folder / stem / source.name
    suffix = source.name[source.name.index(".") :]
    target = folder / f"{stem}{suffix}"
    shutil.copy(source, target)
    if suffix == ".mrxs":
        shutil.copytree(source.with_suffix(""), folder / stem)
    if suffix == ".vms":
        for part in parts_of(source)[1:]:
            shutil.copy(part, folder / part.name.replace(source.stem, stem, 1))
        target.write_text(source.read_text(encoding="utf-8").replace(f"{source.stem}_", f"{stem}_"), encoding="utf-8")
    return target


def damage_part(path: Path, rng: Random) -> str:
    """Damage one of the files of a slide: its bytes, a number of its text, or all of it."""
    part = rng.choice([one for one in parts_of(path) if one.stat().st_size])
    if part.suffix in (".ini", ".vms") and rng.random() < 0.7:
        return f"{part.name}: {_text(part, rng)}"
    damage = rng.choice((cut, grown, bits, bits, head_bits, head_bits, zeros, noise, _gone, _numbers))
    return f"{part.name}: {damage.__name__}: {damage(part, rng)}"


def _gone(path: Path, rng: Random) -> str:
    path.unlink()
    return "removed"


def _numbers(path: Path, rng: Random) -> str:
    """Change a whole number of four bytes near the head."""
    content = bytearray(path.read_bytes())
    at = rng.randrange(0, max(1, min(len(content) - 4, 1024)), 2)
    content[at : at + 4] = struct.pack("<i", rng.choice((0, 1, -1, 2**31 - 1, 64, len(content), rng.randrange(2**16))))
    path.write_bytes(content)
    return f"another number at {at}"


def _text(path: Path, rng: Random) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    place = rng.choice([number for number, line in enumerate(lines) if "=" in line])
    key, _, value = lines[place].partition("=")
    new = rng.choice(("", "0", "-1", "abc", "nan", "1e9", "2147483648", value + "0", "../x.dat", "x" * 3000, None))
    lines[place : place + 1] = [] if new is None else [f"{key}={new}"]
    path.write_text("\n".join(lines), encoding="utf-8")
    return f"{key}={str(new)[:20]}"


def complaint_of_parts(
    whole: Path, damaged: Path, *, read: Container[tuple[int, int]] | None = None, of_levels: bool = True
) -> str | None:
    """Why a slide cannot be what its writer wrote; None where nothing in its files says so.

    Args:
        whole: main file of the undamaged slide.
        damaged: main file of the damaged one.
        read: column and row of the level-0 tiles that are read, None: all. Of SCN and BIF all are, but for SCN's image of the glass.
        of_levels: of a TIFF, whether the tiles of other levels count.
    """
    if damaged.suffix in TIFFS:
        unread = MACRO_PX if damaged.suffix == ".scn" else 0
        one_scan = damaged.suffix == ".tiff"
        return complaint(
            damaged, unread_width=unread, read=read if one_scan else None, of_levels=of_levels or not one_scan
        )
    for one, other in zip(
        parts_of(whole), (_counterpart(whole, part, damaged) for part in parts_of(whole)), strict=True
    ):
        if not other.is_file():
            if one.suffix == ".dcm" and one != whole:
                continue  # no instance of a series names the others
            return f"{one.name} is missing"
        if other.stat().st_size < one.stat().st_size and other.suffix not in (".ini", ".vms"):
            return f"{one.name} is cut"
        reader = {".jpg": _jpeg, ".dcm": _of_dicom, ".dat": _mirax_data, ".ini": _of_text, ".vms": _of_text}.get(
            one.suffix
        )
        found = reader(one, other) if reader else None
        if found:
            return f"{one.name}: {found}"
    return None


def _counterpart(whole: Path, part: Path, damaged: Path) -> Path:
    if part == whole:
        return damaged
    if whole.suffix == ".mrxs":
        return damaged.with_suffix("") / part.name
    return damaged.parent / part.name.replace(whole.stem, damaged.stem, 1)


def _jpeg(whole: Path, damaged: Path) -> str | None:
    wanted = simplejpeg.decode_jpeg(whole.read_bytes()).shape
    try:
        got = simplejpeg.decode_jpeg(damaged.read_bytes(), strict=True).shape
    except ValueError as error:
        return str(error)
    return None if got == wanted else f"{got}"


def _of_dicom(whole: Path, damaged: Path) -> str | None:
    wanted = {element.tag for element in pydicom.dcmread(whole).iterall()}
    try:
        got = pydicom.dcmread(damaged)
        tags = {element.tag for element in got.iterall()}
        pixels = got.Rows * got.Columns * 3 * int(got.NumberOfFrames)
        tiles = -(-got.TotalPixelMatrixColumns // got.Columns) * -(-got.TotalPixelMatrixRows // got.Rows)
        lengths = len(got.PixelData) == pixels and tiles == int(got.NumberOfFrames)
    except Exception as error:  # whatever a strict reader says
        return f"{type(error).__name__}: {error}"
    return None if tags == wanted and lengths else "other elements or lengths"


def _of_text(whole: Path, damaged: Path) -> str | None:
    def keys(path: Path) -> list[tuple[str, str, bool]]:
        parser = configparser.ConfigParser(interpolation=None, strict=True)
        parser.read_string(path.read_text(encoding="utf-8"))
        return [
            (section, key, value.replace(".", "", 1).isdecimal())
            for section in parser.sections()
            for key, value in parser[section].items()
        ]

    try:
        return None if keys(whole) == keys(damaged) else "other keys or kinds of values"
    except (configparser.Error, ValueError) as error:
        return str(error)


def _mirax_data(whole: Path, damaged: Path) -> str | None:
    """Of the images: each chunk has its checksum. Of the index: it has none, but an image has bytes of its own and one place."""
    if whole.name == "Index.dat":
        return _mirax_index(damaged)
    content, sound = damaged.read_bytes(), whole.read_bytes()
    at = sound.find(PNG)
    while at >= 0:
        try:
            found = _png(io.BytesIO(content[at:]))
        except struct.error:
            found = "cut"
        if found:
            return f"image at {at}: {found}"
        at = sound.find(PNG, at + 1)
    return None


def _mirax_index(index: Path) -> str | None:
    content, data = index.read_bytes(), index.with_name("Data0000.dat").read_bytes()
    try:
        (levels,) = struct.unpack_from("<i", content, 37)
        for level in range(2):
            (at,) = struct.unpack_from("<i", content, levels + 4 * level)
            _, at = struct.unpack_from("<2i", content, at)
            numbers: list[int] = []
            pages: list[int] = []
            while at:
                if at in pages:
                    return "pages in a circle"
                pages.append(at)
                count, following = struct.unpack_from("<2i", content, at)
                for entry in range(count):
                    number, start, length, file = struct.unpack_from("<4i", content, at + 8 + 16 * entry)
                    if file != 0 or length <= 0 or data[start : start + 8] != PNG or number in numbers:
                        return f"image {number} of level {level}"
                    numbers.append(number)
                at = following
    except (struct.error, IndexError) as error:
        return str(error)
    return None


def _png(file: io.BytesIO) -> str | None:
    if file.read(8) != PNG:
        return "no PNG"
    kind = b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", file.read(8))
        body = file.read(length)
        if struct.unpack(">I", file.read(4))[0] != zlib.crc32(kind + body):
            return "checksum"
    return None
