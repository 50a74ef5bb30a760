from pathlib import Path

import h5py
import numpy as np
import pytest
from encoding.on_grid import matrix_of
from encoding.other_tools import features_of, write_clam, write_trident

from scripts.common.errors import SlideError
from scripts.encoding.embedding_file import header_of, read_embedding
from scripts.encoding.writer import append_rows, embedding_writer

GRID_YX = np.argwhere(np.random.default_rng(0).random((12, 15)) < 0.6) + np.array([3, 7])


@pytest.mark.parametrize("channels", [384, 1024, 1536, 2560])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_features_of_any_encoder(tmp_path: Path, channels: int, dtype: str) -> None:
    features = features_of(len(GRID_YX), channels).astype(dtype)
    path = write_trident(tmp_path / "features_x" / "s.h5", GRID_YX, features, encoder="virchow2")
    embedding = read_embedding(path)
    assert (header_of(path).channels, header_of(path).levels) == (channels, None)
    assert header_of(path).encoder == "virchow2"
    assert embedding.patch_px_level0 == 512
    assert embedding.origin_xy_px == (7 * 512, 3 * 512)
    np.testing.assert_array_equal(embedding.grid_yx, GRID_YX - np.array([3, 7]))
    matrix = matrix_of(embedding)
    assert matrix.shape == (channels, *embedding.shape_yx)
    row, column = embedding.grid_yx[5]
    np.testing.assert_array_equal(matrix[:, row, column], features[5])


def test_what_is_not_stated(tmp_path: Path) -> None:
    path = write_clam(tmp_path / "s.h5", GRID_YX[:, ::-1] * 256, features_of(len(GRID_YX), 4))
    assert header_of(path).encoder == "unknown"
    path = write_trident(tmp_path / "none.h5", GRID_YX, features_of(len(GRID_YX), 4), encoder="None")
    assert header_of(path).encoder == "unknown"


@pytest.mark.parametrize(("overlap_px", "step_px"), [(128, 256), (64, 384), (192, 128)])
def test_stated_overlap(tmp_path: Path, overlap_px: int, step_px: int) -> None:
    """A cell is a step wide and lies in the middle of its patch, 512 px wide."""
    path = write_trident(tmp_path / "s.h5", GRID_YX, features_of(len(GRID_YX), 3), overlap_px=overlap_px)
    embedding = read_embedding(path)
    assert len(embedding.features) == len(GRID_YX)
    assert embedding.patch_px_level0 == step_px
    np.testing.assert_array_equal(embedding.grid_yx, GRID_YX - np.array([3, 7]))
    centre = np.array(embedding.origin_xy_px) + step_px / 2
    np.testing.assert_array_equal(centre, np.array([7, 3]) * step_px + 256)


@pytest.mark.parametrize("first", ["fragment", "section"])
def test_the_grid_lies_where_most_patches_do(tmp_path: Path, first: str) -> None:
    """Each piece of tissue has a grid of its own, and the file may begin with any of them."""
    fragment = np.array([[0, 0], [256, 0], [0, 256]])
    section = np.argwhere(np.ones((30, 30), dtype=bool)) * 256 + np.array([8176, 4336])
    pieces = (fragment, section) if first == "fragment" else (section, fragment)
    coords = np.concatenate(pieces)
    embedding = read_embedding(write_clam(tmp_path / "s.h5", coords, features_of(len(coords), 4)))
    corners = np.array(embedding.origin_xy_px) + embedding.grid_yx[:, ::-1] * embedding.patch_px_level0
    off = np.abs(corners - embedding.coords_xy_px).max(axis=1)
    assert (off == 0).sum() == len(section)


