from pathlib import Path

import numpy as np
import pytest
from encoding.painted import GLASS, MPP, QUARTER_PX, on_glass, paint, quarter_colours, write_tiff
from numpy.typing import NDArray

from scripts.encoding.thumbnail import build_thumbnail
from scripts.slides.geometry import PatchGrid, plan_reading
from scripts.slides.opening import open_slide


def area_means(finest: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Average blocks of ``factor`` pixels (less at the border) and put the mean on all their pixels, one by one."""
    result = np.empty_like(finest)
    for y in range(0, finest.shape[0], factor):
        for x in range(0, finest.shape[1], factor):
            block = finest[y : y + factor, x : x + factor]
            result[y : y + factor, x : x + factor] = block.mean(axis=(0, 1))
    return result


def thumbnail_of(path: Path, **options: int) -> NDArray[np.uint8]:
    with open_slide(path) as reader:
        return build_thumbnail(reader, plan_reading(reader).grid, **options)


def test_every_pixel_is_the_colour_of_its_quarter_patch(tmp_path: Path) -> None:
    colours = quarter_colours(5, 7)
    thumbnail = thumbnail_of(write_tiff(tmp_path / "a.tif", [paint(colours)]))
    assert thumbnail.shape == (10, 14, 9)
    assert thumbnail.dtype == np.uint8
    np.testing.assert_array_equal(thumbnail[..., :3], colours)


def test_coarser_levels_are_area_means_on_the_same_grid(tmp_path: Path) -> None:
    colours = quarter_colours(5, 7)
    thumbnail = thumbnail_of(write_tiff(tmp_path / "a.tif", [paint(colours)]), levels=4)
    for index, factor in enumerate((2, 3, 4), start=1):
        expected = area_means(colours.astype(np.float64), factor)
        assert np.abs(thumbnail[..., 3 * index : 3 * index + 3] - expected).max() <= 0.5 + 1e-3, f"level of {factor} K"


def test_a_single_level_is_the_finest(tmp_path: Path) -> None:
    colours = quarter_colours(2, 2)
    path = write_tiff(tmp_path / "a.tif", [paint(colours)])
    np.testing.assert_array_equal(thumbnail_of(path, levels=1), colours)


def test_a_coarse_level_gives_the_same(tmp_path: Path) -> None:
    """Level 1 has the colours and no chequerboard: 16 px per patch is enough, so it is what is read."""
    colours = quarter_colours(4, 4)
    other = colours + 4
    path = write_tiff(tmp_path / "a.tif", [paint(other), colours.repeat(8, axis=0).repeat(8, axis=1)])
    np.testing.assert_array_equal(thumbnail_of(path)[..., :3], colours)


def test_past_the_border_is_white(tmp_path: Path) -> None:
    colours = quarter_colours(3, 3)
    cut = paint(colours)[
        : 5 * QUARTER_PX + 4, : 5 * QUARTER_PX + 12
    ]  # 4 of 16 rows, 12 of 16 columns of the last quarter
    thumbnail = thumbnail_of(write_tiff(tmp_path / "a.tif", [cut]), levels=1)
    whole = np.full((96, 96, 3), 255.0)
    whole[: cut.shape[0], : cut.shape[1]] = cut
    expected = whole.reshape(6, 16, 6, 16, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail - expected).max() <= 0.5 + 1e-3
    np.testing.assert_array_equal(thumbnail[:5, :5], colours[:5, :5])


def test_odd_patches_are_halved_within_a_pixel(tmp_path: Path) -> None:
    """A patch of 33 px has quarters of 16.5 px: both halves take half of the middle pixel."""
    y, x = np.mgrid[: 33 * 3, : 33 * 4]
    pixels = np.stack([2 * x % 251, 2 * y % 241, (x + y) % 239], axis=-1).astype(np.uint8)
    path = write_tiff(tmp_path / "a.tif", [pixels], mpp=64 / 33)
    thumbnail = thumbnail_of(path, levels=1)
    halves = pixels.repeat(2, axis=0).repeat(2, axis=1).astype(np.float64)
    expected = halves.reshape(6, 33, 8, 33, 3).mean(axis=(1, 3))
    assert thumbnail.shape == (6, 8, 3)
    assert np.abs(thumbnail - expected).max() <= 0.5 + 1e-3


def test_blocks_leave_no_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tiff(tmp_path / "a.tif", [paint(quarter_colours(5, 7))])
    whole = thumbnail_of(path)
    monkeypatch.setattr("scripts.encoding.thumbnail.BLOCK_PX", 70)
    np.testing.assert_array_equal(thumbnail_of(path), whole)


def test_a_box_anywhere_on_the_slide(tmp_path: Path) -> None:
    colours = quarter_colours(2, 3)
    slide = on_glass(paint(colours), size_xy_px=(300, 200), corner_xy_px=(96, 64))
    path = write_tiff(tmp_path / "a.tif", [slide], mpp=MPP)
    with open_slide(path) as reader:
        thumbnail = build_thumbnail(reader, PatchGrid(32, (64, 64), (2, 4)))
    np.testing.assert_array_equal(thumbnail[:, :2, :3], np.full((4, 2, 3), GLASS))
    np.testing.assert_array_equal(thumbnail[:, 2:, :3], colours)
