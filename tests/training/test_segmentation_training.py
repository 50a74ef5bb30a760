"""The stages from a lesion mask to the score of a segmentation's maps."""

from pathlib import Path
from typing import Any

import nibabel
import pytest
import tifffile
import torch
from tiny_flow import ON_CPU, cause_of, last_weights, run_config
from training.embedding_files import CHANNELS, STEP_PX, write_dataset
from training.masked_dataset import predictions_and_score, write_masked_dataset

from scripts.dsnet.segmentation import DSNetSegmentation
from scripts.training.card import read_card

FILES = ("train.yaml", "segment_train.yaml")


def segment(dataset: Path, output: Path, **options: Any) -> None:
    defaults = {"max_epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "mask_px": STEP_PX, **ON_CPU}
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "segmentation.pt"}
    run_config(*FILES, run_id="training", **folders, **defaults | options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_masked_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("segmented")
    segment(dataset, output)
    return output


def test_the_card_says_what_was_trained_and_chosen(trained: Path) -> None:
    card = read_card(trained / "segmentation.pt")
    assert card.architecture == "DSNetSegmentation"
    assert card.training["selection"].startswith("epoch of highest validation Dice")
    assert card.temperature == 1 and card.temperature_from is None
    network = DSNetSegmentation(**card.network)
    network.load_state_dict(torch.load(trained / "segmentation.pt", weights_only=True))
    assert network.standardise.deviation.unique().numel() == CHANNELS


def test_the_same_seed_gives_the_same_weights_and_resuming_the_same_bits(
    dataset: Path, trained: Path, tmp_path: Path
) -> None:
    segment(dataset, tmp_path / "stopped", max_epochs=1)
    segment(dataset, tmp_path / "stopped", max_epochs=2, resume=True)
    segment(dataset, tmp_path / "other", seed=1)
    first, resumed, other = (last_weights(output) for output in (trained, tmp_path / "stopped", tmp_path / "other"))
    assert all(torch.equal(first[name], resumed[name]) for name in first)
    assert not torch.equal(first["head.lesion.weight"], other["head.lesion.weight"])
    for name in ("segmentation.pt", "segmentation.json"):
        assert (trained / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes()


def test_resuming_with_other_targets_is_refused(dataset: Path, trained: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        segment(dataset, trained, resume=True, max_epochs=3, lesion_from=2)
    assert "made for another request (lesion_from was 1, now 2; targets" in str(cause_of(caught.value))


def test_memory_saved_changes_nothing(dataset: Path, trained: Path, tmp_path: Path) -> None:
    segment(dataset, tmp_path, **{"checkpointing#enabled": True})
    plain, saving = last_weights(trained), last_weights(tmp_path)
    assert all(torch.equal(plain[name], saving[name]) for name in plain)


def test_from_the_trained_network_to_the_score_of_its_maps(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Evaluation, inference and localisation take it as they take a classifier; a slide's probability is the map's maximum."""
    predictions, report = predictions_and_score(dataset, trained / "segmentation.pt", tmp_path)
    for row in predictions:
        volume = nibabel.load(tmp_path / "out" / row["slide_id"] / "cam.nii.gz")
        assert volume.get_fdata().max() == pytest.approx(float(row["p_1"]), rel=1e-5)
        with tifffile.TiffFile(tmp_path / "out" / row["slide_id"] / "cam.ome.tif") as tiff:
            assert 'Name="Lesion map, 1"' in str(tiff.ome_metadata), "no class activation map"
    assert (report["slides"], report["lesions"], report["map"]) == (2, 1, "probability")
    assert 0 <= report["cell_auc"]["value"] <= 1


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    with pytest.raises(RuntimeError):
        segment(dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
