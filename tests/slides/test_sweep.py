import numpy as np
import pytest

from scripts.slides import sweep as sweep_module
from scripts.slides.sweep import PIECE, sweep, tiles_in_order

TILE = (64, 48)


class Level:
    """A level in memory that notes every tile it decodes, and how many batches are alive."""

    def __init__(self, width, height, *, seed=0):
        self.pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
        self.decoded = []

    def decode(self, corners_xy):
        padded = np.pad(self.pixels, ((0, TILE[1]), (0, TILE[0]), (0, 0)))
        buffer = np.empty((5, TILE[1], TILE[0], 3), dtype=np.uint8)
        for start in range(0, len(corners_xy), 5):
            batch = corners_xy[start : start + 5]
            for slot, (x, y) in enumerate(batch.tolist()):
                buffer[slot] = padded[y : y + TILE[1], x : x + TILE[0]]
                self.decoded.append((x, y))
            yield buffer[: len(batch)]
            buffer[:] = 77  # what a decoder's own memory may hold afterwards

    def patches(self, corners_xy, size, *, batch_size=7):
        level = (self.pixels.shape[1], self.pixels.shape[0])
        return sweep(
            corners_xy, size_xy_px=size, tile_xy_px=TILE, level_xy_px=level, batch_size=batch_size, decode=self.decode
        )

    def expected(self, corners_xy, size):
        margin = 1000
        ground = np.pad(self.pixels, ((margin, margin), (margin, margin), (0, 0)), constant_values=255)
        return np.stack(
            [ground[margin + y : margin + y + size[1], margin + x : margin + x + size[0]] for x, y in corners_xy]
        )


def grid(step, size_xy, offset=0):
    y, x = np.mgrid[offset : size_xy[1] : step, offset : size_xy[0] : step]
    return np.stack([x.ravel(), y.ravel()], axis=1)


@pytest.mark.parametrize(
    ("step", "size", "offset"), [(32, (32, 32), 0), (50, (50, 50), -13), (90, (61, 90), 5), (64, (200, 130), 0)]
)
def test_patches_are_those_of_the_level_and_no_tile_is_decoded_twice(step, size, offset):
    level = Level(500, 410)
    corners = grid(step, (500, 410), offset)
    batches = list(level.patches(corners, size))
    assert [len(batch) for batch in batches[:-1]] == [7] * (len(batches) - 1)
    np.testing.assert_array_equal(np.concatenate(batches), level.expected(corners, size))
    assert len(set(level.decoded)) == len(level.decoded)
    assert level.decoded == sorted(level.decoded, key=lambda at: (at[1], at[0])), "in the order of the file"


def test_only_tiles_under_patches_are_decoded():
    level = Level(640, 480)
    list(level.patches(np.array([[0, 0], [600, 400]]), (30, 30)))
    assert level.decoded == [(0, 0), (576, 384)]


@pytest.mark.parametrize("corners", [[(-90, 5)], [(700, 5)], [(-20, -20), (900, 0), (630, 470)], np.empty((0, 2), int)])
def test_past_the_border_is_white(corners):
    level = Level(640, 480)
    corners = np.array(corners).reshape(-1, 2)
    batches = list(level.patches(corners, (64, 64)))
    if len(corners):
        np.testing.assert_array_equal(np.concatenate(batches), level.expected(corners, (64, 64)))
    else:
        assert batches == []


def test_any_order_gives_the_same():
    level = Level(500, 410)
    corners = np.random.default_rng(1).permutation(grid(50, (500, 410)))
    np.testing.assert_array_equal(
        np.concatenate(list(level.patches(corners, (50, 50)))), level.expected(corners, (50, 50))
    )


def test_many_tiles_are_asked_for_at_once_but_not_all(monkeypatch):
    monkeypatch.setattr(sweep_module, "CHUNK_BYTES", 700 * 3 * TILE[0] * TILE[1])
    level = Level(64 * 40, 48 * 40)
    calls = []
    decode = level.decode
    level.decode = lambda corners: calls.append(len(corners)) or decode(corners)
    list(level.patches(grid(128, (64 * 40, 48 * 40)), (128, 128)))
    assert calls == [700, 700, 200]


def test_a_batch_that_is_kept_is_not_written_over():
    level = Level(1280, 480)
    corners = grid(40, (1280, 480))
    kept = [batch[:, 3:5] for batch in level.patches(corners, (40, 40))]
    np.testing.assert_array_equal(np.concatenate(kept), level.expected(corners, (40, 40))[:, 3:5])


def test_the_plan_is_made_row_by_row():
    """Two tiles of a plan of a million patches are there at once."""
    corners = grid(64, (64_000, 64_000))
    plan = tiles_in_order(corners, (64, 64), (256, 256), (64_000, 64_000))
    (first, pieces), (second, _) = next(plan), next(plan)
    assert (first, second, len(pieces)) == ((0, 0), (256, 0), 16 * PIECE)
