"""Feature files of other tools train DSNet where they lie."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from encoding.other_tools import features_of, write_clam, write_trident
from tiny_flow import ON_CPU, run_config
from training.embedding_files import write_table

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.training.card import read_card
from scripts.training.training_table import EmbeddingTable

SPLITS = ("train", "train", "train", "train", "val", "val", "test", "test")


def write_features(folder: Path, *, channels: int, tool: str = "trident") -> Path:
    """Write the features of eight slides that are not there, two classes in turn."""
    for index in range(len(SPLITS)):
        grid_yx = np.argwhere(np.ones((5, 4 + index % 3), dtype=bool))
        features = features_of(len(grid_yx), channels, mean=0.3 * (index % 2), seed=index)
        if tool == "trident":
            write_trident(folder / f"s{index}.h5", grid_yx, features.astype(np.float16))
        else:
            write_clam(folder / f"s{index}.h5", grid_yx[:, ::-1] * 256, features)
    return folder


def write_slides(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return write_table(
        folder,
        [{"slide": f"wsi/s{index}.svs", "label": index % 2, "split": split} for index, split in enumerate(SPLITS)],
    )


@pytest.mark.parametrize(("channels", "tool"), [(1536, "trident"), (1024, "clam")])
def test_they_train_and_are_evaluated_where_they_lie(tmp_path: Path, channels: int, tool: str) -> None:
    """The table lies elsewhere; V's channels follow the data."""
    layout = "job/20x_256px_0px_overlap/features_uni_v1" if tool == "trident" else "FEATURES/h5_files"
    features = write_features(tmp_path / layout, channels=channels, tool=tool)
    folders = {
        "dataset_dir": features,
        "slides": write_slides(tmp_path / "table") / "slides.csv",
        "model": tmp_path / "model.pt",
    }
    run_config("train.yaml", run_id="training", output_dir=tmp_path / "log", max_epochs=1, **folders, **ON_CPU)
    card = read_card(tmp_path / "model.pt")
    assert card.network["embedding_channels"] == channels
    assert card.network["thumbnail_stream"] is False  # the slides are not there
    assert card.encoder == ("uni_v1" if tool == "trident" else "unknown")
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **folders, **ON_CPU)
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text())["n_positive"] == 1
    assert sorted(path.name for path in features.iterdir()) == [f"s{index}.h5" for index in range(8)]


@pytest.mark.parametrize("channels", [384, 2560])
def test_the_network_takes_any_width(channels: int) -> None:
    network = DSNet(embedding_channels=channels).eval()
    with torch.inference_mode():
        assert network(torch.rand(1, channels + 36, 8, 8)).shape == (1, 2)


def test_tensors_without_coordinates(tmp_path: Path) -> None:
    """CLAM's pt_files: the coordinates lie beside them, in h5_files."""
    table, features = write_slides(tmp_path / "table"), tmp_path / "pt_files"
    features.mkdir()
    for index in range(8):
        torch.save(torch.zeros(3, 4), features / f"s{index}.pt")
    with pytest.raises(
        RequestError, match=r"8 have a \.pt file, which holds no coordinates: name the folder of the \.h5 files"
    ):
        EmbeddingTable(features, slides=table / "slides.csv")


def test_features_of_two_encoders_are_refused(tmp_path: Path) -> None:
    features = write_features(tmp_path / "features", channels=8)
    write_trident(features / "s0.h5", np.array([[0, 0]]), features_of(1, 8), encoder="conch_v1")
    with pytest.raises(RequestError, match="embeddings of 2 different encoders"):
        _ = EmbeddingTable(features, slides=write_slides(tmp_path / "table") / "slides.csv").encoder
