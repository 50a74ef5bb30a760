"""The stages from masks of some of the slides to the score of the maps of the network that learnt from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from tiny_flow import ON_CPU, read_rows, run_config
from torch import Tensor
from training.embedding_files import CHANNELS, STEP_PX, write_dataset

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.training.card import read_card

FILES = ("train.yaml", "recommended.yaml", "masks.yaml")


def train(dataset: Path, output: Path, *files: str, **options: Any) -> None:
    defaults = {"max_epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "mask_px": STEP_PX, **ON_CPU}
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "model.pt"}
    run_config(*(files or FILES), run_id="training", **folders, **defaults | options)


def state_of(output: Path) -> dict[str, Tensor]:
    return torch.load(output / "log" / "last.pt", weights_only=True)["network"]


def cause_of(error: BaseException | None) -> str:
    while error is not None and not isinstance(error, RequestError):
        error = error.__cause__ or error.__context__
    return str(error)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table names masks of train_3 and of the positive test slide: the first two rows are lesion."""
    folder = write_dataset(tmp_path_factory.mktemp("dataset"))
    (folder / "masks").mkdir()
    lines = (folder / "slides.csv").read_text().splitlines()
    for index, line in enumerate(lines[1:], start=1):
        name = line.split(".tif,")[0]
        if name in ("train_3", "test_1"):
            pixels = np.zeros((6, 5 + int(name[-1])), dtype=np.uint8)
            pixels[:2] = 1
            Image.fromarray(pixels).save(folder / "masks" / f"{name}.png")
            lines[index] = f"{line},masks/{name}.png"
        else:
            lines[index] = f"{line},"
    (folder / "slides.csv").write_text("\n".join([f"{lines[0]},mask", *lines[1:], ""]))
    return folder


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("masked")
    train(dataset, output)
    return output


def test_masks_teach_and_the_card_is_that_of_any_patch_head(dataset: Path, trained: Path, tmp_path: Path) -> None:
    card = read_card(trained / "model.pt")
    assert (card.architecture, card.network["head"]) == ("DSNet", "patch")
    assert card.threshold_from in ("val", "default") and card.temperature_from == "val"
    network = DSNet(**card.network)
    network.load_state_dict(torch.load(trained / "model.pt", weights_only=True))
    assert network.standardise.deviation.unique().numel() == CHANNELS
    train(dataset, tmp_path / "weightless", **{"mask_loss#weight": 0.0})
    train(dataset, tmp_path / "without", *FILES[:2], mask_px=None)
    masked, weightless, without = (state_of(at) for at in (trained, tmp_path / "weightless", tmp_path / "without"))
    assert all(torch.equal(weightless[name], without[name]) for name in without), "all else is as without masks"
    assert not torch.equal(masked["decoder.lesion.weight"], without["decoder.lesion.weight"])


def test_resuming_gives_the_same_bits_and_memory_saved_changes_nothing(
    dataset: Path, trained: Path, tmp_path: Path
) -> None:
    train(dataset, tmp_path / "stopped", max_epochs=1)
    train(dataset, tmp_path / "stopped", max_epochs=2, resume=True, **{"checkpointing#enabled": True})
    first, resumed = state_of(trained), state_of(tmp_path / "stopped")
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
    assert f"made for another request ({name} was " in cause_of(caught.value)


def test_the_plan_of_a_training_with_masks(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(dataset, tmp_path, dry_run=True)
    assert "timed now" in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_from_the_trained_network_to_the_score_of_its_maps(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Evaluation, inference and localisation take it as they take any network that decides at the patch."""
    common = {"dataset_dir": dataset, "model": trained / "model.pt", **ON_CPU}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **common)
    run_config("inference.yaml", run_id="inference", output_dir=tmp_path / "out", split="test", **common)
    evaluated, inferred = (read_rows(tmp_path / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred and len(inferred) == 2
    for row in inferred:
        with tifffile.TiffFile(tmp_path / "out" / row["slide_id"] / "cam.ome.tif") as tiff:
            assert 'Name="Patch map, 1"' in str(tiff.ome_metadata), "no class activation map"
    run_config(
        "localise.yaml",
        run_id="localising",
        predictions_dir=tmp_path / "out",
        dataset_dir=dataset,
        output_dir=tmp_path / "score",
        split="test",
        map="probability",
        mask_px=STEP_PX,
        resamples=20,
    )
    report = json.loads((tmp_path / "score" / "localisation.json").read_text())
    assert (report["slides"], report["lesions"], report["map"]) == (2, 1, "probability")
    assert 0 <= report["cell_auc"]["value"] <= 1


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    with pytest.raises(RuntimeError) as caught:
        train(dataset, tmp_path / "out")
    assert "has a mask" in cause_of(caught.value)
    assert not (tmp_path / "out").exists()
