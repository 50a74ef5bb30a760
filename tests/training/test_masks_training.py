"""The stages from masks of some of the slides to the score of the maps of the network that learnt from them."""

from pathlib import Path
from typing import Any

import pytest
import tifffile
import torch
from tiny_flow import ON_CPU, cause_of, last_weights, run_config
from training.embedding_files import CHANNELS, STEP_PX, write_dataset
from training.masked_dataset import predictions_and_score, write_masked_dataset

from scripts.dsnet.network import DSNet
from scripts.training.card import read_card

FILES = ("train.yaml", "recommended.yaml", "masks.yaml")


def train(dataset: Path, output: Path, *files: str, **options: Any) -> None:
    defaults = {"max_epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "mask_px": STEP_PX, **ON_CPU}
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "model.pt"}
    run_config(*(files or FILES), run_id="training", **folders, **defaults | options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked_dataset(tmp_path_factory.mktemp("dataset"), names=("train_3", "test_1"))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("masked")
    train(dataset, output)
    return output


def test_masks_teach_and_the_card_is_that_of_any_patch_head(dataset: Path, trained: Path, tmp_path: Path) -> None:
    card = read_card(trained / "model.pt")
    assert (card.architecture, card.network["head"]) == ("DSNet", "patch")
    assert card.threshold_from in ("val", "default") and (card.temperature_from == "val") == (card.temperature != 1)
    network = DSNet(**card.network)
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    assert network.standardise.deviation.unique().numel() == CHANNELS
    train(dataset, tmp_path / "weightless", **{"mask_loss#weight": 0.0})
    train(dataset, tmp_path / "without", *FILES[:2], mask_px=None)
    masked, weightless, without = (last_weights(at) for at in (trained, tmp_path / "weightless", tmp_path / "without"))
    assert all(torch.equal(weightless[name], without[name]) for name in without), "all else is as without masks"
    assert not torch.equal(masked["decoder.lesion.weight"], without["decoder.lesion.weight"])


def test_resuming_gives_the_same_bits_and_memory_saved_changes_nothing(
    dataset: Path, trained: Path, tmp_path: Path
) -> None:
    train(dataset, tmp_path / "stopped", max_epochs=1)
    train(dataset, tmp_path / "stopped", max_epochs=2, resume=True, **{"checkpointing#enabled": True})
    first, resumed = last_weights(trained), last_weights(tmp_path / "stopped")
    assert all(torch.equal(first[name], resumed[name]) for name in first)
    for name in ("model.pt", "model.json"):
        assert (trained / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "name"), [({"mask_px": STEP_PX + 1}, "mask_px"), ({"mask_loss#weight": 2.0}, "mask_loss#weight")]
)
def test_resuming_with_other_masks_is_refused(
    dataset: Path, trained: Path, changes: dict[str, float], name: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        train(dataset, trained, resume=True, max_epochs=3, **changes)
    assert f"made for another request ({name} was " in str(cause_of(caught.value))


@pytest.mark.parametrize(
    "files",
    [FILES, ("train.yaml", "segment_train.yaml"), ("train.yaml", "baselines/wang.yaml")],
    ids=lambda files: files[-1],
)
def test_a_training_tells_of_masks_without_a_lesion_cell(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, files: tuple[str, ...]
) -> None:
    dataset = write_masked_dataset(tmp_path / "dataset", names=("train_3", "val_1"))
    train(dataset, tmp_path / "out", *files, max_epochs=1, lesion_from=2)
    positive = 2 if "segment_train.yaml" in files else 1  # which takes masks of val, too
    assert f"{positive} of {positive} positive slides have a mask without a lesion cell" in caplog.text


def test_the_plan_of_a_training_with_masks(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(dataset, tmp_path, dry_run=True)
    assert "timed now" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_from_the_trained_network_to_the_score_of_its_maps(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Evaluation, inference and localisation take it as they take any network that decides at the patch."""
    predictions, report = predictions_and_score(dataset, trained / "model.pt", tmp_path)
    for row in predictions:
        with tifffile.TiffFile(tmp_path / "out" / row["slide_id"] / "cam.ome.tif") as tiff:
            assert 'Name="Patch map, 1"' in str(tiff.ome_metadata), "no class activation map"
    assert (report["slides"], report["lesions"], report["map"]) == (2, 1, "probability")
    assert 0 <= report["cell_auc"]["value"] <= 1


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    with pytest.raises(RuntimeError) as caught:
        train(dataset, tmp_path / "out")
    assert "has a mask" in str(cause_of(caught.value))
    assert not (tmp_path / "out").exists()
