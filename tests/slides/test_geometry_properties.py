"""What holds of any grid, box and resizing, for numbers that hypothesis draws (the same ones at each run)."""

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import SlideError
from scripts.encoding.regrid import common_step, snap_to_grid
from scripts.slides.geometry import PATCH_PX, PATCH_UM, PatchGrid, area_average, plan_reading, resize_patches

FEW = settings(max_examples=60, deadline=None, derandomize=True)
SIDES = st.integers(1, 5000)
PLACES = st.integers(-(2**31), 2**31)
PATH = Path("a.h5")


@st.composite
def grids(draw: st.DrawFn) -> PatchGrid:
    shape = (draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6)))
    return PatchGrid(draw(st.integers(1, 4096)), (draw(PLACES), draw(PLACES)), shape)


@FEW
@given(grids(), st.data())
def test_a_cropped_grid_names_the_same_places(grid: PatchGrid, data: st.DataObject) -> None:
    rows, columns = grid.shape_yx
    row0, column0 = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    crop = grid.crop(row0, column0, rows - row0, columns - column0)
    cell = np.array(
        [(data.draw(st.integers(0, rows - row0 - 1)), data.draw(st.integers(0, columns - column0 - 1)))], np.int32
    )
    np.testing.assert_array_equal(
        crop.coords_xy_px(cell), grid.coords_xy_px(cell + np.array([row0, column0], np.int32))
    )


@FEW
@given(grids(), st.data())
def test_places_and_cells_are_each_others_inverse(grid: PatchGrid, data: st.DataObject) -> None:
    cell = [data.draw(st.integers(0, side - 1)) for side in grid.shape_yx]
    (x, y), step = grid.coords_xy_px(np.array([cell], np.int32))[0], grid.patch_px_level0
    assert [(int(y) - grid.origin_xy_px[1]) // step, (int(x) - grid.origin_xy_px[0]) // step] == cell


@FEW
@given(
    bounds=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), SIDES, SIDES),
    mpp=st.floats(0.05, 4.5),
    factors=st.lists(st.floats(1.2, 8.0), max_size=5),
    read_level=st.sampled_from(["auto", "highest"]),
)
def test_a_plan_covers_what_was_scanned_from_a_level_that_is_fine_enough(
    bounds: tuple[int, int, int, int], mpp: float, factors: list[float], read_level: str
) -> None:
    downsamples = tuple(np.cumprod([1.0, *factors]).tolist())
    reader = SimpleNamespace(
        path=Path("s.svs"), mpp_xy=(mpp, mpp), bounds_xywh_px=bounds, level_downsamples=downsamples
    )
    plan = plan_reading(reader, read_level=read_level)  # type: ignore[arg-type]
    left, top, width, height = bounds
    step, (rows, columns) = plan.grid.patch_px_level0, plan.grid.shape_yx
    assert plan.grid.origin_xy_px == (left, top)
    assert (rows - 1) * step < height <= rows * step and (columns - 1) * step < width <= columns * step
    assert abs(step * mpp - PATCH_UM) <= mpp / 2 + 1e-9, "half a pixel at most from the size that was asked for"
    sides = [max(1, round(step / downsample)) for downsample in downsamples]
    assert plan.read_px == sides[plan.level]
    if read_level == "auto":
        assert plan.level == 0 or plan.read_px >= PATCH_PX
        assert all(side < PATCH_PX for side in sides[plan.level + 1 :]), "the coarsest that is fine enough"
    else:
        assert plan.level == 0


@st.composite
def edges(draw: st.DrawFn, size: int) -> list[float]:
    inner = draw(st.lists(st.floats(0.01, size - 0.01), min_size=0, max_size=6, unique_by=lambda edge: round(edge, 3)))
    return sorted([0.0, *inner, float(size)])


@FEW
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_an_average_over_areas_keeps_the_mean_and_the_range(
    height: int, width: int, seed: int, data: st.DataObject
) -> None:
    image = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, height, width, 3)).astype(np.uint8))
    edges_y, edges_x = data.draw(edges(height)), data.draw(edges(width))
    averaged = area_average(image, edges_y, edges_x)[0].double()
    areas = torch.outer(
        *(torch.tensor([b - a for a, b in pairwise(one)], dtype=torch.float64) for one in (edges_y, edges_x))
    )
    whole = (averaged * areas[..., None]).sum(dim=(0, 1)) / areas.sum()
    torch.testing.assert_close(whole, image[0].double().mean(dim=(0, 1)), atol=2e-2, rtol=0)
    assert averaged.min() >= int(image.min()) - 1e-2 and averaged.max() <= int(image.max()) + 1e-2


@FEW
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 255))
def test_a_patch_of_one_colour_stays_so_whatever_its_size(height: int, width: int, value: int) -> None:
    resized = resize_patches(torch.full((1, height, width, 3), value, dtype=torch.uint8))
    assert resized.shape == (1, 3, PATCH_PX, PATCH_PX)
    torch.testing.assert_close(resized, torch.full_like(resized, value), atol=1e-2, rtol=0)


@FEW
@given(
    st.integers(16, 4096),
    st.tuples(PLACES, PLACES),
    st.sets(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1),
    st.data(),
)
def test_a_grid_is_found_again_from_its_coordinates(
    step: int, origin_xy: tuple[int, int], cells: set[tuple[int, int]], data: st.DataObject
) -> None:
    """As of a file of another tool; patches that lie a little off the grid stay in their cells."""
    grid_yx = np.array(sorted(cells))
    coords = grid_yx[:, ::-1] * step + np.array(origin_xy)
    off = data.draw(st.integers(0, (step - 1) // 4))
    moved = coords + np.random.default_rng(off).integers(0, off + 1, coords.shape)
    moved[0] = coords[0]
    found, kept = snap_to_grid(moved, step, PATH)
    assert len(kept) == len(grid_yx)
    np.testing.assert_array_equal(found - found.min(axis=0), grid_yx - grid_yx.min(axis=0))


@FEW
@given(st.integers(16, 4096), st.integers(2, 12), st.integers(2, 12))
def test_the_step_of_a_full_grid_is_found(step: int, rows: int, columns: int) -> None:
    coords = np.argwhere(np.ones((columns, rows), dtype=bool)) * step
    assert common_step(coords, PATH) == step


@FEW
@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_any_resolution_gives_a_plan_or_a_reason(x: float, y: float) -> None:
    reader = SimpleNamespace(
        path=Path("s.svs"), mpp_xy=(x, y), bounds_xywh_px=(0, 0, 9000, 7000), level_downsamples=(1.0, 4.0)
    )
    try:
        plan = plan_reading(reader)  # type: ignore[arg-type]
    except SlideError as error:
        assert "s.svs" in str(error) and "slides.csv" in str(error)
    else:
        assert plan.mpp_xy == (x, y) and 0.05 <= x <= 10 and x == pytest.approx(y, rel=0.0501)
