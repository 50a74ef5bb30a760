"""Micrometres per pixel, from what a TIFF's tags and its description say: the one place that decides it."""

import math
import re

from .tiff_page import TiffPage

_UM_PER_UNIT = {2: 25400.0, 3: 1e4}  # TIFF: inch, centimetre
_MPP = re.compile(r"(?:^|[|\n;])\s*MPP\s*=\s*([^|\n]*)")
_NUMBER = re.compile(r"\+?(\d{1,18}(?:[.,]\d{0,18})?(?:[eE][+-]?\d{1,3})?)\s*(?:um|µm|μm)?", re.ASCII)
_IMAGEJ_UNIT = re.compile(r"^unit=(.*)$", re.MULTILINE)
_UM_PER_IMAGEJ_UNIT = {
    "micron": 1.0,
    "microns": 1.0,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
}
_UM_PER_IMAGEJ_UNIT |= {"inch": 25400.0}


def mpp_xy_of(page: TiffPage) -> tuple[float, float] | None:
    """Return the resolution of a page along x and y, or ``None`` where it states none that can be used.

    ``MPP`` in the description goes first (Aperio, Motic), then ImageJ's unit, then the tags. A resolution of 0, without an end or
    without a unit is none; that of one axis alone is taken for both. Aperio's tags are not its resolution.
    """
    stated = _MPP.search(page.description)
    if stated:
        mpp = _number(stated[1])
        return None if mpp is None else (mpp, mpp)
    if page.description.startswith("Aperio"):
        return None
    um = _um_per_unit(page)
    x, y = page.resolution_xy
    if um is None or (x is None and y is None):
        return None
    first, second = (um / value for value in (x or y, y or x) if value)
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


def _um_per_unit(page: TiffPage) -> float | None:
    if page.description.startswith("ImageJ="):
        unit = _IMAGEJ_UNIT.search(page.description)
        if unit and unit[1].strip().lower() in _UM_PER_IMAGEJ_UNIT:
            return _UM_PER_IMAGEJ_UNIT[unit[1].strip().lower()]
    return _UM_PER_UNIT.get(page.resolution_unit)


def _number(text: str) -> float | None:
    """Read a positive number, whatever the decimal sign."""
    whole = _NUMBER.fullmatch(text.strip())
    if whole is None:
        return None
    value = float(whole[1].replace(",", "."))
    return value if math.isfinite(value) and value > 0 else None
