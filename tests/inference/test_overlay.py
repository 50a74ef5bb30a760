import gc
from pathlib import Path

import numpy as np
import pytest
from inference.heat_map_views import view_of
from PIL import Image

from scripts.inference.overlay import SIDE_PX, nice_length, write_overlay

THUMBNAIL_RGB = (30, 200, 90)


def picture(
    path: Path, *, cam: np.ndarray, observed: np.ndarray, mpp: float | None = 0.5, white: bool = False
) -> np.ndarray:
    rows, columns = cam.shape
    thumbnail = np.empty((2 * rows, 2 * columns, 9), dtype=np.uint8)
    thumbnail[..., :3] = THUMBNAIL_RGB
    thumbnail[..., 3:] = 0
    view = view_of(
        cam,
        observed=observed,
        picture=None if white else thumbnail[..., :3],
        thumbnail=None if white else thumbnail,
        origin_xy_px=(0, 0),
        mpp_xy=mpp and (mpp, mpp),
    )
    write_overlay(path, view)
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def shares_of_thumbnail(pixels: np.ndarray) -> tuple[float, float]:
    """Columns' middle of the pixels that show the bare thumbnail, as a share of the width, and their share of all."""
    bare = (pixels == THUMBNAIL_RGB).all(axis=2)
    return float(np.nonzero(bare)[1].mean() / pixels.shape[1]), float(bare.mean())


def test_unobserved_cells_show_the_thumbnail(tmp_path: Path) -> None:
    cam = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    observed = np.ones((10, 10), dtype=bool)
    assert not (picture(tmp_path / "all.png", cam=cam, observed=observed) == THUMBNAIL_RGB).all(axis=2).any()
    observed[:, :5] = False
    left, share = shares_of_thumbnail(picture(tmp_path / "left.png", cam=cam, observed=observed))
    right, _ = shares_of_thumbnail(picture(tmp_path / "right.png", cam=cam, observed=~observed))
    assert left < right
    assert 0.2 < share < 0.5


def test_heat_is_where_the_map_has_it(tmp_path: Path) -> None:
    observed = np.ones((10, 10), dtype=bool)
    cold = np.zeros((10, 10), dtype=np.float32)
    hot = cold.copy()
    hot[1, 8] = 1
    difference = (
        picture(tmp_path / "cold.png", cam=cold, observed=observed).astype(int)
        - picture(tmp_path / "hot.png", cam=hot, observed=observed)
    ).any(axis=2)
    observed[1, 8] = False
    bare = (picture(tmp_path / "bare.png", cam=cold, observed=observed) == THUMBNAIL_RGB).all(axis=2)
    np.testing.assert_allclose(np.argwhere(difference).mean(axis=0), np.argwhere(bare).mean(axis=0), atol=2)
    y, x = np.argwhere(difference).mean(axis=0) / difference.shape
    assert y < 0.3
    assert x > 0.5


def test_scale_bar_lies_below_and_has_its_length(tmp_path: Path) -> None:
    cam = np.zeros((10, 10), dtype=np.float32)
    pixels = picture(tmp_path / "a.png", cam=cam, observed=cam > 0)
    rows, columns = np.nonzero((pixels == THUMBNAIL_RGB).all(axis=2))
    below = (pixels[rows.max() + 1 :, columns.min() : columns.max() + 1] == 0).all(axis=2)
    # the picture is 10 cells of 64 um wide, a quarter of that is 160 um, so the bar has 100 um
    expected_px = 100 / 640 * (np.ptp(columns) + 1)
    length_px = np.logical_and.accumulate(below[:, 1:], axis=1).sum(axis=1).max()
    assert length_px == pytest.approx(expected_px, abs=2)


@pytest.mark.parametrize("shape_yx", [(1, 1), (2, 60), (60, 2)])
@pytest.mark.parametrize("mpp", [0.5, None])
def test_any_shape_is_drawn(tmp_path: Path, shape_yx: tuple[int, int], mpp: float | None) -> None:
    cam = np.ones(shape_yx, dtype=np.float32)
    pixels = picture(tmp_path / "a.png", cam=cam, observed=cam > 0, mpp=mpp, white=True)
    assert min(pixels.shape[:2]) >= 400
    assert pixels.std() > 1


@pytest.mark.parametrize(
    ("most", "expected"), [(1000, 1000), (999, 500), (499, 200), (199.9, 100), (0.3, 0.2), (7300, 5000)]
)
def test_scale_bar_has_a_round_length(most: float, expected: float) -> None:
    assert nice_length(most) == pytest.approx(expected)


def test_the_slide_is_as_sharp_as_it_was_read(tmp_path: Path) -> None:
    """Stripes of four pixels stay stripes."""
    stripes = np.zeros((SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    stripes[:, np.arange(SIDE_PX) // 4 % 2 == 1] = 255
    cam = np.zeros((10, 10), dtype=np.float32)
    view = view_of(cam, observed=cam > 0, picture=stripes, origin_xy_px=(0, 0), class_name="costs $5_{")
    write_overlay(tmp_path / "a.png", view)
    with Image.open(tmp_path / "a.png") as image:
        line = np.asarray(image.convert("L"), dtype=int)[image.height // 2]
    assert (np.abs(np.diff(line)) == 255).sum() >= SIDE_PX / 4 - 1


def test_a_picture_leaves_no_pixels_behind(tmp_path: Path) -> None:
    """Neither those drawn nor the slide's, without the garbage collector, which comes once in some 60 slides."""
    cam, background = np.zeros((4, 4), dtype=np.float32), np.zeros((64, 64, 3), dtype=np.uint8)
    gc.collect()
    gc.disable()
    try:
        write_overlay(tmp_path / "cam.png", view_of(cam, picture=background))
        drawn = [one for one in gc.get_objects() if type(one).__name__ == "RendererAgg"]
        images = [one.get_size() for one in gc.get_objects() if type(one).__name__ == "AxesImage"]
    finally:
        gc.enable()
    assert drawn == [] and (64, 64) not in images
