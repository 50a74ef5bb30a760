"""The picture of what a grid covers."""

import os
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from crashing import crash_at
from patches.plain_slide import write_plain_slide

from scripts.slides import box
from scripts.slides.box import BoxReader
from scripts.slides.geometry import PatchGrid
from scripts.slides.opening import open_slide

GRID = PatchGrid(32, (32, 64), (2, 3))


def test_the_box_is_that_of_the_grid(tmp_path: Path) -> None:
    slide = write_plain_slide(tmp_path / "a.tif", rich=20, pale=20)
    with closing(BoxReader()) as boxes:
        found = boxes.read(slide, GRID, 96)
    with open_slide(slide) as reader:
        expected = reader.read_patches(np.array([GRID.origin_xy_px]), size_xy_px=(96, 64), level=0)[0]
    assert found is not None
    np.testing.assert_array_equal(found, expected)


def test_no_picture_where_none_can_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slide that is gone, one that would take too much, and one whose reader dies; the next has its picture."""
    slide = write_plain_slide(tmp_path / "a.tif", rich=20, pale=20)
    with monkeypatch.context() as patch, closing(BoxReader()) as boxes:
        patch.setattr(box, "MOST_READ_PX", 96 * 64 - 1)
        assert boxes.read(tmp_path / "gone.tif", GRID, 96) is None
        assert boxes.read(slide, GRID, 96) is None
    crash_at(monkeypatch, "scripts.slides.box", slide.name)
    with closing(BoxReader()) as boxes:
        assert boxes.read(slide, GRID, 96) is None
        assert boxes.read(slide.rename(tmp_path / "b.tif"), GRID, 96) is not None


def test_one_process_serves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "read_box", lambda *_: np.array([os.getpid()]))
    slide = write_plain_slide(tmp_path / "a.tif", rich=20, pale=20)
    with closing(BoxReader()) as boxes:
        first, second = (boxes.read(slide, GRID, 96) for _ in range(2))
    assert first is not None and second is not None and first == second != os.getpid()
