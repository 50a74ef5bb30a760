import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, RandFlipd, ScaleIntensityRanged

from scripts.common.errors import RequestError
from scripts.patches.dataset import PatchDataset
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import fingerprint, open_patches, patch_writer

PATCHES = np.random.default_rng(0).integers(0, 256, (150, 112, 112, 3)).astype(np.uint8)


def write(path: Path, *counts: int) -> Path:
    """Write the first patches as slides of ``counts`` patches each."""
    start = 0
    with patch_writer(path, {"seed": 3}) as append:
        for slide, count in enumerate(counts):
            kept = slice(start, start + count)
            numbers = np.arange(150)[kept]
            append(
                f"slide-{slide}", SlideSample(PATCHES[kept], np.stack([numbers, -numbers], 1), numbers % 2 == 0, 9, "")
            )
            start += count
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path / "patches.h5", 70, 0, 80)


@pytest.fixture(params=[4.0, 0.0], ids=["in memory", "from the file"])
def dataset(request: pytest.FixtureRequest, path: Path) -> PatchDataset:
    return PatchDataset(path, memory_gb=request.param)


def test_file_holds_the_samples_one_after_the_other(path: Path) -> None:
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["patches"], PATCHES)
        np.testing.assert_array_equal(file["coords"][:, 1], -np.arange(150))
        assert file["rich"].dtype == bool
        assert file["rich"][:].sum() == 75
        assert list(file["slide_id"].asstr()) == ["slide-0"] * 70 + ["slide-2"] * 80
        assert dict(file.attrs) == {"format": "dsnet-patches/1", "seed": 3}
        assert file["patches"].chunks == (1, 112, 112, 3)


@pytest.mark.parametrize("memory_gb", [4.0, 0.0], ids=["in memory", "from the file"])
@pytest.mark.parametrize("column", ["patches", "coords"])
def test_a_flipped_bit_of_a_patch_is_found(path: Path, memory_gb: float, column: str) -> None:
    with h5py.File(path) as file:
        at = file[column].id.get_chunk_info(0).byte_offset + 100
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)
    with pytest.raises(RequestError, match=r"patches.h5: damaged .*sample anew"):
        fingerprint(path)
    if column == "patches":
        with pytest.raises(RequestError, match=r"patches.h5: damaged .*sample anew"):
            PatchDataset(path, memory_gb=memory_gb)[0]


def test_fingerprints_tell_files_apart(path: Path, tmp_path: Path) -> None:
    """The same patches in the same places, but of other slides, are other patches."""
    assert fingerprint(path) == fingerprint(write(tmp_path / "again.h5", 70, 0, 80))
    others = [fingerprint(write(tmp_path / "other.h5", *counts)) for counts in ((70, 0, 79), (80, 0, 70))]
    assert len({fingerprint(path), *others}) == 3


def test_a_file_that_was_not_finished_is_not_there(tmp_path: Path) -> None:
    def interrupted() -> None:
        with patch_writer(tmp_path / "patches.h5", {}):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_items_are_channel_first_bytes(dataset: PatchDataset) -> None:
    assert len(dataset) == 150
    for index in (0, 69, 70, 149, -1):
        item = dataset[index]
        assert set(item) == {"image"}
        assert item["image"].dtype == torch.uint8
        np.testing.assert_array_equal(item["image"].numpy(), PATCHES[index].transpose(2, 0, 1))
    with pytest.raises(IndexError, match="patch 150 of 150"):
        dataset[150]


def test_changing_an_item_leaves_the_patches(dataset: PatchDataset) -> None:
    dataset[5]["image"].zero_()
    np.testing.assert_array_equal(dataset[5]["image"].numpy(), PATCHES[5].transpose(2, 0, 1))


def test_transforms_are_applied(path: Path) -> None:
    scale = ScaleIntensityRanged("image", a_min=0, a_max=255, b_min=0, b_max=1)
    dataset = PatchDataset(path, Compose([RandFlipd("image", prob=1.0, spatial_axis=1), scale]))
    expected = PATCHES[7].transpose(2, 0, 1)[..., ::-1] / 255
    np.testing.assert_allclose(np.asarray(dataset[7]["image"]), expected, atol=1e-6)


def test_workers_give_the_same_patches(dataset: PatchDataset) -> None:
    dataset[0]  # opens the file in this process
    images = torch.cat([batch["image"] for batch in DataLoader(dataset, batch_size=32, num_workers=2)])
    np.testing.assert_array_equal(images.numpy(), PATCHES.transpose(0, 3, 1, 2))


def test_a_forked_process_opens_the_file_for_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = PatchDataset(path, memory_gb=0)
    opened = []
    monkeypatch.setattr("scripts.patches.dataset.open_patches", lambda path: opened.append(path) or open_patches(path))
    for expected in (1, 1, 2, 2):
        monkeypatch.setattr("scripts.patches.dataset.os.getpid", lambda pid=expected: pid)
        np.testing.assert_array_equal(dataset[9]["image"].numpy(), PATCHES[9].transpose(2, 0, 1))
        assert len(opened) == expected


def test_pickled_copy_is_small_and_reads_the_file(dataset: PatchDataset) -> None:
    dataset[0]
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 10_000
    np.testing.assert_array_equal(pickle.loads(pickled)[140]["image"].numpy(), PATCHES[140].transpose(2, 0, 1))


def _text(path: Path) -> None:
    path.write_text("no HDF5")


def _other(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "no such file"),
        (_text, "not readable .*; expected a file of patches: make it with"),
        (_other, "format None"),
        (lambda path: write(path, 0), "no patch in it"),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path: Path, make: Callable[[Path], object], problem: str) -> None:
    make(tmp_path / "x.h5")
    with pytest.raises(RequestError, match=rf"x\.h5: {problem}.*sample\.yaml"):
        PatchDataset(tmp_path / "x.h5")
