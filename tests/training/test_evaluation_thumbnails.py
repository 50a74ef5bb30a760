"""A trained network has the same T of each slide in an evaluation as in an inference, whatever other slides lack."""

import logging
import shutil
from pathlib import Path

import pytest
from tiny_flow import ON_CPU, SMALL_NETWORK, read_rows, run_config
from training.embedding_files import write_dataset, write_embedding

from scripts.common.errors import RequestError
from scripts.training.card import read_card
from scripts.training.training_table import EmbeddingTable


@pytest.fixture(scope="module", params=[2, 3], ids="levels_{}".format)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, and in ``out`` a network that was trained on it with so many levels of T."""
    dataset = write_dataset(tmp_path_factory.mktemp("dataset"))
    options = {"dataset_dir": dataset, "output_dir": dataset / "out", "max_epochs": 1, "table#levels": request.param}
    run_config("train.yaml", run_id="training", **options, **SMALL_NETWORK, **ON_CPU)
    return dataset


def without_thumbnail(trained: Path, folder: Path, slide_id: str) -> Path:
    shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("out"))
    columns = 5 + int(slide_id[-1])
    seed = {"train": 0, "val": 4, "test": 8}[slide_id[:-2]] + int(slide_id[-1])
    write_embedding(folder / f"{slide_id}.h5", shape_yx=(6, columns), levels=None, seed=seed)
    return folder


@pytest.mark.parametrize("lacking", ["test_0", "train_0"])
def test_evaluating_says_what_inference_says(
    trained: Path, tmp_path: Path, lacking: str, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = without_thumbnail(trained, tmp_path / "dataset", lacking)
    options = {"dataset_dir": dataset, "model": trained / "out" / "model.pt", **ON_CPU}
    with caplog.at_level(logging.INFO):
        run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **options)
    told = "1 slides have no thumbnail and no slide file: they are judged by their embeddings alone"
    assert (told in caplog.text) == (lacking == "test_0")
    run_config(
        "inference.yaml", run_id="inference", output_dir=tmp_path / "out", split="test", heat_maps=False, **options
    )
    evaluated, inferred = (read_rows(tmp_path / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred
    assert [row["slide_id"] for row in evaluated if float(row["stream_score"]) == 1] == (
        ["test_0"] if lacking == "test_0" else []
    )


def test_test_slides_that_do_not_serve_the_model_are_counted(trained: Path, tmp_path: Path) -> None:
    card = read_card(trained / "out" / "model.pt")
    shutil.copytree(trained, tmp_path / "dataset", ignore=shutil.ignore_patterns("out"))
    write_embedding(tmp_path / "dataset" / "train_0.h5", channels=9, levels=1)
    assert len(EmbeddingTable(tmp_path / "dataset", card=card).items("test")) == 2
    write_embedding(tmp_path / "dataset" / "test_1.h5", channels=9)
    with pytest.raises(
        RequestError, match=r"1 of 2 slides do not serve the model; the first: .*test_1\.h5: 9 channels, expected 8"
    ):
        EmbeddingTable(tmp_path / "dataset", card=card).items("test")
    write_embedding(tmp_path / "dataset" / "test_0.h5", levels=1)
    with pytest.raises(
        RequestError, match=r"2 of 2 slides do not .*test_0\.h5: a thumbnail of 1 levels, expected the [23]"
    ):
        EmbeddingTable(tmp_path / "dataset", card=card).items("test")
