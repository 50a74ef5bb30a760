import logging
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from encoding.on_grid import matrix_of
from training.embedding_files import write_embedding as write_random_embedding
from training.embedding_files import write_foreign as write_foreign_features

from scripts.common.errors import SlideError
from scripts.encoding.embedding_file import header_of, read_embedding
from scripts.encoding.writer import embedding_writer

GRID_YX = np.array([(0, 1), (0, 2), (1, 0), (1, 2), (2, 2)])
STEP_PX = 256


def write_foreign(
    path: Path,
    coords_xy_px: np.ndarray,
    *,
    features: np.ndarray | None = None,
    patch_px: int | None = None,
    leading_axis: bool = False,
    at_root: bool = False,
) -> Path:
    """Write what TRIDENT and CLAM write: features and coords, the size of a patch as an attribute or not at all."""
    if features is None:
        features = np.arange(len(coords_xy_px) * 7, dtype=np.float32).reshape(-1, 7) + 1
    with h5py.File(path, "w") as file:
        file["features"] = features[None] if leading_axis else features
        file["coords"] = coords_xy_px
        if patch_px is not None:
            (file.attrs if at_root else file["coords"].attrs)["patch_size_level0"] = patch_px
    return path


def coords_of(grid_yx: np.ndarray) -> np.ndarray:
    return grid_yx[:, ::-1] * STEP_PX + np.array([1000, 3000])


@pytest.mark.parametrize("leading_axis", [False, True])
@pytest.mark.parametrize("patch_px", [STEP_PX, None])
@pytest.mark.parametrize("at_root", [False, True])
def test_foreign_file(tmp_path: Path, leading_axis: bool, patch_px: int | None, at_root: bool) -> None:
    """In any order of the patches; the grid starts at the first row and column that hold one."""
    coords = coords_of(GRID_YX)[::-1]
    path = write_foreign(tmp_path / "a.h5", coords, patch_px=patch_px, leading_axis=leading_axis, at_root=at_root)
    embedding = read_embedding(path)
    np.testing.assert_array_equal(embedding.grid_yx, GRID_YX[::-1])
    np.testing.assert_array_equal(embedding.coords_xy_px, coords)
    assert embedding.shape_yx == (3, 3)
    assert embedding.patch_px_level0 == STEP_PX
    assert embedding.thumbnail is None
    matrix = matrix_of(embedding)
    assert matrix.shape == (7, 3, 3)
    np.testing.assert_array_equal(matrix[:, 2, 2], np.arange(1, 8))
    assert (matrix != 0).any(axis=0).sum() == 5
    assert (header_of(path).channels, header_of(path).levels) == (7, None)


def test_half_precision_features(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float16)
    embedding = read_embedding(write_foreign(tmp_path / "a.h5", coords_of(GRID_YX), features=features))
    assert embedding.features.dtype == np.float16
    np.testing.assert_array_equal(matrix_of(embedding)[:, 0, 1], features[0])


def test_contours_with_a_grid_each_are_put_on_one(tmp_path: Path) -> None:
    """A second piece of tissue, off the first one's grid by a third of a patch: each patch goes to the nearest cell."""
    first = coords_of(np.array([(0, 0), (0, 1), (1, 0), (1, 1)]))
    second = coords_of(np.array([(5, 6), (5, 7), (6, 6)])) + np.array([80, -80])
    path = write_foreign(tmp_path / "a.h5", np.concatenate([first, second]), patch_px=STEP_PX)
    embedding = read_embedding(path)
    np.testing.assert_array_equal(embedding.grid_yx[4:], [(5, 6), (5, 7), (6, 6)])
    assert embedding.shape_yx == (7, 8)


def test_of_two_patches_in_a_cell_the_first_is_kept(tmp_path: Path) -> None:
    grid_yx = np.argwhere(np.ones((5, 5), dtype=bool))
    coords = np.concatenate([coords_of(grid_yx), coords_of(grid_yx[7:8]) + 20])
    embedding = read_embedding(write_foreign(tmp_path / "a.h5", coords, patch_px=STEP_PX))
    assert len(embedding.features) == len(embedding.coords_xy_px) == len(embedding.grid_yx) == 25
    np.testing.assert_array_equal(matrix_of(embedding)[:, 1, 2], np.arange(7 * 7, 7 * 8) + 1)


def test_patches_left_out_are_counted_once_per_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid_yx = np.argwhere(np.ones((5, 5), dtype=bool))
    coords = np.concatenate([coords_of(grid_yx), coords_of(grid_yx[7:9]) + 20])
    path = write_foreign(tmp_path / "a.h5", coords, patch_px=STEP_PX)
    whole = write_foreign(tmp_path / "b.h5", coords_of(grid_yx))
    with caplog.at_level(logging.DEBUG, logger="scripts"):
        for _ in range(2):
            read_embedding(path)
            read_embedding(whole)
    assert caplog.text.count(f"{path}: 2 of 27 patches are left out") == caplog.text.count("left out") == 1


