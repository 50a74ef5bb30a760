"""The picture of what a grid covers."""

from pathlib import Path

import numpy as np
import pytest
from crashing import crash_at
from patches.plain_slide import write_plain_slide

from scripts.slides import box
from scripts.slides.box import box_of_slide
from scripts.slides.geometry import PatchGrid
from scripts.slides.opening import open_slide

GRID = PatchGrid(32, (32, 64), (2, 3))


def test_the_box_is_that_of_the_grid(tmp_path: Path) -> None:
    slide = write_plain_slide(tmp_path / "a.tif", rich=20, pale=20)
    found = box_of_slide(slide, GRID, 96)
    with open_slide(slide) as reader:
        expected = reader.read_patches(np.array([GRID.origin_xy_px]), size_xy_px=(96, 64), level=0)[0]
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def test_no_picture_where_none_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slide that is gone, one that would take too much, and one whose reader dies."""
    assert box_of_slide(tmp_path / "gone.tif", GRID, 96) is None
    slide = write_plain_slide(tmp_path / "a.tif", rich=20, pale=20)
    with monkeypatch.context() as patch:
        patch.setattr(box, "MOST_READ_PX", 96 * 64 - 1)
        assert box_of_slide(slide, GRID, 96) is None
    crash_at(monkeypatch, "scripts.slides.box", slide.name)
    assert box_of_slide(slide, GRID, 96) is None
