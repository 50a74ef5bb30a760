from types import SimpleNamespace

import numpy as np
import pytest

from scripts.slides.backends.openslide_reader import _bounds_xywh_px, on_white
from scripts.slides.opening import Reading, open_slide


def test_transparent_becomes_white_and_half_is_blended():
    rgba = np.array([[(10, 20, 30, 255), (0, 0, 0, 0), (100, 0, 255, 128)]], dtype=np.uint8)
    np.testing.assert_array_equal(on_white(rgba), [[(10, 20, 30), (255, 255, 255), (177, 127, 255)]])


def test_opaque_is_kept(pixels):
    rgba = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=-1)
    np.testing.assert_array_equal(on_white(rgba), pixels)


def test_bounds_come_from_the_format():
    properties = {"openslide.bounds-x": "12", "openslide.bounds-y": "34", "openslide.bounds-width": "560"}
    assert _bounds_xywh_px(SimpleNamespace(properties=properties)) is None
    properties["openslide.bounds-height"] = "780"
    assert _bounds_xywh_px(SimpleNamespace(properties=properties)) == (12, 34, 560, 780)


@pytest.mark.parametrize(("mpp", "expected"), [((0.25, 0.26), (0.25, 0.26)), (None, None)])
def test_resolution_by_axis_or_missing(mpp, expected, make_tiff, pixels):
    with open_slide(make_tiff(pixels, mpp=mpp), Reading(backend="openslide")) as reader:
        assert reader.mpp_xy == (expected and pytest.approx(expected, rel=1e-4))
