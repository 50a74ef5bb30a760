"""Every way in which writers of TIFF state a resolution, and fail to."""

import numpy as np
import pytest
from slides.raw_tiff import (
    ASCII,
    DESCRIPTION,
    RATIONAL,
    RESOLUTION_UNIT,
    SHORT,
    X_RESOLUTION,
    Y_RESOLUTION,
    page_of,
    write_tiff,
)

from scripts.slides.tiff_directories import read_directories
from scripts.slides.tiff_resolution import mpp_xy_of

GREY = np.full((64, 64, 3), 128, np.uint8)
INCH, CENTIMETRE = 2, 3


def mpp_of(tmp_path, tags):
    found = read_directories(write_tiff(tmp_path / "slide.tif", [page_of(GREY, tags)]))
    return mpp_xy_of(found.pages[0])


@pytest.mark.parametrize(
    ("x", "y", "unit", "expected"),
    [
        ((20000, 1), (20000, 1), CENTIMETRE, (0.5, 0.5)),
        ((50800, 1), (50800, 1), INCH, (0.5, 0.5)),
        ((50800, 1), (50800, 1), None, (0.5, 0.5)),  # TIFF's rule: the inch
        ((200000000, 10000), (400000000, 10000), CENTIMETRE, (0.5, 0.25)),
        ((20000, 1), None, CENTIMETRE, (0.5, 0.5)),
        (None, (20000, 1), CENTIMETRE, (0.5, 0.5)),
        ((20000, 1), (20000, 0), CENTIMETRE, (0.5, 0.5)),
        (None, None, CENTIMETRE, None),
        (None, None, INCH, None),
        ((20000, 1), (20000, 1), 1, None),
        ((20000, 1), (20000, 1), 7, None),
        ((0, 1), (0, 1), CENTIMETRE, None),
        ((20000, 0), (20000, 0), INCH, None),
        ((0, 0), (0, 0), CENTIMETRE, None),
        ((72, 1), (72, 1), INCH, (352.778, 352.778)),  # a screen's: refused where patches are laid out
    ],
)
def test_tags(tmp_path, x, y, unit, expected):
    tags = {
        X_RESOLUTION: x and (RATIONAL, x),
        Y_RESOLUTION: y and (RATIONAL, y),
        RESOLUTION_UNIT: unit and (SHORT, unit),
    }
    assert mpp_of(tmp_path, tags) == (expected and pytest.approx(expected, rel=1e-5))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("MPP = 0.5", 0.5),
        ("MPP=0.5", 0.5),
        ("MPP = 0,499000", 0.499),
        ("MPP = 5.0e-01", 0.5),
        ("MPP = 0.5 um", 0.5),
        ("MPP = 0.5|MPP = 0.25", 0.5),
        ("Left = 1.0", None),
        *(
            (f"MPP = {text}", None)
            for text in ("", "0", "nan", "inf", "-0.5", "1e999", "n/a", "1,234.5", ".5.5", "٠٫٥", "1" * 400)
        ),
    ],
)
@pytest.mark.parametrize("vendor", ["Aperio Image Library v12\r\n64x64 [0,0 64x64]", "Motic V1.0.0 64x64"])
def test_the_description_of_aperio_and_motic_goes_first(tmp_path, vendor, stated, expected):
    """Their tags hold a screen's resolution, or none."""
    if not stated.startswith("MPP") and vendor.startswith("Motic"):
        expected = 0.5  # that of the tags
    text = f"{vendor}|AppMag = 40|{stated}|Left = 1"
    assert mpp_of(tmp_path, {DESCRIPTION: (ASCII, text)}) == (expected and pytest.approx((expected, expected)))


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("micron", 0.5), ("um", 0.5), ("\\u00B5m", 0.5), ("mm", 500.0), ("nm", 5e-4), ("inch", 12700.0), ("pixel", None)],
)
def test_imagej_states_its_unit_in_the_description(tmp_path, unit, expected):
    tags = {
        DESCRIPTION: (ASCII, f"ImageJ=1.53t\nimages=1\nunit={unit}\n"),
        X_RESOLUTION: (RATIONAL, (2, 1)),
        Y_RESOLUTION: (RATIONAL, (2, 1)),
        RESOLUTION_UNIT: (SHORT, 1),
    }
    assert mpp_of(tmp_path, tags) == (expected and pytest.approx((expected, expected)))
