"""HDF5 files that others may have written."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from scripts.common.hdf5 import EDGE_BYTES, dataset_of, new_hdf5, open_hdf5
from scripts.common.journal import is_our_hdf5

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def virtual(file: h5py.File, source: str) -> None:
    layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
    layout[:] = h5py.VirtualSource(source, "secret", shape=(3,))
    file.create_virtual_dataset("features", layout)


def external_storage(file: h5py.File) -> None:
    file.create_dataset("features", (3,), "f4", external=[(str(Path(file.filename).with_name("raw.bin")), 0, 12)])


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = np.ones(3, np.float32)
    (tmp_path / "raw.bin").write_bytes(bytes(12))
    return tmp_path / "secret.h5"


@pytest.mark.parametrize(
    "make",
    [
        lambda file: file.__setitem__("features", h5py.ExternalLink("secret.h5", "secret")),
        lambda file: file.create_group("a").__setitem__("b", h5py.ExternalLink("secret.h5", "/")),
        lambda file: virtual(file, "secret.h5"),
        external_storage,
    ],
)
def test_what_leads_to_another_file_is_refused(tmp_path: Path, secret: Path, make: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file)
    with pytest.raises(ValueError, match="expected all of its content in the file itself"):
        open_hdf5(tmp_path / "a.h5")


def test_names_within_the_file_are_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["secret"] = np.arange(3, dtype=np.float32)
        file["soft"], file["hard"] = h5py.SoftLink("/secret"), file["secret"]
        virtual(file, ".")
    with open_hdf5(tmp_path / "a.h5") as file:
        for name in ("soft", "hard", "features"):
            assert dataset_of(file, name)[:].tolist() == [0, 1, 2]


def test_a_dataset_that_states_more_than_the_file_holds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("huge", (1 << 30, 1 << 10), "f4", chunks=(1, 1 << 10))
        file.create_dataset("zipped", data=np.zeros((1000, 1000)), compression="gzip")
        file.create_group("group")
    with open_hdf5(tmp_path / "a.h5") as file:
        with pytest.raises(ValueError, match="'huge' states 4398046511104 bytes of values, of which the file holds 0"):
            dataset_of(file, "huge")
        assert dataset_of(file, "zipped").shape == (1000, 1000)
        for name in ("group", "none"):
            with pytest.raises(ValueError, match=rf"no dataset '{name}' \(it has group, huge, zipped\)"):
                dataset_of(file, name)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("objects", [0, 1, 2])
def test_texts_with_zeros_over_them_are_damage(tmp_path: Path, objects: int, large: bool) -> None:
    """HDF5 itself would look for the next text without an end."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if large:
            file["features"] = np.ones(3 * EDGE_BYTES, np.uint8)
        file.attrs["format"] = "dsnet-embedding/1"
        file.attrs["encoder"] = "SCAEEncoder"
    with open_hdf5(path) as file:
        assert file.attrs["encoder"] == "SCAEEncoder"
    assert is_our_hdf5(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"GCOL") + 16 + (0, 16 + 24, 2 * (16 + 24) - 8)[objects]
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    path.write_bytes(content)
    with pytest.raises(OSError, match="written over"):
        open_hdf5(path)
    assert is_our_hdf5(path, damaged=True) and not is_our_hdf5(path)


FILL = """
import resource, sys
from pathlib import Path
import h5py, numpy as np
from scripts.common.hdf5 import new_hdf5

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    with new_hdf5(Path(sys.argv[1])) as file:
        file.attrs["settings"] = "s" * 5000
        file.create_dataset("values", (0, 64), "f4", maxshape=(None, 64), chunks=(1, 64), fletcher32=True)
        file.create_dataset("names", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(4096,))
        for length in range(1000, 9000, 1000):
            for name, value in {"values": np.random.default_rng(0).random((1000, 64)), "names": "a slide"}.items():
                file[name].resize(length, axis=0)
                file[name][length - 1000 :] = value
except OSError as error:
    print(error.errno)
assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == limit
"""


@pytest.mark.parametrize("limit", [0, 2000, 20_000, 300_000, 1_500_000, 2_300_000])
def test_a_file_that_cannot_be_written_is_an_error_and_not_the_end_of_the_process(tmp_path: Path, limit: int) -> None:
    """A limit on the size of files stands for a full disk, which root alone can mount."""
    command = [sys.executable, "-c", FILL, str(tmp_path / "a.h5"), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=BUNDLE)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{errno.EFBIG}\n", "")


def test_a_file_is_closed_where_no_descriptor_is_left(tmp_path: Path) -> None:
    """What ended the writing is told, not that memory could not be had."""
    path = tmp_path / "a.h5"
    with (
        pytest.raises(OSError, match="Input/output error"),
        pytest.MonkeyPatch.context() as patch,
        new_hdf5(path) as file,
    ):
        patch.setattr(os, "memfd_create", no_descriptor)
        raise OSError(errno.EIO, "Input/output error")
    assert not file


def no_descriptor(name: str) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_what_is_written_is_there(tmp_path: Path) -> None:
    with new_hdf5(tmp_path / "a.h5") as file:
        file["values"] = np.arange(3)
    with open_hdf5(tmp_path / "a.h5") as file:
        assert file["values"][:].tolist() == [0, 1, 2]
