import logging
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from scripts.common.errors import RequestError, SlideError
from scripts.slides.geometry import PATCH_PX, PATCH_UM, PatchGrid, area_average, plan_reading, resize_patches
from scripts.slides.opening import open_slide


def fake_reader(*, mpp_xy=(0.5, 0.5), downsamples=(1.0,), bounds=(0, 0, 10000, 6000)):
    return SimpleNamespace(path=Path("s.svs"), mpp_xy=mpp_xy, level_downsamples=downsamples, bounds_xywh_px=bounds)


def test_grid_coords_are_x_y_of_row_column():
    grid = PatchGrid(patch_px_level0=128, origin_xy_px=(10, 1000), shape_yx=(4, 5))
    coords = grid.coords_xy_px(np.array([(0, 0), (2, 3)], dtype=np.int32))
    assert coords.dtype == np.int64
    np.testing.assert_array_equal(coords, [(10, 1000), (10 + 3 * 128, 1000 + 2 * 128)])


def test_grid_coords_do_not_overflow_int32():
    grid = PatchGrid(patch_px_level0=100_000, origin_xy_px=(0, 0), shape_yx=(100_000, 1))
    assert grid.coords_xy_px(np.array([(99_999, 0)], dtype=np.int32))[0, 1] == 9_999_900_000


def test_cropped_grid_names_the_same_patches():
    grid = PatchGrid(patch_px_level0=128, origin_xy_px=(10, 20), shape_yx=(9, 9))
    cropped = grid.crop(2, 3, 4, 5)
    assert cropped.shape_yx == (4, 5)
    inner = np.array([(0, 0), (3, 4)], dtype=np.int32)
    np.testing.assert_array_equal(cropped.coords_xy_px(inner), grid.coords_xy_px(inner + np.array([2, 3], np.int32)))


def test_half_micron_scan_reads_128_px_from_the_bounds_corner():
    plan = plan_reading(fake_reader(bounds=(100, 50, 1281, 1153)))
    assert plan.grid == PatchGrid(patch_px_level0=128, origin_xy_px=(100, 50), shape_yx=(10, 11))
    assert (plan.level, plan.read_px, plan.mpp_xy) == (0, 128, (0.5, 0.5))


@pytest.mark.parametrize(
    ("read_level", "level", "read_px"), [("auto", 1, 132), ("highest", 0, 263), (0, 0, 263), (1, 1, 132)]
)
def test_level_choice_on_a_camelyon_pyramid(read_level, level, read_px):
    reader = fake_reader(mpp_xy=(0.243, 0.243), downsamples=(1.0, 2.0, 4.0))
    plan = plan_reading(reader, read_level=read_level)
    assert (plan.level, plan.read_px) == (level, read_px)


def test_auto_takes_a_level_exactly_at_the_target():
    reader = fake_reader(mpp_xy=(PATCH_UM / 448, PATCH_UM / 448), downsamples=(1.0, 2.0, 4.0, 8.0))
    plan = plan_reading(reader)
    assert (plan.level, plan.read_px) == (2, PATCH_PX)


def test_given_mpp_goes_before_the_metadata():
    plan = plan_reading(fake_reader(mpp_xy=(352.0, 352.0)), mpp=0.25)
    assert (plan.mpp_xy, plan.grid.patch_px_level0) == ((0.25, 0.25), 256)


def test_a_patch_of_pixels_that_are_nearly_square_goes_by_their_mean():
    plan = plan_reading(fake_reader(mpp_xy=(0.49, 0.51), bounds=(0, 0, 1280, 640)))
    assert plan.mpp_xy == (0.49, 0.51), "both are kept"
    assert (plan.grid.patch_px_level0, plan.grid.shape_yx, plan.read_px) == (128, (5, 10), 128)


@pytest.mark.parametrize(
    ("mpp_xy", "message"),
    [
        (None, "no resolution.*add a column mpp to slides.csv"),
        ((0.04, 0.04), "0.04 x 0.04 um/px, expected 0.05 to 10"),
        ((29.0, 29.0), "29 x 29 um/px, expected 0.05 to 10"),
        ((float("nan"), 0.5), "expected 0.05 to 10"),
        ((0.5, 0.53), "expected square pixels"),
        ((4.7, 4.7), "8.2 times coarser than the target of 0.571 um/px, expected at most 8"),
    ],
)
def test_unusable_resolutions_name_slide_and_remedy(mpp_xy, message):
    with pytest.raises(SlideError, match=rf"s\.svs: .*{message}"):
        plan_reading(fake_reader(mpp_xy=mpp_xy))


def test_a_level_beyond_the_limit_is_refused_though_the_slide_is_fine():
    with pytest.raises(SlideError, match="level 1 has 8 um/px"):
        plan_reading(fake_reader(downsamples=(1.0, 16.0)), read_level=1)


def test_coarse_slide_is_enlarged_and_said_so_without_its_name(caplog):
    with caplog.at_level(logging.WARNING):
        plan = plan_reading(fake_reader(mpp_xy=(4.0, 4.0)))
    assert plan.read_px == 16
    assert "read at 4 um/px, coarser than the target of 0.571 um/px" in caplog.text
    assert "enlarged 7.0 times" in caplog.text
    assert "s.svs" not in caplog.text


