"""Every overlay of configs/baselines goes through training, evaluating and inference as DSNet does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_flow import CONFIGS, ON_CPU, read_rows, run_config
from training.embedding_files import STEP_PX, write_dataset

from scripts.baselines.registry import BASELINES
from scripts.training.card import network_from_card, read_card

OVERLAYS = sorted(path.stem for path in (CONFIGS / "baselines").glob("*.yaml"))
SMALLER = {"naive": 18, "tellez_resnet": 18}
MAPS = {"transmil": "Attention", "naive": None, "wang": "Patch map", "glnet": "Patch map"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def masks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masks")
    for index in range(4):  # a pixel per patch
        pixels = np.zeros((6, 5 + index), dtype=np.uint8)
        pixels[2:4, 1:4] = 255
        Image.fromarray(pixels).save(folder / f"train_{index}.png")
    return folder


def train(dataset: Path, output: Path, overlay: str, **options: Any) -> None:
    more: dict[str, Any] = {"network_def#depth": SMALLER[overlay]} if overlay in SMALLER else {}
    common = {"dataset_dir": dataset, "output_dir": output, "batch_size": 2, **ON_CPU}
    run_config(
        "train.yaml", f"baselines/{overlay}.yaml", run_id="training", **common, **{"max_epochs": 1} | more | options
    )


def test_every_network_has_an_overlay_of_its_own() -> None:
    texts = [(CONFIGS / "baselines" / f"{overlay}.yaml").read_text() for overlay in OVERLAYS]
    for network in BASELINES:
        target = f"_target_: {network.__module__}.{network.__name__}\n"
        assert sum(target in text for text in texts) == 1, network
    assert max(text.count("\n") for text in texts) < 40


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_trained_and_its_card_names_the_method(
    dataset: Path, masks: Path, tmp_path: Path, overlay: str
) -> None:
    its_own = {"wang": {"masks": masks, "mask_px": STEP_PX, "graph": True}}  # which cannot be drawn
    train(dataset, tmp_path, overlay, **its_own.get(overlay, {}))
    card = read_card(tmp_path / "model.pt")
    assert f".{card.architecture}\n" in (CONFIGS / "baselines" / f"{overlay}.yaml").read_text()
    network = network_from_card(card)
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    if overlay not in MAPS:
        return
    options = {"dataset_dir": dataset, "model": tmp_path / "model.pt", **ON_CPU}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **options)
    run_config("inference.yaml", run_id="inference", output_dir=tmp_path / "out", split="test", **options)
    evaluated, inferred = (read_rows(tmp_path / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred
    scores = list((tmp_path / "out").glob("*/scores.json"))
    assert len(scores) == (2 if MAPS[overlay] else 0)
    assert all(f'"heat_map": "{MAPS[overlay]}"' in path.read_text() for path in scores)
    run_config("report.yaml", run_id="reporting", predictions_dir=tmp_path / "out")
    assert card.architecture in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize("overlay", ["hou", "wang"])
def test_the_patchwise_methods_train_on_raw_patches(masks: Path, tmp_path: Path, overlay: str) -> None:
    """As tests/encoding/test_raw.py does with chen, from slides."""
    dataset = write_dataset(tmp_path / "raw", val=2, test=0, channels=3 * 32**2)
    options: dict[str, Any] = {"dataset_dir": dataset, "output_dir": tmp_path / "out", "max_epochs": 1, **ON_CPU}
    options |= {"masks": masks, "mask_px": STEP_PX} if overlay == "wang" else {}
    run_config("train.yaml", f"baselines/{overlay}.yaml", "raw_patches.yaml", run_id="training", **options)
    card = read_card(tmp_path / "out" / "model.pt")
    assert card.network["patch_network"] == "resnet18" and card.training["epochs"] == 1


@pytest.mark.parametrize("overlay", ["nearest_mean", "clam_sb"])
def test_resuming_gives_the_same_bits(dataset: Path, tmp_path: Path, overlay: str) -> None:
    for name, steps in (
        ("whole", ({"max_epochs": 2},)),
        ("parts", ({"max_epochs": 1}, {"max_epochs": 2, "resume": True})),
    ):
        for options in steps:
            train(dataset, tmp_path / name, overlay, average=0.5, **options)
    first, second = (torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "parts"))
    for part in ("network", "averaged"):
        assert all(torch.equal(first[part][name], value) for name, value in second[part].items()), part
    if overlay == "nearest_mean":
        assert torch.equal(first["averaged"]["means.values"], first["network"]["means.values"])
        assert first["network"]["means.values"].any()


def test_which_values_of_a_mask_are_lesion_is_an_option(dataset: Path, masks: Path, tmp_path: Path) -> None:
    options = {"dataset_dir": dataset, "output_dir": tmp_path, "masks": masks, "mask_px": STEP_PX, "lesion_from": 255}
    stage = run_config("train.yaml", "baselines/wang.yaml", run_id="training", dry_run=True, **options, **ON_CPU)
    assert stage.parser.get_parsed_content("lesions").cells.lesion_from == 255
