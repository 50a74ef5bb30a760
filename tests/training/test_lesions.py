import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.losses import DiceCELoss
from monai.transforms import Compose, RandFlipd, RandRotate90d
from PIL import Image
from training.embedding_files import STEP_PX, write_dataset
from training.observed_slides import slide_of

from scripts.common.errors import RequestError
from scripts.dsnet.segmentation import NO_TISSUE_LOGIT
from scripts.training.batches import PadCollate
from scripts.training.lesions import IGNORED, LesionLoss, LesionTargets
from scripts.training.segmenting import CellDice
from scripts.training.training_table import EmbeddingTable
from scripts.training.transforms import LoadEmbeddingd, RandTrimd


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data")


def write_masks(folder: Path, names: list[str]) -> Path:
    """Masks of six rows and 5 + index columns, one pixel per cell, with the lesion in the first two rows."""
    folder.mkdir(exist_ok=True)
    for name in names:
        pixels = np.zeros((6, 5 + int(name[-1])), dtype=np.uint8)
        pixels[:2] = 255
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def target_of(targets: LesionTargets, slide_id: str, split: str = "train") -> torch.Tensor:
    (item,) = (item for item in targets.items(split) if item["slide_id"] == slide_id)
    return targets.transform()(LoadEmbeddingd()(item))["lesion"]


