"""Slides without T under networks that see nothing else: none is judged, and each is told of."""

from pathlib import Path
from typing import Any

import pytest
from encoding.encoding_requests import job_of
from encoding.painted import MeanEncoder
from tiny_flow import ON_CPU, read_rows, run_config
from training.embedding_files import CHANNELS, write_dataset, write_embedding, write_table

from scripts.baselines.registry import BASELINES
from scripts.common.errors import RequestError, SlideError
from scripts.dsnet.baseline import Baseline
from scripts.dsnet.network import DSNet
from scripts.inference.slide_set import InferenceSet
from scripts.training.model_card import ModelCard
from scripts.training.training_table import EmbeddingTable

SEE_T = [kind for kind in BASELINES if kind.sees_thumbnail]
DO_WITHOUT = [DSNet, *(kind for kind in BASELINES if not kind.sees_thumbnail)]
REASON = (
    r"bare\.h5: no thumbnail, and no slide file to make it from; expected one of them, as {} judges no slide without: "
)


def card_of(kind: type[Any]) -> ModelCard:
    network = {"embedding_channels": CHANNELS, "thumbnail_levels": 3, "thumbnail_stream": kind in (DSNet, *SEE_T)}
    return ModelCard(
        class_names=("0", "1"),
        threshold=0.5,
        threshold_from="val",
        encoder="unknown",
        architecture=kind.__name__,
        network=network,
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    write_embedding(tmp_path / "whole.h5")
    write_embedding(tmp_path / "bare.h5", levels=None)
    return write_table(
        tmp_path,
        [{"slide": f"{name}.tif", "label": index, "split": "test"} for index, name in enumerate(("whole", "bare"))],
    )


def inferred(dataset: Path, kind: type[Any]) -> InferenceSet:
    slides = InferenceSet(None, job_of(dataset, MeanEncoder), card_of(kind), model="model.pt")
    slides.prepare()
    return slides


@pytest.mark.parametrize("kind", SEE_T, ids=lambda kind: kind.__name__)
def test_where_t_is_needed_a_slide_without_fails(dataset: Path, kind: type[Baseline]) -> None:
    slides = inferred(dataset, kind)
    assert [item["slide_id"] for item in slides.items] == ["whole"]
    (entry,) = slides.manifest
    assert entry.status == "failed" and "encode the slide with encode.yaml" in entry.error
    with pytest.raises(
        RequestError, match=r"slides\.csv: 1 of 2 slides do not serve .*first: .*" + REASON.format(kind.__name__)
    ):
        EmbeddingTable(dataset, card=card_of(kind)).items("test")


@pytest.mark.parametrize("kind", DO_WITHOUT, ids=lambda kind: kind.__name__)
def test_where_it_is_not_all_are_judged(dataset: Path, kind: type[Any]) -> None:
    slides = inferred(dataset, kind)
    assert [item["slide_id"] for item in slides.items] == ["whole", "bare"]
    assert EmbeddingTable(dataset, card=card_of(kind)).items("test") == slides.items


@pytest.mark.parametrize("kind", SEE_T, ids=lambda kind: kind.__name__)
def test_the_slide_stands_in_for_a_missing_thumbnail(dataset: Path, kind: type[Baseline]) -> None:
    (dataset / "bare.tif").write_bytes(b"of which T is made later")
    assert len(inferred(dataset, kind).items) == len(EmbeddingTable(dataset, card=card_of(kind)).items("test")) == 2


def test_the_other_slides_are_predicted(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset")
    options = {"dataset_dir": dataset, **ON_CPU}
    run_config(
        "train.yaml",
        "baselines/colour_statistics.yaml",
        run_id="training",
        output_dir=tmp_path,
        max_epochs=1,
        **options,
    )
    write_embedding(dataset / "test_0.h5", levels=None)
    with pytest.raises((RuntimeError, SlideError)):
        run_config(
            "inference.yaml",
            run_id="inference",
            model=tmp_path / "model.pt",
            output_dir=tmp_path / "out",
            split="test",
            **options,
        )
    assert [row["slide_id"] for row in read_rows(tmp_path / "out" / "predictions.csv")] == ["test_1"]
    status = {row["slide_id"]: row["status"] for row in read_rows(tmp_path / "out" / "manifest.csv")}
    assert status == {"test_0": "failed", "test_1": "done"}
