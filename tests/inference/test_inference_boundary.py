"""One odd slide of an inference is entered as failed; the others are predicted."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoding.encoding_requests import job_of
from inference.test_inference_run import CARD, BlankMap, read_predictions
from inference.told_predictions import write_all
from training.embedding_files import write_embedding, write_foreign, write_table

from scripts.common.errors import SlideError
from scripts.dsnet.network import DSNet
from scripts.encoding.job import ManifestRow
from scripts.evaluation.predictions import Prediction
from scripts.inference import heat_maps, inference_boundary
from scripts.inference.heat_map_view import HeatMapView
from scripts.inference.inference_boundary import SparingDataset, SparingIteration
from scripts.inference.slide_set import InferenceSet
from scripts.training.batches import PadCollate, image_of
from scripts.training.predicting import PredictionCollector
from scripts.training.transforms import LoadEmbeddingd

NAMES = ("a", "b", "c")


def three(folder: Path, **card: Any) -> InferenceSet:
    write_table(folder, [{"slide": f"{name}.tif"} for name in NAMES])
    slides = InferenceSet(None, job_of(folder, lambda: None), replace(CARD, **card), model="model.pt")  # type: ignore[arg-type, return-value]
    slides.prepare()
    return slides


def failed(slides: InferenceSet) -> dict[str, str]:
    return {row.slide_id: row.error for row in slides.manifest if row.status == "failed"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write_embedding(tmp_path / f"{name}.h5", channels=6, seed=seed)
    return tmp_path


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "a.h5").write_text("text")
    write_foreign(folder / "b.h5", np.array([[0, 0], [1 << 30, 1 << 30]]), channels=6)
    slides = three(folder)
    assert set(failed(slides)) == {"a"}, "the others say what they are"
    *_, last = steps(slides, DSNet(embedding_channels=6))
    assert last["pred"].shape == (1, 2)
    assert set(failed(slides)) == {"a", "b"}
    assert all(f"{name}.h5: " in error for name, error in failed(slides).items())
    with pytest.raises(SlideError, match="2 of 3 slides failed"):
        slides.require_complete(folder / "out")


def test_the_file_of_another_encoder(folder: Path) -> None:
    write_embedding(folder / "b.h5", channels=6, encoder="Other sha256:1")
    slides = three(folder, encoder="Random sha256:0")
    assert [item["slide_id"] for item in slides.items] == ["a", "c"]
    assert "made by Other sha256:1, expected Random sha256:0" in failed(slides)["b"]
    assert slides.encoder == "Random sha256:0"


def steps(slides: InferenceSet, network: Any) -> list[Any]:
    """What the iteration gives for each slide."""
    dataset = SparingDataset(slides.items, LoadEmbeddingd())
    iteration, collate = SparingIteration(slides), PadCollate()
    state = SimpleNamespace(device="cpu", output=None)
    engine = SimpleNamespace(network=network, state=state, non_blocking=False, fire_event=lambda event: None)
    return [iteration(engine, collate([item])) for item in dataset]


def test_a_file_that_changes_and_a_network_that_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised, by loading one slide and by judging another."""
    slides = three(folder)
    (folder / "a.h5").unlink()

    def outputs(self: Any, network: Any, image: torch.Tensor) -> dict[str, torch.Tensor]:
        if image[0, 0, 0, 0] == slides_image:
            raise MemoryError("too large")
        return {"pred": torch.zeros(1, 2)}

    slides_image = image_of(LoadEmbeddingd()(slides.items[1]))[0, 0, 0, 0]
    monkeypatch.setattr(inference_boundary.SparingIteration, "outputs", outputs)
    first, second, third = steps(slides, DSNet(embedding_channels=6))
    assert first == second == [] and third["pred"].shape == (1, 2)
    assert set(failed(slides)) == {"a", "b"}
    assert "a.h5: not a readable HDF5" in failed(slides)["a"] and "MemoryError: too large" in failed(slides)["b"]
    assert {row.slide_id: row.output for row in slides.manifest} == {"a": "", "b": "b.h5"}, (
        "the embedding that is whole"
    )
    assert len(slides.items) == 3, "the evaluator goes over this list"


def test_nan_is_no_prediction_and_a_map_that_fails_costs_the_map(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slides = three(folder)
    collector = PredictionCollector()
    nan = float("nan")
    collector.predictions = [
        Prediction(name, None, row, 0.5) for name, row in zip(NAMES, [(nan, nan), (0.5, 0.5), (0.9, 0.1)], strict=True)
    ]
    original = heat_maps.write_heat_map

    def write(folder: Path, view: HeatMapView) -> None:
        if folder.name == "b":
            raise ZeroDivisionError("of the map")
        original(folder, view)

    monkeypatch.setattr(heat_maps, "write_heat_map", write)
    write_all(slides, collector, DSNet(embedding_channels=6), folder / "out", made_by=BlankMap())
    assert [row["slide_id"] for row in read_predictions(folder / "out")] == ["b", "c"]
    assert "a: the network says NaN" in failed(slides)["a"]
    assert "without a heat map" in failed(slides)["b"] and "ZeroDivisionError: of the map" in failed(slides)["b"]
    assert (folder / "out" / "c" / "scores.json").is_file()
    assert [type(row) for row in slides.manifest] == [ManifestRow, ManifestRow]