def test_fine_slide_warns_of_nothing(caplog):
    plan_reading(fake_reader())
    assert not caplog.records


@pytest.mark.parametrize("request_", [{"read_level": "lowest"}, {"patch_um": 0}])
def test_wrong_requests(request_):
    with pytest.raises(RequestError, match="expected"):
        plan_reading(fake_reader(), **request_)


def test_missing_level_is_the_slides_failure():
    with pytest.raises(SlideError, match=r"s\.svs: no pyramid level 3, expected 0 to 0"):
        plan_reading(fake_reader(), read_level=3)


def naive_area_average(image: np.ndarray, edges_y, edges_x) -> np.ndarray:
    """Sum every pixel's overlap with every rectangle, in float64."""
    out = np.zeros((len(edges_y) - 1, len(edges_x) - 1, image.shape[2]))
    for row, (y0, y1) in enumerate(pairwise(edges_y)):
        for col, (x0, x1) in enumerate(pairwise(edges_x)):
            for y in range(int(y0), min(int(np.ceil(y1)), len(image))):
                for x in range(int(x0), min(int(np.ceil(x1)), image.shape[1])):
                    share = (min(y1, y + 1) - max(y0, y)) * (min(x1, x + 1) - max(x0, x))
                    out[row, col] += share * image[y, x]
            out[row, col] /= (y1 - y0) * (x1 - x0)
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_area_average_equals_the_naive_sum(dtype):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 41, 57, 3))).to(dtype)
    edges_y = np.linspace(0.3, 40.7, 19 + 1).tolist()  # more than one band, and rectangles within one pixel
    edges_x = [0.0, 0.25, 0.5, 3.0, 9.99, 20.5, 20.75, 57.0]
    averaged = area_average(images, edges_y, edges_x)
    assert averaged.dtype == torch.float32
    assert averaged.shape == (2, 19, 7, 3)
    for image, result in zip(images.double().numpy(), averaged, strict=True):
        np.testing.assert_allclose(result.numpy(), naive_area_average(image, edges_y, edges_x), rtol=1e-5)


def test_the_weights_of_an_average_stay_on_the_device(monkeypatch):
    """A copy to a GPU would wait for it, for each batch anew."""
    images, edges = torch.empty(1, 256, 256, 3, device="meta"), np.linspace(0, 256, PATCH_PX + 1).tolist()
    area_average(images, edges, edges)
    moved, to = [], torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda tensor, *given: moved.append(tensor.device.type) or to(tensor, *given)
    )
    area_average(images, edges, edges)
    assert set(moved) == {"meta"}


@pytest.mark.parametrize("edges", [[0.0, 5.0, 5.0], [0.0, 11.0], [-1.0, 5.0], [3.0]])
def test_area_average_refuses_edges_outside_or_not_increasing(edges):
    with pytest.raises(ValueError, match="expected two or more that increase, from 0 to 10"):
        area_average(torch.zeros(1, 10, 10, 3), edges, [0.0, 10.0])


@pytest.mark.parametrize("side", [256, 131, 112])
def test_reducing_keeps_the_mean_of_every_channel(side):
    patches = torch.randint(0, 256, (3, side, side, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    resized = resize_patches(patches)
    assert resized.shape == (3, 3, PATCH_PX, PATCH_PX)
    assert resized.dtype == torch.float32
    torch.testing.assert_close(resized.mean((2, 3)), patches.double().mean((1, 2)).float(), rtol=1e-5, atol=1e-3)
    if side == PATCH_PX:
        torch.testing.assert_close(resized, patches.permute(0, 3, 1, 2).float())


def test_enlarging_interpolates_between_pixel_centres():
    patches = torch.tensor([[[0] * 3, [100] * 3], [[0] * 3, [100] * 3]], dtype=torch.uint8)[None]
    resized = resize_patches(patches, 4)
    assert resized.shape == (1, 3, 4, 4)
    torch.testing.assert_close(resized[0, 0], torch.tensor([0.0, 25.0, 75.0, 100.0]).expand(4, 4))


REAL = {
    "cmu-1-small-region.svs": (None, 0, 128, (24, 18)),
    "tcga-cr-7395-01a-01-ts1.svs": (0.5, 0, 128, (28, 35)),
    "14082.tif": (None, 0, 16, (147, 175)),
    "test3-DAPI-387.ndpi": (None, 1, 140, (18, 15)),
}


@pytest.mark.parametrize("name", REAL)
def test_plans_of_real_slides(name, data_dir):
    mpp, level, read_px, shape_yx = REAL[name]
    with open_slide(data_dir / "slides" / name) as reader:
        plan = plan_reading(reader, mpp=mpp)
    assert (plan.level, plan.read_px, plan.grid.shape_yx) == (level, read_px, shape_yx)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcga-cr-7395-01a-01-ts1.svs", "add a column mpp"),
        ("multiframe_camelyon_challenge_image.dcm", "28.97 x 28.97 um/px, expected 0.05 to 10"),
        ("pathml_small_HE_levels.tiff", "352.9 x 352.9 um/px, expected 0.05 to 10"),
    ],
)
def test_real_slides_without_a_usable_resolution(name, message, data_dir):
    with open_slide(data_dir / "slides" / name) as reader, pytest.raises(SlideError, match=message):
        plan_reading(reader)
