import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_flow import ON_CPU, cause_of, run_config
from training.embedding_files import write_dataset, write_embedding, write_foreign, write_table

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.training.leakage import fingerprints, refuse_leaks, refuse_seen
from scripts.training.model_card import ModelCard
from scripts.training.training_table import EmbeddingTable

GRID = np.argwhere(np.ones((5, 4), dtype=bool))


@pytest.mark.parametrize("foreign", [False, True])
def test_one_slide_under_two_names_is_refused(tmp_path: Path, foreign: bool) -> None:
    write_dataset(tmp_path)
    if foreign:
        for seed, path in enumerate(sorted(tmp_path.glob("*.h5"))):
            write_foreign(path, GRID, seed=seed)
    refuse_leaks(EmbeddingTable(tmp_path))
    shutil.copy(tmp_path / "train_1.h5", tmp_path / "test_1.h5")
    with pytest.raises(
        RequestError,
        match=r"slides\.csv: slides train_1 \(split train\) and test_1 \(split test\) have the same embedding.*remove one",
    ):
        refuse_leaks(EmbeddingTable(tmp_path))


def test_a_choice_by_test_slides_is_refused(tmp_path: Path) -> None:
    """By the recipe as by the option: its run list says which slides are validated."""
    write_dataset(tmp_path / "data")
    with pytest.raises(RequestError, match=r"validate#split is 'test': .* by the slides of split val alone"):
        refuse_leaks(EmbeddingTable(tmp_path / "data"), validated="test")
    options = {
        "dataset_dir": tmp_path / "data",
        "output_dir": tmp_path / "log",
        "model": tmp_path / "model.pt",
        "max_epochs": 1,
    }
    with pytest.raises(RuntimeError) as caught:
        run_config("train.yaml", run_id="training", **options, **ON_CPU, **{"validate#split": "test"})
    assert "validate#split is 'test'" in str(cause_of(caught.value))
    assert not (tmp_path / "log").exists() and not (tmp_path / "model.pt").exists()


def test_copies_within_a_split_and_outside_all_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = []
    for name, split in (("a", "train"), ("b", "train"), ("c", "")):
        write_embedding(tmp_path / f"{name}.h5")
        rows.append({"slide": f"{name}.tif", "label": 1, "split": split})
    refuse_leaks(EmbeddingTable(write_table(tmp_path, rows)))
    assert "1 slides have the embedding of another slide, and count twice" in caplog.text


@pytest.mark.parametrize("split", ["train", "test"])
def test_one_slide_of_two_labels_is_refused(tmp_path: Path, split: str) -> None:
    for name in ("a", "b"):
        write_embedding(tmp_path / f"{name}.h5")
    rows = [{"slide": f"{name}.tif", "label": label, "split": split} for name, label in (("a", 0), ("b", 1))]
    table = EmbeddingTable(write_table(tmp_path, rows))
    message = r"slides a \(label 0\) and b \(label 1\) have the same embedding"
    with pytest.raises(RequestError, match=message):
        refuse_leaks(table)
    unaware = ModelCard(class_names=("0", "1"), threshold=0.5, threshold_from="val", encoder=None, network={})
    with pytest.raises(RequestError, match=message) if split == "test" else nullcontext():
        refuse_seen(unaware, table)


def test_a_patient_in_two_splits_is_named_whatever_table_is_given(tmp_path: Path) -> None:
    """Also that of a fold, and also where the slides have no embedding yet."""
    write_dataset(tmp_path / "data")
    fold = tmp_path / "fold0.csv"
    fold.write_text("slide,label,split,patient\ndata/train_0.tif,0,train,ann\ndata/test_0.tif,0,test,ann\n")
    with pytest.raises(
        RequestError,
        match=r"fold0\.csv: patient ann is in split train with .*train_0\.tif and in test with .*test_0\.tif",
    ):
        EmbeddingTable(tmp_path / "data", slides=fold)


def test_a_test_slide_that_the_model_was_trained_on(tmp_path: Path) -> None:
    table = EmbeddingTable(write_dataset(tmp_path / "data"))
    unaware = ModelCard(
        class_names=("0", "1"), threshold=0.5, threshold_from="val", encoder=None, network=DSNet().arguments
    )
    card = replace(unaware, seen={split: " ".join(fingerprints(table, split)) for split in ("train", "val")})
    refuse_seen(card, table)
    refuse_seen(unaware, table)  # a card of before says nothing
    fold = tmp_path / "fold1.csv"
    fold.write_text("slide,label,split\ndata/train_0.tif,0,train\ndata/test_0.tif,0,test\ndata/val_1.tif,1,test\n")
    with pytest.raises(
        RequestError, match=r"fold1\.csv: slide val_1 is in split test, but was in val when the model was trained"
    ):
        refuse_seen(card, EmbeddingTable(tmp_path / "data", slides=fold))
