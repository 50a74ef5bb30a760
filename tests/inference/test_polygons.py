import numpy as np
import pytest
from scipy import ndimage
from skimage.draw import polygon2mask

from scripts.inference.polygons import Polygon, label_without_holes, signed_area, trace_regions
from scripts.slides.geometry import PatchGrid


def unit_grid(cells: np.ndarray) -> PatchGrid:
    return PatchGrid(1, (0, 0), (cells.shape[0], cells.shape[1]))


def trace_cells(cells: np.ndarray, grid: PatchGrid) -> list[Polygon]:
    return trace_regions(*ndimage.label(cells), grid)


def trace(text: str) -> list[tuple[int, int]]:
    """Corners of the outline and number of holes of each region of a drawing, ``#`` being set."""
    cells = np.array([[letter == "#" for letter in line] for line in text.split()])
    return [(len(polygon.exterior), len(polygon.holes)) for polygon in trace_cells(cells, unit_grid(cells))]


@pytest.mark.parametrize(
    ("drawing", "expected"),
    [
        ("#", [(4, 0)]),
        ("###", [(4, 0)]),
        ("##\n#.", [(6, 0)]),
        ("#.\n.#", [(4, 0), (4, 0)]),
        ("###\n#.#\n###", [(4, 1)]),
        ("###\n#.#\n##.", [(6, 1)]),  # the hole meets the outside at a corner
        ("####\n#.##\n##.#\n####", [(4, 2)]),  # two holes meet at a corner
        ("#####\n#...#\n#.#.#\n#...#\n#####", [(4, 1), (4, 0)]),
        ("...", []),
    ],
)
def test_outlines_of_drawings(drawing: str, expected: list[tuple[int, int]]) -> None:
    assert trace(drawing) == expected


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_rings_are_simple_and_cover_the_cells(share: float) -> None:
    for seed in range(20):
        cells = np.random.default_rng(seed).random((9, 12)) < share
        polygons = trace_cells(cells, unit_grid(cells))
        covered = np.zeros_like(cells)
        for polygon in polygons:
            for ring in (polygon.exterior, *polygon.holes):
                assert len(set(ring)) == len(ring)
                steps = np.diff(np.array([*ring, ring[0]]), axis=0)
                assert ((steps != 0).sum(axis=1) == 1).all()  # along the grid, and a corner at every point
                assert ((steps * np.roll(steps, 1, axis=0)).sum(axis=1) == 0).all()
                covered ^= polygon2mask(cells.shape, np.array(ring)[:, ::-1] - 0.5)
            assert signed_area(polygon.exterior) > 0
            assert all(signed_area(hole) < 0 for hole in polygon.holes)
        np.testing.assert_array_equal(covered, cells)
        areas = [signed_area(ring) for polygon in polygons for ring in (polygon.exterior, *polygon.holes)]
        assert sum(areas) == cells.sum()


@pytest.mark.parametrize("share", [0.5, 0.7, 0.9, 1.0])
def test_regions_cut_open_cover_the_same_cells_without_holes(share: float) -> None:
    for seed in range(20):
        cells = np.random.default_rng(seed).random((9, 12)) < share
        labels, count = label_without_holes(cells)
        np.testing.assert_array_equal(labels > 0, cells)
        assert set(np.unique(labels[cells])) == set(range(1, count + 1))
        polygons = trace_regions(labels, count, unit_grid(cells))
        assert not any(polygon.holes for polygon in polygons)
        assert sum(signed_area(polygon.exterior) for polygon in polygons) == cells.sum()


def test_a_region_without_a_hole_is_not_cut() -> None:
    cells = np.array([[letter == "#" for letter in line] for line in ("##..#", "#...#", "###.#")])
    assert label_without_holes(cells)[1] == ndimage.label(cells)[1] == 2


def test_points_are_level0_pixels() -> None:
    (polygon,) = trace_cells(np.array([[False, True], [False, False]]), PatchGrid(100, (1000, 50), (2, 2)))
    assert set(polygon.exterior) == {(1100, 50), (1200, 50), (1200, 150), (1100, 150)}
