import csv
import errno
import hashlib
import json
import tracemalloc
from pathlib import Path

import pytest

from scripts.common.files import (
    atomic_path,
    relative_to,
    remove_partial,
    sha256_of,
    storage_reason,
    write_csv,
    write_json,
)


def test_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), atomic_path(path) as partial:
        partial.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_partial_name_keeps_the_suffix_and_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.nii.gz"
    with atomic_path(path) as partial:
        assert partial.suffix == ".gz"
        assert not path.exists()
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_tables_read_back(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["a", "b"], [{"a": "x,y", "b": 1}, {"b": 2}])
    with open(tmp_path / "t.csv", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["x,y", "1"], ["", "2"]]
    with pytest.raises(ValueError, match="'c'"):
        write_csv(tmp_path / "u.csv", ["a"], [{"c": 1}])
    assert not (tmp_path / "u.csv").exists()


def test_json_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}


def test_sha256_of_known_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("size", [0, 1 << 18, (1 << 18) + 1, 8_000_000])
def test_a_digest_takes_little_memory(tmp_path: Path, size: int) -> None:
    content = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    tracemalloc.start()
    digest = sha256_of(tmp_path / "a")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert digest == hashlib.sha256(content[:size]).hexdigest()
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize("stem", ["a" * 250, "a" * 201, "片" * 83, "a.partial", "new\nline", "a.1.b"])
def test_names_up_to_the_longest_are_written_and_their_leftovers_removed(tmp_path: Path, stem: str) -> None:
    with atomic_path(tmp_path / f"{stem}.h5") as partial:
        partial.write_text("whole")
        name = partial.name
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}.h5"]
    assert len(name.encode()) <= 255
    (tmp_path / name).write_text("half")
    remove_partial(tmp_path, {f"{stem}x", stem[:-1]})
    assert (tmp_path / name).is_file()
    remove_partial(tmp_path, [stem])
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}.h5"]


def test_a_name_that_is_not_unicode_is_written_with_its_bytes(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ["slide"], [{"slide": "M\udcfcller.tif"}])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()[1] == "M\\udcfcller.tif"


def test_a_full_disk_is_said_with_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: .*a\.csv'"), atomic_path(tmp_path / "a.csv"):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.csv"):
        raise OSError(errno.EIO, "Input/output error")
    assert caught.value.filename is None, "it may be that of a file that is read"


def test_a_file_that_hdf5_names_is_known_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, atomic_path(tmp_path / "a.h5") as partial:
        raise OSError(
            f"can't write (filename = '{partial}', errno = {errno.EIO}, error message = 'Input/output error')"
        )
    assert caught.value.filename == str(tmp_path / "a.h5")


def test_a_file_that_may_not_grow_so_large_is_no_room() -> None:
    """As on FAT32, or under ulimit -f."""
    assert storage_reason(OSError(errno.EFBIG, "File too large")) == "File too large"


@pytest.mark.parametrize(("path", "folder", "expected"), [
    ("data/a.tif", "work/splits", "../../project/data/a.tif"),
    ("data/a.tif", "out", "../data/a.tif"),
    ("named/a.tif", "out", "../named/a.tif"),
    ("work/b.tif", "work/splits", "../b.tif"),
    ("work/splits/../../project/data/a.tif", "out", "../data/a.tif"),
])  # fmt: skip
def test_a_relative_path_leads_there_though_folders_are_links(
    tmp_path: Path, path: str, folder: str, expected: str
) -> None:
    project = tmp_path / "project"
    for name in ("project/data", "scratch/splits", "project/out"):
        (tmp_path / name).mkdir(parents=True)
    (project / "work").symlink_to(tmp_path / "scratch")
    (project / "named").symlink_to("data")
    for name in ("data/a.tif", "work/b.tif"):
        (project / name).touch()
    found = relative_to(project / path, project / folder)
    assert found == expected
    assert (project / folder / found).samefile(project / path)
