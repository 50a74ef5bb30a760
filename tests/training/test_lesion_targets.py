"""What lesion masks become on V's grid, and which slides teach."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.transforms import Compose, RandFlipd, RandRotate90d
from PIL import Image
from training.embedding_files import STEP_PX, write_dataset
from training.observed_slides import slide_of

from scripts.common.errors import RequestError, SlideError
from scripts.encoding.checksums import seal
from scripts.training import mask_cells
from scripts.training.batches import PadCollate
from scripts.training.lesion_targets import LESION, NO_LESION, UNKNOWN, LesionTargets, PatchTargets, SegmentationTargets
from scripts.training.training_table import EmbeddingTable
from scripts.training.transforms import LoadEmbeddingd, RandDropPatchesd, RandTrimd


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """A mask of one of the two positive training slides, train_3: one pixel per cell, with the lesion in the first two rows."""
    pixels = np.zeros((6, 8), dtype=np.uint8)
    pixels[:2] = 2
    (tmp_path / "masks").mkdir()
    Image.fromarray(pixels).save(tmp_path / "masks" / "train_3.png")
    return tmp_path / "masks"


def target_of(
    load: LesionTargets, table: EmbeddingTable, slide_id: str, unobserved: tuple[int, int] | None = None
) -> torch.Tensor:
    (item,) = (item for item in table.items("train") if item["slide_id"] == slide_id)
    item = LoadEmbeddingd()(item)
    if unobserved is not None:
        item["places"][0, unobserved[0], unobserved[1]] = 0
    found = load(item)["lesion"]
    assert isinstance(found, torch.Tensor) and found.shape[0] == 1 and found.dtype == torch.uint8
    return found[0]


def test_targets_of_slides_with_and_without_a_mask(
    dataset: Path, masks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = EmbeddingTable(dataset)
    load = PatchTargets(table, masks=masks, mask_px=STEP_PX)
    with caplog.at_level("INFO"):
        of_mask = target_of(load, table, "train_3", unobserved=(1, 2))
    assert caplog.messages == ["1 of 2 positive training slides have a mask"]
    assert of_mask.shape == (6, 8) and of_mask[1, 2] == UNKNOWN
    of_mask[1, 2] = LESION
    assert (of_mask[:2] == LESION).all() and (of_mask[2:] == NO_LESION).all()
    assert (target_of(load, table, "train_1") == UNKNOWN).all(), "positive, and nobody says where"
    negative = target_of(load, table, "train_0", unobserved=(1, 2))
    assert negative[1, 2] == UNKNOWN and (negative == NO_LESION).sum() == negative.numel() - 1


def test_masks_without_a_lesion_cell_are_counted_before_anything_is_learnt(
    dataset: Path, masks: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process that trains, before it begins; no mask is read twice."""
    read: list[str] = []
    cells = mask_cells.lesion_cells
    monkeypatch.setattr(
        mask_cells, "lesion_cells", lambda mask, *a, **k: read.append(mask.name) or cells(mask, *a, **k)
    )
    Image.fromarray(np.zeros((6, 6), dtype=np.uint8)).save(masks / "train_1.png")
    table = EmbeddingTable(dataset)
    load = PatchTargets(table, masks=masks, mask_px=STEP_PX)
    trainer = Engine(lambda engine, batch: None)
    load.cells.attach(trainer)
    target_of(load, table, "train_3")
    assert read == ["train_3.png"]
    trainer.run([0], max_epochs=2)
    for slide_id in ("train_3", "train_1", "train_3"):
        target_of(load, table, slide_id)
    assert sorted(read) == ["train_1.png", "train_3.png"]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1 and "train_1" not in warnings[0]
    assert (
        warnings[0].startswith("1 of 2 positive slides have a mask without a lesion cell")
        and "--lesion_from" in warnings[0]
    )