def contours(count: int, *, seed: int = 0) -> np.ndarray:
    """Corners of patches of 256 px in pieces of tissue, each with a grid that begins at the piece's own corner."""
    rng = np.random.default_rng(seed)
    pieces = []
    for index in range(count):
        corner = np.array([index * 4000, 0]) + rng.integers(0, 256, 2)
        pieces.append(np.argwhere(rng.random((9, 8)) < 0.8) * 256 + corner)
    return np.concatenate(pieces)


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_the_step_of_clams_contours(tmp_path: Path, pieces: int) -> None:
    """Between pieces the distances are of any size; within rows and columns of one they are multiples of the step."""
    coords = contours(pieces)
    embedding = read_embedding(write_clam(tmp_path / "s.h5", coords, features_of(len(coords), 4)))
    assert embedding.patch_px_level0 == 256
    assert len(embedding.features) > 0.95 * len(coords)
    found = np.array(embedding.coords_xy_px) - coords.min(axis=0) - embedding.grid_yx[:, ::-1] * 256
    assert np.abs(found).max() <= 128


def test_contours_off_by_half_a_step_lose_nothing(tmp_path: Path) -> None:
    """In rows, in columns and in both; CLAM's corners are multiples of 32 or 64 px, so that halves of 256 px are common."""
    piece = np.argwhere(np.ones((6, 7), dtype=bool)) * 256
    coords = np.concatenate([piece + np.array(corner) for corner in ((0, 0), (4224, 0), (8192, 128), (12416, 128))])
    features = features_of(len(coords), 4)
    embedding = read_embedding(write_clam(tmp_path / "s.h5", coords, features))
    np.testing.assert_array_equal(embedding.features, features)
    for cells in np.split(embedding.grid_yx, 4):
        np.testing.assert_array_equal(cells - cells[0], piece[:, ::-1] // 256)


@pytest.mark.parametrize("kind", ["random", "diagonal"])
def test_coordinates_without_a_grid_are_refused(tmp_path: Path, kind: str) -> None:
    """Otherwise V would have a cell a pixel."""
    coords = np.random.default_rng(0).integers(0, 20_000, (2000, 2))
    if kind == "diagonal":
        coords = np.arange(50)[:, None] * np.array([257, 131])
    path = write_clam(tmp_path / "s.h5", coords, features_of(len(coords), 4))
    with pytest.raises(
        SlideError,
        match=r"s\.h5: the coordinates of \d+ patches show no regular grid, and no attribute patch_size_level0",
    ):
        read_embedding(path)
    with h5py.File(path, "a") as file:  # the remedy: a few patches in so many cells
        file["coords"].attrs["patch_size_level0"] = 64
    assert read_embedding(path).patch_px_level0 == 64


def test_leading_axis_and_fractions(tmp_path: Path) -> None:
    features = features_of(len(GRID_YX), 4)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"], file["coords"] = features[None], (GRID_YX[:, ::-1] * 224 - 1e-6)[None]
    embedding = read_embedding(tmp_path / "s.h5")
    assert embedding.patch_px_level0 == 224
    np.testing.assert_array_equal(embedding.features, features)


@pytest.mark.parametrize("shape", [(0,), (0, 1024)])
def test_a_slide_without_tissue(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """TRIDENT writes such files, without channels where it does not know them."""
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["features"], file["coords"] = np.empty(shape, np.float32), np.empty((0, 2), np.int64)
    for read in (read_embedding, header_of):
        with pytest.raises(SlideError, match=r"s\.h5: no observed patch, expected at least one"):
            read(tmp_path / "s.h5")


def test_our_files_have_what_others_read(tmp_path: Path) -> None:
    """By name, shape and type: CLAM reads both datasets whole, TRIDENT's slide encoders also coords' patch_size_level0."""
    with embedding_writer(tmp_path / "s.h5", patches=5, channels=16) as file:
        append_rows(file, features=features_of(5, 16), coords=GRID_YX[:5, ::-1] * 256, grid=GRID_YX[:5])
        file["coords"].attrs.update({"patch_size_level0": 256, "name": "s"})
    with h5py.File(tmp_path / "s.h5") as file:
        features, coords, attributes = file["features"][:], file["coords"][:], dict(file["coords"].attrs)
    assert (features.shape, features.dtype) == ((5, 16), np.float32)
    assert (coords.shape, coords.dtype) == ((5, 2), np.int64)
    assert int(attributes["patch_size_level0"]) == 256
    assert attributes["name"] == "s"
