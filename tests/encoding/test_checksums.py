"""The seal of an embedding file."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from training.embedding_files import write_embedding

from scripts.common.errors import SlideError
from scripts.encoding import checksums, store
from scripts.encoding.embedding_file import embedding_file, read_embedding


@pytest.mark.parametrize("where", ["root", "coords", "added", "features", "thumbnail"])
def test_a_change_of_anything_is_seen(tmp_path: Path, where: str) -> None:
    path = write_embedding(tmp_path / "a.h5")
    embedding_file(path).verify()
    with h5py.File(path, "r+") as file:
        if where == "root":
            file.attrs["grid_shape"] = np.array([7, 5])
        elif where == "coords":
            file["coords"].attrs["patch_size_level0"] = 64
        elif where == "added":
            file.attrs["mpp_x"] = 0.25
        else:
            file[where][0] = 1
    for read in (embedding_file(path).verify, embedding_file(path).read):
        with pytest.raises(SlideError, match=r"a\.h5: its content does not match its checksum"):
            read()


@pytest.mark.parametrize("stated", [None, "dsnet-embedding/9"])
def test_one_of_ours_without_its_format_is_not_another_tools(tmp_path: Path, stated: str | None) -> None:
    path = write_embedding(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["format"]
        if stated:
            file.attrs["format"] = stated
    with pytest.raises(SlideError, match=rf"a\.h5: format {stated!r}, expected 'dsnet-embedding/1'"):
        read_embedding(path)


def test_older_files_have_one_checksum(tmp_path: Path) -> None:
    path = write_embedding(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum_rest"]
    assert embedding_file(path).verify().attributes["complete"]
    assert read_embedding(path).shape_yx == (6, 5)


@pytest.mark.parametrize(
    ("grid_shape", "message"), [((2, 2), "patches outside its grid of 2 x 2"), ((1 << 20, 1 << 20), "on a grid of")]
)
def test_an_older_file_whose_grid_was_changed(tmp_path: Path, grid_shape: tuple[int, int], message: str) -> None:
    path = write_embedding(tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum_rest"]
        file.attrs["grid_shape"] = np.array(grid_shape)
    with pytest.raises(SlideError, match=rf"a\.h5: .*{message}"):
        read_embedding(path)


def test_a_file_is_verified_once_as_long_as_it_stays_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    original = checksums.require_sealed
    monkeypatch.setattr(
        store, "require_sealed", lambda file, path, values: (calls.append(path), original(file, path, values))
    )
    path = write_embedding(tmp_path / "a.h5")
    read_embedding(path)
    read_embedding(path)
    assert len(calls) == 1
    write_embedding(path, seed=1)
    os.utime(path, ns=(1, 1))
    read_embedding(path)
    assert len(calls) == 2