def test_a_mask_is_compared_with_the_slide_that_was_embedded(dataset: Path, masks: Path) -> None:
    """The slide is gone, as where only the embeddings were copied."""
    with h5py.File(dataset / "train_3.h5", "r+") as file:
        size = (8 * STEP_PX, 6 * STEP_PX)
        file.attrs.update({"slide_size_xy_px": size, "bounds_xywh_px": (0, 0, *size)})
        seal(file)
    table = EmbeddingTable(dataset)
    expected = target_of(PatchTargets(table, masks=masks, mask_px=STEP_PX), table, "train_3")
    assert torch.equal(target_of(PatchTargets(table, masks=masks), table, "train_3"), expected)
    with pytest.raises(SlideError, match=r"train_3\.png: 8 x 6 pixels, .*correct --mask_px"):
        target_of(PatchTargets(table, masks=masks, mask_px=STEP_PX // 2), table, "train_3")


def test_what_is_refused(dataset: Path, masks: Path) -> None:
    with pytest.raises(RequestError, match=r"3 classes, expected 2.*leave out the overlay.* masks\.yaml, wang\.yaml"):
        PatchTargets(EmbeddingTable(dataset, classes=["0", "1", "2"]), masks=masks)
    with pytest.raises(RequestError, match=r"no training slide of class 1 has a mask.*--masks"):
        PatchTargets(EmbeddingTable(dataset))
    (masks / "train_3.png").rename(masks / "train_2.png")
    with pytest.raises(RequestError, match="no training slide of class 1 has a mask"):
        PatchTargets(EmbeddingTable(dataset), masks=masks)


def test_the_digest_knows_the_masks(dataset: Path, masks: Path) -> None:
    table = EmbeddingTable(dataset)
    digests = [PatchTargets(table, masks=masks, lesion_from=value).digest() for value in (1, 2)]
    Image.fromarray(np.ones((6, 8), dtype=np.uint8)).save(masks / "train_3.png")
    digests.append(PatchTargets(table, masks=masks).digest())
    assert len(set(digests)) == 3
    assert PatchTargets(table, masks=masks).digest() == digests[-1]


def write_masks(folder: Path, names: list[str]) -> Path:
    """Masks of six rows and 5 + index columns, one pixel per cell, with the lesion in the first two rows."""
    folder.mkdir(exist_ok=True)
    for name in names:
        pixels = np.zeros((6, 5 + int(name[-1])), dtype=np.uint8)
        pixels[:2] = 255
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def segmented(targets: SegmentationTargets, slide_id: str, split: str = "train") -> torch.Tensor:
    (item,) = (item for item in targets.items(split) if item["slide_id"] == slide_id)
    return targets(LoadEmbeddingd()(item))["lesion"]


def test_targets_of_a_segmentation(dataset: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", ["train_1", "train_3", "val_1", "val_3"])
    targets = SegmentationTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    assert [item["slide_id"] for item in targets.items("train")] == [f"train_{index}" for index in range(4)]
    lesion = segmented(targets, "train_3")
    assert lesion.shape == (1, 6, 8) and lesion.dtype == torch.uint8
    assert (lesion[:, :2] == LESION).all() and (lesion[:, 2:] == NO_LESION).all()
    assert (segmented(targets, "train_0") == NO_LESION).all()


def test_a_segmentation_is_evaluated_on_test_slides_with_masks(dataset: Path, tmp_path: Path) -> None:
    """By segment_train.yaml with evaluate.yaml over it."""
    masks = write_masks(tmp_path / "masks", ["train_1", "test_1"])
    targets = SegmentationTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    assert [item["slide_id"] for item in targets.items("test") if item["label"] == 1] == ["test_1"]


def test_masks_of_a_segmentation_without_a_lesion_cell_are_counted(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the splits that are learnt from and validated on, together."""
    masks = write_masks(tmp_path / "masks", ["train_1", "train_3", "val_1", "val_3"])
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(masks / "val_3.png")
    targets = SegmentationTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    items = targets.items("train") + targets.items("val")
    targets(LoadEmbeddingd()(next(item for item in items if item["label"] == 1)))
    assert not caplog.messages
    trainer = Engine(lambda engine, batch: None)
    targets.cells.attach(trainer)
    trainer.run([0])
    (warning,) = caplog.messages
    assert warning.startswith("1 of 4 positive slides have a mask without a lesion cell")


def test_unobserved_cells_teach_a_segmentation_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    targets = SegmentationTargets(
        EmbeddingTable(dataset), masks=write_masks(tmp_path / "masks", ["train_1"]), mask_px=STEP_PX
    )
    item = LoadEmbeddingd()(targets.items("train")[1])
    item["places"][0, 1, 2] = 0
    lesion = targets(item)["lesion"]
    assert lesion[0, 1, 2] == UNKNOWN and (lesion == UNKNOWN).sum() == 1


def test_positive_slides_without_a_mask_are_left_out(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = write_masks(tmp_path / "masks", ["train_1"])
    targets = SegmentationTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    assert [item["slide_id"] for item in targets.items("train")] == ["train_0", "train_1", "train_2"]
    assert "1 of 2 positive slides have no mask and are left out of train" in caplog.text
    with pytest.raises(RequestError, match=r"no slide of class 1 in split 'val' has a mask.*--masks"):
        targets.items("val")


def test_a_segmentation_has_two_classes(dataset: Path) -> None:
    with pytest.raises(RequestError, match=r"3 classes, expected 2.*segment_train"):
        SegmentationTargets(EmbeddingTable(dataset, classes=["0", "1", "2"]))


def test_the_digest_knows_the_masks_of_a_segmentation(dataset: Path, tmp_path: Path) -> None:
    table = EmbeddingTable(dataset)
    masks = write_masks(tmp_path / "masks", ["train_1"])
    digests = [
        SegmentationTargets(table).digest(),
        SegmentationTargets(table, masks=masks).digest(),
        SegmentationTargets(table, masks=masks, lesion_from=2).digest(),
    ]
    Image.fromarray(np.ones((6, 6), dtype=np.uint8)).save(masks / "train_1.png")
    digests.append(SegmentationTargets(table, masks=masks).digest())
    assert len(set(digests)) == len(digests)
    assert SegmentationTargets(table, masks=masks).digest() == digests[-1]
    write_masks(masks, ["test_1"])
    assert SegmentationTargets(table, masks=masks).digest() == digests[-1], "a mask that no training reads"


def test_augmentation_moves_all_maps_together() -> None:
    """A target that repeats the places, and the thumbnail that repeats it twice as large, still do; left out patches are zero."""
    keys = ["places", "t", "lesion"]
    augment = Compose(
        [
            RandFlipd(keys=keys, prob=0.5, spatial_axis=0),
            RandFlipd(keys=keys, prob=0.5, spatial_axis=1),
            RandRotate90d(keys=keys, prob=0.75, max_k=3),
            RandTrimd(keys=keys),
            RandDropPatchesd(keys=["places", "lesion"]),
        ]
    )
    augment.set_random_state(seed=0)
    places = 1 + torch.arange(9 * 13, dtype=torch.int32).reshape(1, 9, 13)
    shapes, dropped = set(), 0
    for _ in range(10):
        twice = places.repeat_interleave(2, 1).repeat_interleave(2, 2)
        item = augment({"places": places, "t": twice, "lesion": places.short()})
        moved = torch.as_tensor(item["places"])
        torch.testing.assert_close(torch.as_tensor(item["lesion"]).int(), moved)
        torch.testing.assert_close(torch.as_tensor(item["t"])[:, ::2, ::2] * (moved != 0), moved)
        shapes.add(tuple(moved.shape))
        dropped += int((moved == 0).sum())
    assert len(shapes) > 3 and dropped


def test_a_batch_is_filled_up_with_unknown_cells() -> None:
    items = [
        slide_of(3, 4, lesion=torch.ones(1, 3, 4, dtype=torch.uint8)),
        slide_of(5, 2, lesion=torch.ones(1, 5, 2, dtype=torch.uint8)),
    ]
    batch = PadCollate({"lesion": UNKNOWN})(items)
    assert batch["lesion"].shape == (2, 1, 5, 4)
    assert (batch["lesion"][0, :, 3:] == UNKNOWN).all() and (batch["lesion"][1, :, :, 2:] == UNKNOWN).all()
    assert items[0]["lesion"].shape == (1, 3, 4)