def test_targets_from_masks(dataset: Path, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", ["train_1", "train_3", "val_1", "val_3"])
    targets = LesionTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    assert [item["slide_id"] for item in targets.items("train")] == [f"train_{index}" for index in range(4)]
    lesion = target_of(targets, "train_3")
    assert lesion.shape == (1, 6, 8) and lesion.dtype == torch.int8
    assert (lesion[:, :2] == 1).all() and (lesion[:, 2:] == 0).all()
    assert (target_of(targets, "train_0") == 0).all()


def test_masks_without_a_lesion_cell_are_counted(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the splits that are learnt from and validated on, together."""
    masks = write_masks(tmp_path / "masks", ["train_1", "train_3", "val_1", "val_3"])
    Image.fromarray(np.zeros((6, 8), dtype=np.uint8)).save(masks / "val_3.png")
    targets = LesionTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    items = targets.items("train") + targets.items("val")
    targets.transform()(LoadEmbeddingd()(next(item for item in items if item["label"] == 1)))
    assert not caplog.messages
    trainer = Engine(lambda engine, batch: None)
    targets.cells.attach(trainer)
    trainer.run([0])
    (warning,) = caplog.messages
    assert warning.startswith("1 of 4 positive slides have a mask without a lesion cell")


def test_unobserved_cells_are_ignored(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    targets = LesionTargets(
        EmbeddingTable(dataset), masks=write_masks(tmp_path / "masks", ["train_1"]), mask_px=STEP_PX
    )
    item = LoadEmbeddingd()(targets.items("train")[1])
    item["places"][0, 1, 2] = 0
    lesion = targets.transform()(item)["lesion"]
    assert lesion[0, 1, 2] == IGNORED and (lesion == IGNORED).sum() == 1


def test_positive_slides_without_a_mask_are_left_out(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = write_masks(tmp_path / "masks", ["train_1"])
    targets = LesionTargets(EmbeddingTable(dataset), masks=masks, mask_px=STEP_PX)
    assert [item["slide_id"] for item in targets.items("train")] == ["train_0", "train_1", "train_2"]
    assert "1 of 2 positive slides have no mask and are left out of train" in caplog.text
    with pytest.raises(RequestError, match=r"no slide of class 1 in split 'val' has a mask.*--masks"):
        targets.items("val")


def test_what_is_refused(dataset: Path) -> None:
    with pytest.raises(RequestError, match=re.escape("3 classes, expected 2")):
        LesionTargets(EmbeddingTable(dataset, classes=["0", "1", "2"]))


def test_the_digest_knows_the_masks_of_a_segmentation(dataset: Path, tmp_path: Path) -> None:
    table = EmbeddingTable(dataset)
    masks = write_masks(tmp_path / "masks", ["train_1"])
    digests = [
        LesionTargets(table).digest(),
        LesionTargets(table, masks=masks).digest(),
        LesionTargets(table, masks=masks, lesion_from=2).digest(),
    ]
    Image.fromarray(np.ones((6, 6), dtype=np.uint8)).save(masks / "train_1.png")
    digests.append(LesionTargets(table, masks=masks).digest())
    assert len(set(digests)) == len(digests)
    assert LesionTargets(table, masks=masks).digest() == digests[-1]
    write_masks(masks, ["test_1"])
    assert LesionTargets(table, masks=masks).digest() == digests[-1], "a mask that no training reads"


def test_augmentation_moves_all_maps_together() -> None:
    """A target that repeats the places, and the thumbnail that repeats it twice as large, still do."""
    keys = ["places", "t", "lesion"]
    augment = Compose(
        [
            RandFlipd(keys=keys, prob=0.5, spatial_axis=0),
            RandFlipd(keys=keys, prob=0.5, spatial_axis=1),
            RandRotate90d(keys=keys, prob=0.75, max_k=3),
            RandTrimd(keys=keys),
        ]
    )
    augment.set_random_state(seed=0)
    places = 1 + torch.arange(9 * 13, dtype=torch.int32).reshape(1, 9, 13)
    shapes = set()
    for _ in range(10):
        twice = places.repeat_interleave(2, 1).repeat_interleave(2, 2)
        item = augment({"places": places, "t": twice, "lesion": places.short()})
        moved = torch.as_tensor(item["places"])
        torch.testing.assert_close(torch.as_tensor(item["lesion"]).int(), moved)
        torch.testing.assert_close(torch.as_tensor(item["t"])[:, ::2, ::2], moved)
        shapes.add(tuple(moved.shape))
    assert len(shapes) > 3


def test_a_batch_is_filled_up_with_ignored_cells() -> None:
    items = [
        slide_of(3, 4, lesion=torch.ones(1, 3, 4, dtype=torch.int8)),
        slide_of(5, 2, lesion=torch.zeros(1, 5, 2, dtype=torch.int8)),
    ]
    batch = PadCollate({"lesion": IGNORED})(items)
    assert batch["lesion"].shape == (2, 1, 5, 4)
    assert (batch["lesion"][0, :, 3:] == IGNORED).all() and (batch["lesion"][1, :, :, 2:] == IGNORED).all()
    assert items[0]["lesion"].shape == (1, 3, 4)


def test_the_loss_sees_known_cells_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 4, 5, generator=generator, requires_grad=True)
    target = torch.randint(-1, 2, (2, 1, 4, 5), generator=generator).to(torch.int8)
    known = target != IGNORED
    loss = LesionLoss()(logits, target)
    expected = DiceCELoss(sigmoid=True)(logits[known][None, None], target[known][None, None].float())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()


def test_a_patch_that_was_left_out_by_chance_costs_nothing() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 1, 4, 5), torch.zeros(1, 1, 4, 5, dtype=torch.int8)
    target[..., :2] = 1
    logits[0, 0, 1, 1:4] = NO_TISSUE_LOGIT
    unknown = target.clone()
    unknown[0, 0, 1, 1:4] = IGNORED
    assert LesionLoss()(logits, target) == LesionLoss()(logits, unknown)


def test_the_metric_counts_all_slides_together() -> None:
    """Ten cells called rightly, two falsely on the slide without lesion, three missed, one ignored."""
    lesions = [torch.zeros(1, 4, 5, dtype=torch.int8), torch.zeros(1, 4, 5, dtype=torch.int8)]
    logits = [torch.full((1, 4, 5), -5.0) for _ in lesions]
    lesions[0].view(-1)[:13] = 1
    logits[0].view(-1)[:10] = 5
    logits[1].view(-1)[:3] = 5
    lesions[1].view(-1)[0] = IGNORED
    steps = iter(zip(logits, lesions, strict=True))

    def step(engine: Engine, batch: Any) -> Any:
        of_step, target = next(steps)
        engine.state.batch = [{"slide_id": str(id(target)), "lesion": target}]
        return [{"lesion_logits": of_step}]

    engine = Engine(step)
    CellDice().attach(engine, "val_dice")
    engine.run([0, 1], max_epochs=1)
    assert engine.state.metrics["val_dice"] == pytest.approx(2 * 10 / (12 + 13))
