"""Outlines of cells on V's grid as polygons in level-0 pixels, exact at the cells' borders."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..slides.geometry import PatchGrid

Point = tuple[int, int]
Ring = tuple[Point, ...]


@dataclass(frozen=True)
class Polygon:
    """One region of cells that touch along a side, in level-0 pixels.

    No ring crosses or meets itself, the last point of a ring is not the first one again.

    Attributes:
        exterior: x, y of the corners of the outline; the shoelace formula gives a positive area.
        holes: outlines of what lies inside and does not belong; negative areas.
    """

    exterior: Ring
    holes: tuple[Ring, ...]


def trace_regions(labels: NDArray[np.int32], count: int, grid: PatchGrid) -> list[Polygon]:
    """Outline regions of cells, each of which hangs together by sides, as ``scipy.ndimage.label`` numbers them.

    Args:
        labels: (H, W), on ``grid``: 1 to ``count`` in a region, 0 outside.
        count: number of regions.
        grid: where the cells lie.

    Returns:
        one polygon per region, in the order of their numbers.
    """
    polygons = []
    for index, box in enumerate(ndimage.find_objects(labels, count), start=1):
        top, left = box[0].start, box[1].start
        rings = [
            tuple(_to_level0((x + left, y + top), grid) for x, y in _corners_only(ring))
            for ring in _boundary_loops(labels[box] == index)
        ]
        (exterior,) = (ring for ring in rings if signed_area(ring) > 0)
        polygons.append(Polygon(exterior, tuple(ring for ring in rings if signed_area(ring) < 0)))
    return polygons


def label_without_holes(cells: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Number regions as ``scipy.ndimage.label`` does, cut along the first row of each hole so that no region has any.

    Args:
        cells: (H, W).

    Returns:
        labels (H, W) and their count, for :func:`trace_regions`.
    """
    labels, count = ndimage.label(cells)
    number = 1
    while number <= count:
        (box,) = ndimage.find_objects((labels == number).astype(np.int32))
        region = labels[box] == number
        holes = ndimage.binary_fill_holes(region) & ~region
        if not holes.any():
            number += 1
            continue
        row = np.argwhere(holes)[0, 0]
        (above, above_count), (below, below_count) = ndimage.label(region[:row]), ndimage.label(region[row:])
        parts = np.vstack([above, np.where(below, below + above_count, 0)])
        labels[box][region] = np.where(parts == 1, number, count - 1 + parts)[region]
        count += above_count + below_count - 1
    return labels, count


def signed_area(ring: Sequence[Point]) -> float:
    """Area by the shoelace formula, negative for a hole."""
    x, y = np.array(ring, dtype=np.int64).T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def _to_level0(corner_xy: Point, grid: PatchGrid) -> Point:
    """Turn a corner between cells into level-0 pixels."""
    (x, y), (left, top), step = corner_xy, grid.origin_xy_px, grid.patch_px_level0
    return left + x * step, top + y * step


def _boundary_loops(cells: NDArray[np.bool_]) -> list[list[Point]]:
    """Follow the sides between the set cells of one region and all others to loops of grid corners (x, y).

    A loop ends where the path first meets itself, so none passes a corner twice: where a region touches itself at a corner, what it
    encloses becomes a hole. Which of two ways the path takes there does not matter, as the cells of a region hang together by
    sides.
    """
    ahead = _border_sides(cells)
    loops = []
    while ahead:
        start = next(iter(ahead))
        path, place = [start], {start: 0}
        while path:
            here = path[-1]
            there = ahead[here].pop()
            if not ahead[here]:
                del ahead[here]
            if there in place:
                first = place[there]
                loops.append(path[first:])
                for corner in path[first + 1 :]:
                    del place[corner]
                del path[first + 1 :]
                if there not in ahead:
                    del place[path.pop()]
            else:
                place[there] = len(path)
                path.append(there)
    return loops


def _border_sides(cells: NDArray[np.bool_]) -> dict[Point, list[Point]]:
    """Sides between a set cell and another, directed so that the cell lies to the left (y down: x then y is a positive turn)."""
    padded = np.pad(cells, 1)
    inside = padded[1:-1, 1:-1]
    sides: dict[Point, list[Point]] = {}
    for neighbour, begin, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # above: along the top side to the right
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right: down
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # below: to the left
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left: up
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            sides.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))
    return sides


def _corners_only(ring: list[Point]) -> list[Point]:
    """Drop the points in the middle of a straight line."""
    points = np.array(ring)
    arriving, leaving = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return [ring[index] for index in np.flatnonzero((arriving != leaving).any(axis=1))]