def test_overlapping_patches_are_refused(tmp_path: Path) -> None:
    coords = coords_of(np.argwhere(np.ones((4, 4), dtype=bool))) // 2
    path = write_foreign(tmp_path / "a.h5", coords, patch_px=STEP_PX)
    with pytest.raises(
        SlideError, match=r"a\.h5: \d+ of 16 patches share a cell of a grid of 256 px.*overlap and patch_size of coords"
    ):
        read_embedding(path)


def test_a_single_patch_says_how_large_it_is(tmp_path: Path) -> None:
    coords = np.array([[512, 256]])
    embedding = read_embedding(write_foreign(tmp_path / "a.h5", coords, patch_px=STEP_PX))
    assert (embedding.shape_yx, embedding.patch_px_level0) == ((1, 1), STEP_PX)
    with pytest.raises(SlideError, match=r"b\.h5: the coordinates of 1 patches show no .*: write that attribute"):
        read_embedding(write_foreign(tmp_path / "b.h5", coords))


@pytest.mark.parametrize(
    ("coords", "features", "message"),
    [
        (np.zeros((0, 2), dtype=int), np.zeros((0, 4)), "no observed patch, expected at least one"),
        (np.array([[0, 0], [256, 0]]), np.ones((3, 4)), r"features \(3, 4\) and coords \(2, 2\), expected"),
        (np.array([[0, 0]]), np.zeros((2, 1, 4)), r"features \(2, 1, 4\).*expected"),
        (np.array([[0, 0]]), np.full((1, 4), np.nan), "NaN or infinity, expected finite"),
        (np.array([[0, 0]]), np.zeros((1, 4)), "every vector is zero"),
    ],
)
def test_a_malformed_file_names_itself(tmp_path: Path, coords: np.ndarray, features: np.ndarray, message: str) -> None:
    path = write_foreign(tmp_path / "bad.h5", coords, features=features)
    with pytest.raises(SlideError, match=rf"bad\.h5: .*{message}"):
        read_embedding(path)


def test_a_file_without_coords_or_not_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["features"] = np.ones((2, 4))
    with pytest.raises(SlideError, match=r"bare\.h5: no dataset 'coords' \(it has features\)"):
        read_embedding(tmp_path / "bare.h5")
    (tmp_path / "text.h5").write_text("features")
    for read in (read_embedding, header_of):
        with pytest.raises(SlideError, match=r"text\.h5: not a readable HDF5 file"):
            read(tmp_path / "text.h5")


def test_chunks_hold_many_rows(tmp_path: Path) -> None:
    with embedding_writer(tmp_path / "a.h5", patches=10_000, channels=16):
        pass
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["features"].chunks[0] >= 1000
        assert file["features"].chunks[1] == 16


def test_an_error_while_writing_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = write_random_embedding(tmp_path / "a.h5")
    earlier = path.read_bytes()
    with pytest.raises(KeyError), embedding_writer(path, patches=3, channels=2):
        raise KeyError("stop")
    assert path.read_bytes() == earlier
    assert [found.name for found in tmp_path.iterdir()] == ["a.h5"]


def test_a_fingerprint_tells_slides_apart_and_not_names(tmp_path: Path) -> None:
    prints = [header_of(write_random_embedding(tmp_path / f"{seed}.h5", seed=seed)).fingerprint for seed in range(3)]
    prints += [
        header_of(write_foreign_features(tmp_path / f"f{seed}.h5", GRID_YX, seed=seed)).fingerprint for seed in range(3)
    ]
    assert len(set(prints)) == 6
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in prints)
    for name, expected in (("0", prints[0]), ("f1", prints[4])):
        assert header_of(Path(shutil.copy(tmp_path / f"{name}.h5", tmp_path / "other.h5"))).fingerprint == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"mpp_x": 0.5, "mpp_y": 0.51}, (0.5, 0.51)),
        ({"mpp_x": "0.5", "mpp_y": np.float32(0.5)}, (0.5, 0.5)),
        ({"mpp_x": 0.5}, None),
        ({"mpp_x": 0.5, "mpp_y": 0.0}, None),
        ({"mpp_x": 0.5, "mpp_y": float("nan")}, None),
        ({"mpp_x": 0.5, "mpp_y": "unknown"}, None),
        ({"mpp_x": 0.5, "mpp_y": np.array([0.5, 0.5])}, None),
    ],
)
def test_a_resolution_counts_where_both_axes_have_one(
    tmp_path: Path, stated: dict[str, object], expected: tuple[float, float] | None
) -> None:
    """Another tool may write one alone, or what no slide has: the table or the slide is asked then."""
    path = write_foreign_features(tmp_path / "a.h5", np.array([(0, 0), (0, 1)]))
    with h5py.File(path, "a") as file:
        file.attrs.update(stated)
    assert read_embedding(path).mpp_xy == expected
