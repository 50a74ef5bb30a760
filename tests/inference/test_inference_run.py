import csv
import gc
import json
import math
import multiprocessing
import shutil
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from crashing import crash_at
from encoding.encoding_requests import encode_all, job_of
from encoding.painted import MeanEncoder, on_glass, paint, quarter_colours, write_painted_slide, write_tiff
from ignite.engine import Events
from inference.told_predictions import outputs_of, write_all
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose
from opened_files import count_opens
from PIL import Image
from slides.mirax_file import write_mirax
from training.embedding_files import write_embedding, write_foreign

from scripts.common.errors import RequestError, SlideError, StorageError
from scripts.dsnet.heat_map import HeatMap
from scripts.dsnet.network import DSNet
from scripts.encoding import manifest
from scripts.encoding.embedding_file import embedding_file, header_of, read_embedding
from scripts.evaluation.predictions import Prediction
from scripts.inference import exports, heat_maps, inference_run
from scripts.inference.heat_map_view import HeatMapView
from scripts.inference.heat_maps import HeatMapHandler, HeatMapWriter, class_index
from scripts.inference.inference_boundary import SparingDataset, SparingIteration
from scripts.inference.inference_outputs import SO_FAR, PredictionOutputs
from scripts.inference.inference_run import ResultWriter, classify
from scripts.inference.slide_set import InferenceSet
from scripts.localisation.mapped_slide import read_heat_map
from scripts.report.results import read_inference
from scripts.slides.box import BoxReader
from scripts.training import transforms
from scripts.training.batches import PadCollate, image_of
from scripts.training.model_card import ModelCard
from scripts.training.predicting import PredictionCollector, Probabilitiesd
from scripts.training.transforms import LoadEmbeddingd

CARD = ModelCard(
    class_names=("normal", "tumour"),
    threshold=0.4,
    threshold_from="val",
    temperature=1.0,
    encoder="unknown",
    network={"num_classes": 2, "embedding_channels": 6, "thumbnail_levels": 3, "thumbnail_stream": True},
    channel_range=None,
)


class BlankMap(HeatMap):
    """Nothing, and the classes it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[int] = []

    def __call__(self, network: DSNet, image: torch.Tensor, class_index: int) -> np.ndarray:
        self.shown.append(class_index)
        return np.zeros(image.shape[2:], dtype=np.float32)


def collected(slides: InferenceSet, *probabilities: tuple[float, ...]) -> PredictionCollector:
    """Pretend that the evaluator has predicted so."""
    collector = PredictionCollector()
    collector.predictions = [
        Prediction(item["slide_id"], item["label"] if item["label"] >= 0 else None, row, 0.5)
        for item, row in zip(slides.items, probabilities, strict=True)
    ]
    return collector


def read_predictions(folder: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def slide_set(slides: Path | None, dataset: Path, *, split: str | None = None, **card: Any) -> InferenceSet:
    changed = replace(CARD, **card)
    made = InferenceSet(slides and str(slides), job_of(dataset, MeanEncoder), changed, model="model.pt", split=split)
    made.prepare()
    if slides is not None:
        with made.opened():
            list(made)
    return made


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A table of a good slide with tissue at (96, 64), glass alone, and a missing file."""
    folder = tmp_path / "scans"
    tissue = on_glass(paint(quarter_colours(5, 6)), size_xy_px=(320, 256), corner_xy_px=(96, 64))
    write_tiff(folder / "good.tif", [tissue])
    write_tiff(folder / "glass.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    (folder / "slides.csv").write_text("slide,label,patient\ngood.tif,tumour,p1\nglass.tif,normal,\ngone.tif,,\n")
    return folder


def test_slides_that_fail_or_are_empty_are_left_out(scans: Path, tmp_path: Path) -> None:
    slides = slide_set(scans / "slides.csv", tmp_path / "data")
    (item,) = slides.items
    assert (item["slide_id"], item["label"], item["patient"]) == ("good", 1, "p1")
    assert item["embedding"] == str(tmp_path / "data" / "good.h5")
    assert slides.encoder is not None
    assert slides.encoder.startswith("MeanEncoder sha256:")
    slides.require_any()
    with pytest.raises(SlideError, match=r"1 of 3 slides failed.*manifest\.csv"):
        slides.require_complete(tmp_path)


@pytest.mark.parametrize(
    ("asked", "of_card", "expected"),
    [
        ("auto", "bfloat16", "bfloat16"),
        ("auto", "float16", "float32"),  # which a CPU does not compute with
        ("auto", None, "float32"),
        ("float32", "bfloat16", "float32"),
    ],
)
def test_slides_are_encoded_in_the_precision_of_the_models_embeddings(
    tmp_path: Path, asked: str, of_card: str | None, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    job = job_of(tmp_path / "data", MeanEncoder, settings={"precision": asked})
    slide = write_painted_slide(tmp_path / "a.tif")
    slides = InferenceSet(str(slide), job, replace(CARD, precision=of_card), model="model.pt")
    slides.prepare()
    with slides.opened():
        list(slides)
    assert header_of(tmp_path / "data" / "a.h5").precision == expected
    told_of = f"trained on embeddings in {of_card}, and the slides are encoded in {expected} here"
    assert (told_of in caplog.text) == (of_card not in (None, expected))
    config = {"settings#precision": asked, "settings#patch_um": 64.0}
    ResultWriter(outputs_of(slides, tmp_path), collected(slides, (0.3, 0.7)), settings=config).finish()
    told = json.loads((tmp_path / "inference.json").read_text())["settings"]
    assert told == {"settings#precision": expected, "settings#patch_um": 64.0}


def test_a_label_that_the_network_does_not_know_is_kept_and_counted(
    scans: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slides = slide_set(scans / "slides.csv", tmp_path / "data", class_names=("Normal", "Tumour"))
    assert [item["label"] for item in slides.items] == [-1]
    assert "2 of 3 slides have a label that the model does not know" in caplog.text
    assert "expected one of Normal, Tumour: correct the column label" in caplog.text
    ResultWriter(outputs_of(slides, tmp_path / "out"), collected(slides, (0.3, 0.7))).finish()
    assert [(row["label"], row["predicted"]) for row in read_predictions(tmp_path / "out")] == [("tumour", "Tumour")]


def test_nothing_to_classify(tmp_path: Path) -> None:
    slides = slide_set(None, tmp_path / "data")
    assert slides.encoder is None
    with pytest.raises(RequestError, match="nothing to classify: no --slides given and no embeddings in"):
        slides.require_slides()
    assert not (tmp_path / "data").exists()


def test_no_slide_that_can_be_classified(scans: Path, tmp_path: Path) -> None:
    slides = slide_set(scans / "glass.tif", tmp_path / "data")
    with pytest.raises(SlideError, match=r"none of 1 slides can be classified.*: all are without tissue$"):
        slides.require_any()


def test_no_embedding_serves_the_model(tmp_path: Path) -> None:
    write_embedding(tmp_path / "data" / "a.h5", shape_yx=(3, 4), channels=4)
    slides = slide_set(None, tmp_path / "data")
    with pytest.raises(SlideError, match=r"none of 1 slides can be classified.*a\.h5.*4 channels"):
        slides.require_any()


def test_embeddings_with_and_without_a_table(scans: Path, tmp_path: Path) -> None:
    encoded = slide_set(scans / "slides.csv", tmp_path / "data")
    encode_all(scans / "slides.csv", tmp_path / "data", MeanEncoder)  # leaves a table, too
    with_table = slide_set(None, tmp_path / "data")
    assert [(item["slide_id"], item["label"]) for item in with_table.items] == [("good", 1)]
    assert with_table.encoder == encoded.encoder
    assert Path(with_table.items[0]["slide"]).is_file()
    (tmp_path / "data" / "slides.csv").unlink()
    alone = slide_set(None, tmp_path / "data")
    assert [(item["slide_id"], item["label"], Path(item["slide"]).exists()) for item in alone.items] == [
        ("good", -1, False)
    ]


def test_an_embedding_that_does_not_serve_fails_alone(tmp_path: Path) -> None:
    write_embedding(tmp_path / "good.h5", channels=6)
    write_embedding(tmp_path / "wide.h5", channels=7)
    write_embedding(tmp_path / "shallow.h5", channels=6, levels=2)
    (tmp_path / "junk.h5").write_bytes(b"no HDF5")
    (tmp_path / "slides.csv").write_text(
        "slide\ngood.tif\nwide.tif\nshallow.tif\njunk.tif\nabsent.tif\nglass.tif\nclear.tif\n"
    )
    (tmp_path / "manifest.csv").write_text("slide_id,status,error\nglass,empty,no tissue\n")
    (tmp_path / "manifest.2-of-2.csv").write_text("slide_id,status,error\nclear,empty,no tissue\n")
    slides = slide_set(None, tmp_path)
    assert [item["slide_id"] for item in slides.items] == ["good"]
    assert {entry.slide_id: entry.status for entry in slides.manifest} == {
        "wide": "failed",
        "shallow": "failed",
        "junk": "failed",
        "absent": "failed",
        "glass": "empty",
        "clear": "empty",
    }
    with pytest.raises(SlideError, match="4 of 7 slides failed"):
        slides.require_complete(tmp_path / "out")
    outputs_of(slides, tmp_path / "out").write_manifest()
    with open(tmp_path / "out" / "manifest.csv", newline="") as file:
        errors = {row["slide_id"]: row["error"] for row in csv.DictReader(file)}
    assert "7 channels" in errors["wide"] and "2 levels" in errors["shallow"]


def test_slides_without_thumbnail_are_announced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_embedding(tmp_path / "case.h5", channels=6, levels=None)
    slides = slide_set(None, tmp_path)
    assert "1 slides have no thumbnail" in caplog.text
    assert "case" not in caplog.text
    image = image_of(LoadEmbeddingd()(slides.items[0]))
    assert DSNet(embedding_channels=6).eval().attend(image)[1].item() == 1


def test_slides_of_one_split(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_embedding(tmp_path / f"{name}.h5", channels=6)
    (tmp_path / "slides.csv").write_text("slide,split\na.tif,val\nb.tif,test\n")
    slides = slide_set(None, tmp_path, split="test")
    assert [item["slide_id"] for item in slides.items] == ["b"]
    with pytest.raises(
        RequestError, match=r"slides\.csv: no slide in split 'train'; expected .*\(train, val, test\): "
    ):
        slide_set(None, tmp_path, split="train")


def test_slides_of_one_split_of_a_table_that_is_named(five: Path, tmp_path: Path) -> None:
    table = five / "table.csv"
    table.write_text("slide,split\na.tif,test\nc.tif,val\ne.tif,\n")
    assert [item["slide_id"] for item in slide_set(table, tmp_path / "data", split="test").items] == ["a"]
    assert sorted(path.name for path in (tmp_path / "data").glob("*.h5")) == ["a.h5"]


@pytest.mark.parametrize("asked", ["scans", "scans/a.tif", "scans/plain.csv", "scans/other.csv", "h5_files", "nothing"])
def test_a_split_that_no_table_tells_is_refused(five: Path, tmp_path: Path, asked: str) -> None:
    (five / "plain.csv").write_text("slide\na.tif\n")
    (five / "other.csv").write_text("slide,split\na.tif,val\n")
    write_embedding(tmp_path / "h5_files" / "a.h5", channels=6)
    given = (tmp_path / asked, tmp_path / "data") if asked.startswith("scans") else (None, tmp_path / asked)
    with pytest.raises(RequestError, match=r"split 'test'.*; expected a CSV with .* or leave out --split$"):
        slide_set(*given, split="test")
    assert not (tmp_path / "data").exists()


def test_embeddings_are_found_by_the_names_that_training_finds_them_by(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_foreign(tmp_path / "data" / "siteA_01.h5", np.argwhere(np.ones((3, 4), dtype=bool)), channels=6)
    (tmp_path / "data" / "slides.csv").write_text("slide,label\n../scans/siteA/01.tif,tumour\n")
    slides = slide_set(None, tmp_path / "data")
    assert [item["slide_id"] for item in slides.items] == ["siteA_01"]


def test_the_manifest_of_embeddings_leads_to_their_slides(five: Path, tmp_path: Path) -> None:
    (five / "slides.csv").write_text("slide\na.tif\nd.tif\nbroken.tif\n")
    encode_all(five / "slides.csv", tmp_path / "data", MeanEncoder)
    slides = slide_set(None, tmp_path / "data")
    outputs_of(slides, tmp_path / "deep" / "out").write_manifest()
    rows = read_predictions(tmp_path / "deep" / "out", "manifest.csv")
    names = {row["slide_id"]: (row["status"], row["slide"]) for row in rows}
    assert names == {
        "a": ("done", "../../scans/a.tif"), "d": ("empty", "../../scans/d.tif"), "broken": ("failed", "../../scans/broken.tif")
    }  # fmt: skip


def test_embeddings_without_a_table_have_no_slide_though_a_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "h5_files").mkdir()
    write_embedding(tmp_path / "h5_files" / "case.h5", channels=6)
    (tmp_path / "case").write_bytes(b"of somebody")
    monkeypatch.chdir(tmp_path)
    assert not Path(slide_set(None, Path("h5_files")).items[0]["slide"]).exists()


def test_embeddings_of_different_encoders(tmp_path: Path) -> None:
    write_embedding(tmp_path / "a.h5", channels=6, encoder="A sha256:0")
    write_embedding(tmp_path / "b.h5", channels=6, encoder="B sha256:0")
    with pytest.raises(RequestError, match="embeddings of 2 different encoders"):
        _ = slide_set(None, tmp_path).encoder


@pytest.mark.parametrize(
    ("threshold", "predicted"), [(None, "tumour"), (0.45, "tumour"), (0.5, "normal"), (0.0, "tumour")]
)
def test_the_threshold(scans: Path, tmp_path: Path, threshold: float | None, predicted: str) -> None:
    """The card's 0.4, unless the command line names another, be it 0."""
    slides = slide_set(scans / "good.tif", tmp_path / "data")
    ResultWriter(outputs_of(slides, tmp_path, threshold=threshold), collected(slides, (0.55, 0.45))).finish()
    (row,) = read_predictions(tmp_path)
    assert (row["predicted"], row["label"]) == (predicted, "")
    assert float(row["threshold"]) == (0.4 if threshold is None else threshold)
    assert not (tmp_path / "good").exists()


def test_heat_maps_lie_where_the_tissue_does(scans: Path, tmp_path: Path) -> None:
    """Tissue begins at (96, 64) px of 2 um: in NIfTI's world, signs minus, at the middle of the first patch of 64 um."""
    torch.manual_seed(0)
    slides = slide_set(scans / "slides.csv", tmp_path / "data")
    network = DSNet(embedding_channels=6).eval()
    write_all(slides, collected(slides, (0.9, 0.1)), network, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "good").iterdir())
    files = "cam.geojson cam.nii.gz cam.ome.tif cam.png cam.xml observed.png scores.json thumbnail.png"
    assert names == files.split()
    volume = nibabel.load(tmp_path / "out" / "good" / "cam.nii.gz")
    assert volume.shape == (6, 5, 1)
    np.testing.assert_allclose(volume.affine[:2, 3], [-(96 * 0.002 + 0.032), -(64 * 0.002 + 0.032)], rtol=1e-3)
    assert network.training is False
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_map_of_two_classes_is_that_of_the_second_whatever_was_predicted(scans: Path, tmp_path: Path) -> None:
    blank = BlankMap()
    slides = slide_set(scans / "good.tif", tmp_path / "data")
    write_all(slides, collected(slides, (0.9, 0.1)), DSNet(embedding_channels=6), tmp_path / "two", made_by=blank)
    three = slide_set(scans / "good.tif", tmp_path / "data", class_names=("a", "b", "c"), threshold=None)
    write_all(
        three, collected(three, (0.2, 0.3, 0.5)), DSNet(3, embedding_channels=6), tmp_path / "three", made_by=blank
    )
    assert blank.shown == [1, 2]


@pytest.mark.parametrize("asked", ["normal", None])
def test_the_map_of_a_chosen_class(scans: Path, tmp_path: Path, asked: str | None) -> None:
    blank = BlankMap()
    slides = slide_set(scans / "good.tif", tmp_path / "data")
    predicted, network = collected(slides, (0.1, 0.9)), DSNet(embedding_channels=6)
    write_all(slides, predicted, network, tmp_path / "out", target_class=asked, made_by=blank)
    assert blank.shown == [1 if asked is None else 0]


def test_a_class_is_named_as_the_card_names_it() -> None:
    """The command line makes a number of a name of digits."""
    assert class_index(replace(CARD, class_names=("0", "1")), 1) == 1
    with pytest.raises(RequestError, match="target_class 'stroma': the model knows normal, tumour"):
        class_index(CARD, "stroma")


@pytest.mark.parametrize(("forgotten", "gone"), [(False, False), (False, True), (True, False), (True, True)])
def test_the_scans_corner_comes_from_the_file_or_the_slide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: bool, gone: bool
) -> None:
    """Where neither tells it, or the slide ends its reader, from the glass's."""
    scanned = np.zeros((8, 12), dtype=bool)
    scanned[1:5, 3:9] = True
    slide = write_mirax(tmp_path / "case.mrxs", paint(quarter_colours(12, 18)), scanned, tile_px=48, mpp=2.0)
    (tmp_path / "slides.csv").write_text("slide\ncase.mrxs\n")
    encode_all(tmp_path / "slides.csv", tmp_path / "data", MeanEncoder)
    if forgotten:
        with h5py.File(tmp_path / "data" / "case.h5", "r+") as file:
            del file.attrs["bounds_xywh_px"], file.attrs["checksum_rest"]  # as older files lack both
    if gone:
        slide.unlink()
    slides = slide_set(None, tmp_path / "data")
    write_all(slides, collected(slides, (0.2, 0.8)), DSNet(embedding_channels=6), tmp_path / "out")
    map_of = tmp_path / "out" / "case" / "cam.geojson"
    assert json.loads(map_of.read_text())["bounds_xy_px"] == ([0, 0] if forgotten and gone else [144, 48])
    crash_at(monkeypatch, "scripts.inference.heat_maps", "case.mrxs")
    write_all(slides, collected(slides, (0.2, 0.8)), DSNet(embedding_channels=6), tmp_path / "out")
    assert json.loads(map_of.read_text())["bounds_xy_px"] == ([0, 0] if forgotten else [144, 48])


def test_a_foreign_file_is_classified_without_its_slide(tmp_path: Path) -> None:
    """No thumbnail, no resolution: the map is in pixels and on white."""
    (tmp_path / "data").mkdir()
    write_foreign(tmp_path / "data" / "theirs.h5", np.argwhere(np.ones((4, 5), dtype=bool)), channels=6)
    slides = slide_set(None, tmp_path / "data")
    assert slides.encoder == "unknown"
    network = DSNet(embedding_channels=6, thumbnail_stream=False)
    write_all(slides, collected(slides, (0.2, 0.8)), network, tmp_path / "out")
    assert nibabel.load(tmp_path / "out" / "theirs" / "cam.nii.gz").shape == (5, 4, 1)


def test_a_second_run_reads_what_the_first_encoded(scans: Path, tmp_path: Path) -> None:
    slide_set(scans / "slides.csv", tmp_path / "data")
    before = (tmp_path / "data" / "good.h5").stat().st_mtime_ns
    again = slide_set(scans / "slides.csv", tmp_path / "data")
    assert [entry.status for entry in again.manifest] == ["skipped", "empty", "failed"]
    assert (tmp_path / "data" / "good.h5").stat().st_mtime_ns == before
    assert len(again.items) == 1


def test_a_file_cut_short_is_encoded_again(scans: Path, tmp_path: Path) -> None:
    slide_set(scans / "good.tif", tmp_path / "data")
    whole = tmp_path / "data" / "good.h5"
    shutil.copy(whole, tmp_path / "copy.h5")
    whole.write_bytes(whole.read_bytes()[:1000])
    slide_set(scans / "good.tif", tmp_path / "data")
    with h5py.File(whole) as mine, h5py.File(tmp_path / "copy.h5") as theirs:
        np.testing.assert_array_equal(mine["features"][:], theirs["features"][:])


def test_a_slide_of_the_training_is_marked(scans: Path, tmp_path: Path) -> None:
    """By its embedding, whatever it is called, with and without a heat map; the card of another model knows nothing of it."""
    known = (
        header_of(tmp_path / "data" / "good.h5").fingerprint if slide_set(scans / "good.tif", tmp_path / "data") else ""
    )
    for seen, expected in (({"train": "0", "val": known}, "val"), ({"train": "0"}, None)):
        slides = slide_set(scans / "slides.csv", tmp_path / "data", seen=seen)
        told = collected(slides, (0.9, 0.1))
        write_all(slides, told, DSNet(embedding_channels=6), tmp_path / "out")
        ResultWriter(outputs_of(slides, tmp_path / "without"), told).finish()
        for out in ("out", "without"):
            run = json.loads((tmp_path / out / "inference.json").read_text())
            assert run["slides"] == {"good": {"patient": "p1", "seen_in": expected, "mapped": out == "out"}}


def test_a_slide_that_is_predicted_without_a_heat_map_is_told_of(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(folder: Path, view: HeatMapView) -> None:
        if folder.name == "c":
            raise ZeroDivisionError("of the map")

    monkeypatch.setattr(heat_maps, "write_heat_map", write)
    slides = InferenceSet(str(five), job_of(tmp_path / "data", MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    with pytest.raises(SlideError, match="2 of 5 slides failed"):
        classify(*pipeline(slides, tmp_path / "out"))
    run = json.loads((tmp_path / "out" / "inference.json").read_text())
    assert {slide_id: origin["mapped"] for slide_id, origin in run["slides"].items()} == {
        "a": True, "c": False, "e": True
    }  # fmt: skip
    assert {slide_id: row["status"] for slide_id, row in run["not_predicted"].items()} == {"b": "failed", "d": "empty"}
    assert "b.tif" in run["not_predicted"]["b"]["error"]


def test_a_threshold_for_three_classes_is_refused_before_any_slide_is_encoded(scans: Path, tmp_path: Path) -> None:
    card = replace(CARD, class_names=("a", "b", "c"), threshold=None)
    slides = InferenceSet(str(scans), job_of(tmp_path / "data", MeanEncoder), card, model=str(scans / "good.tif"))
    outputs_of(slides, tmp_path / "out").check()
    with pytest.raises(
        RequestError, match=r"threshold 0\.4: the model has 3 classes \(a, b, c\).*leave --threshold out"
    ):
        outputs_of(slides, tmp_path / "out", threshold=0.4).check()


def test_a_thumbnail_that_ends_its_reader_fails_its_slide_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings of another tool, whose T comes from the slides."""
    (tmp_path / "slides.csv").write_text("slide\nbad.tif\ngood.tif\n")
    for name in ("bad", "good"):
        write_painted_slide(tmp_path / f"{name}.tif")
        write_foreign(tmp_path / f"{name}.h5", np.argwhere(np.ones((3, 4), dtype=bool)), channels=6)
    crash_at(monkeypatch, "scripts.training.transforms", "bad.tif")
    bad, good = SparingDataset(slide_set(None, tmp_path), LoadEmbeddingd())
    assert "bad.tif: the process that read it was ended by SIGSEGV" in bad["error"]
    assert good["error"] == "" and (good["t"] < 255).any()


@contextmanager
def map_writer(slides: InferenceSet, out: Path) -> Iterator[HeatMapWriter]:
    with closing(BoxReader()) as boxes:
        yield HeatMapWriter(DSNet(embedding_channels=6), slides.card, out, boxes=boxes)


def test_how_often_the_embedding_of_a_slide_is_opened(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Encoded now: once, for network and exports; encoded before: to be compared and verified, too."""
    for run, times in enumerate((1, 2)):
        opened = count_opens(monkeypatch, tmp_path / f"{run}.txt")
        slides = slide_set(scans / "good.tif", tmp_path / "data")
        (item,) = slides.items
        with map_writer(slides, tmp_path / "out") as writer:
            for loaded in SparingDataset(slides.items, LoadEmbeddingd(), hold=True):
                assert loaded["error"] == ""
                writer.write(item, Prediction("good", None, (0.2, 0.8), 0.5))
        assert opened()["good.h5"] == times
        embedding_file.cache_clear()


def test_the_picture_is_of_the_slide_itself(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[HeatMapView] = []
    monkeypatch.setattr("scripts.inference.heat_maps.write_heat_map", lambda folder, view: drawn.append(view))
    slides = slide_set(scans / "good.tif", tmp_path / "data")
    with map_writer(slides, tmp_path / "out") as writer:
        writer.write(slides.items[0], Prediction("good", None, (0.2, 0.8), 0.5))
    assert drawn[0].thumbnail is not None and drawn[0].background.shape[0] > drawn[0].thumbnail.shape[0]


def test_another_slide_in_the_place_of_the_one_that_was_encoded(scans: Path, tmp_path: Path) -> None:
    """The map lies on T, and no pixel of the other slide is shown, nor is its print taken for that of the slide."""
    slide = Path(shutil.copy(scans / "good.tif", tmp_path / "good.tif"))
    dataset = tmp_path / "data"
    slides = slide_set(slide, dataset)
    for out, is_that in (("before", True), ("after", False)):
        with map_writer(slides, tmp_path / out) as writer:
            assert writer.write(slides.items[0], Prediction("good", None, (0.2, 0.8), 0.5)) is is_that
        scores = json.loads((tmp_path / out / "good" / "scores.json").read_text())
        assert bool(scores["slide_print"]) is is_that
        tifffile.imwrite(slide, np.full((900, 1200, 3), (255, 0, 0), np.uint8), photometric="rgb", tile=(256, 256))
    with Image.open(tmp_path / "after" / "good" / "cam.png") as picture:
        red = np.asarray(picture.convert("RGB")).astype(int)
    assert not ((red[..., 0] - red[..., 1]) > 150).any()


def pipeline(
    slides: InferenceSet, out: Path, *, heat_maps: bool = True
) -> tuple[SupervisedEvaluator, PredictionOutputs, HeatMapHandler, ResultWriter]:
    """What the config builds, with heat maps of nothing."""
    collector, outputs = PredictionCollector(), replace(outputs_of(slides, out), heat_maps=heat_maps)
    maps, results = HeatMapHandler(outputs, collector, made_by=BlankMap()), ResultWriter(outputs, collector)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(
            SparingDataset(slides, LoadEmbeddingd(), hold=True), batch_size=1, num_workers=0, collate_fn=PadCollate()
        ),
        network=DSNet(embedding_channels=6).eval(),
        iteration_update=SparingIteration(slides),
        postprocessing=Compose([Probabilitiesd("pred")]),
        val_handlers=[collector, maps, results],
    )
    return evaluator, outputs, maps, results


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """Five slides, of which the second is damaged and the fourth has no tissue."""
    for name in ("a", "c", "e"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name))
    (tmp_path / "scans" / "b.tif").write_bytes(b"II*\0 not a slide")
    write_tiff(tmp_path / "scans" / "d.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    return tmp_path / "scans"


@pytest.mark.parametrize("embeddings", ["out/embeddings", "out", "data"])
def test_slides_are_encoded_judged_and_written_one_after_the_other(
    five: Path, tmp_path: Path, embeddings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slide is written before the one after the next is encoded, in whatever folder the embeddings lie."""
    out, there = tmp_path / "out", tmp_path / embeddings
    monkeypatch.setattr(inference_run, "WRITE_S", 0.0)
    slides = InferenceSet(str(five), job_of(there, MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    seen = []
    original = ResultWriter._add

    def add(self: ResultWriter, engine: Any) -> None:
        original(self, engine)
        written = [row["slide_id"] for row in read_predictions(out, SO_FAR)]
        assert all((out / name / "cam.png").is_file() for name in written)
        seen.append((written, (there / "e.h5").is_file()))

    monkeypatch.setattr(ResultWriter, "_add", add)
    with pytest.raises(SlideError, match="1 of 5 slides failed"):
        classify(*pipeline(slides, out))
    assert [written for written, _ in seen] == [["a"], ["a", "c"], ["a", "c", "e"]]
    assert not seen[0][1], "the last slide was not encoded yet"
    with open(out / "manifest.csv", newline="") as file:
        statuses = {row["slide_id"]: row["status"] for row in csv.DictReader(file)}
    assert statuses == {"a": "done", "b": "failed", "c": "done", "d": "empty", "e": "done"}
    assert [row["slide_id"] for row in read_predictions(out)] == ["a", "c", "e"] and not (out / SO_FAR).exists()
    again = encode_all(five, there, MeanEncoder, keep_table=False)  # whose manifest it is, it may write anew
    assert [entry.status for entry in again] == ["skipped", "failed", "skipped", "empty", "skipped"]
    slides.prepare()
    with pytest.raises(SlideError, match="1 of 5 slides failed"):  # each file is still that of the stage that wrote it
        classify(*pipeline(slides, out))


@pytest.mark.parametrize("embeddings", ["out", "data"])
def test_the_manifest_tells_of_embedding_and_prediction(
    five: Path, tmp_path: Path, embeddings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slide that is encoded and cannot be judged, or has no map, has failed; its row names the embedding, at once."""
    monkeypatch.setattr(manifest, "WRITE_SHARE", math.inf)
    out, there = tmp_path / "out", tmp_path / embeddings
    slides = InferenceSet(str(five), job_of(there, MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    judged: list[list[str]] = []
    outputs = SparingIteration.outputs

    def judge(self: SparingIteration, network: Any, image: torch.Tensor) -> dict[str, torch.Tensor]:
        judged.append([row["status"] for row in read_predictions(there, "manifest.csv")])
        if len(judged) == 1:
            raise MemoryError("too large")
        return outputs(self, network, image)

    def write(folder: Path, view: HeatMapView) -> None:
        if folder.name == "c":
            raise ZeroDivisionError("of the map")

    monkeypatch.setattr(SparingIteration, "outputs", judge)
    monkeypatch.setattr(heat_maps, "write_heat_map", write)
    with pytest.raises(SlideError, match="3 of 5 slides failed"):
        classify(*pipeline(slides, out))
    rows = {row["slide_id"]: row for row in read_predictions(out, "manifest.csv")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a": "failed", "b": "failed", "c": "failed", "d": "empty", "e": "done"
    }  # fmt: skip
    assert rows["a"]["error"].startswith("encoded, but not predicted: ") and "MemoryError" in rows["a"]["error"]
    assert rows["c"]["error"].startswith("predicted, but without a heat map: ")
    assert {name for name, row in rows.items() if row["output"]} == {"a", "c", "e"}
    assert all((out / row["output"]).samefile(there / f"{name}.h5") for name, row in rows.items() if row["output"])
    assert all((out / row["slide"]).samefile(five / f"{name}.tif") for name, row in rows.items())
    assert int(rows["a"]["patches"]) > 0 and float(rows["a"]["seconds"]) > 0
    assert [row["slide_id"] for row in read_predictions(out)] == ["c", "e"]
    assert judged[1][0] == ("failed" if embeddings == "out" else "done"), "before the next slide is judged"
    assert {row["slide_id"]: row["status"] for row in read_predictions(there, "manifest.csv")}["a"] == judged[1][0]
    again = encode_all(five, there, MeanEncoder, keep_table=False)
    assert [entry.status for entry in again] == ["skipped", "failed", "skipped", "empty", "skipped"]


@pytest.mark.parametrize(
    ("slide_mpp", "cell", "mpp"),
    [(2.0, "", 2.0), (2.0, "0.5", 0.5), (None, "0.5", 0.5), (None, "", None), (352.0, "", None)],
)
def test_a_map_on_features_of_another_tool_has_the_resolution_of_table_or_slide(
    tmp_path: Path, slide_mpp: float | None, cell: str, mpp: float | None
) -> None:
    if slide_mpp is not None:
        write_tiff(tmp_path / "a.tif", [paint(quarter_colours(6, 8))], mpp=slide_mpp)
    write_foreign(tmp_path / "a.h5", np.argwhere(np.ones((3, 4), dtype=bool)), channels=6)
    (tmp_path / "slides.csv").write_text(f"slide,mpp\na.tif,{cell}\n")
    slides, out = slide_set(None, tmp_path), tmp_path / "out"
    write_all(slides, collected(slides, (0.2, 0.8)), DSNet(embedding_channels=6).eval(), out, made_by=BlankMap())
    volume, scores = nibabel.load(out / "a" / "cam.nii.gz"), json.loads((out / "a" / "scores.json").read_text())
    side = 32 if mpp is None else 32 * mpp / 1000
    np.testing.assert_allclose(np.abs(volume.affine.diagonal()[:2]), side)
    assert volume.header.get_xyzt_units()[0] == ("unknown" if mpp is None else "mm")
    assert scores["resolution"]["mpp_x"] == scores["resolution"]["mpp_y"] == (mpp and pytest.approx(mpp))
    assert scores["tissue"]["area_mm2"] == (mpp and pytest.approx(12 * side**2))
    with tifffile.TiffFile(out / "a" / "cam.ome.tif") as file:
        assert (mpp is not None) == ("PhysicalSizeX" in (file.ome_metadata or ""))
    heat, observed = read_heat_map(out / "a", read_embedding(tmp_path / "a.h5"))
    assert heat.shape == (3, 4) and observed.all()


def test_a_resolution_of_the_table_that_no_slide_has_costs_the_map(tmp_path: Path) -> None:
    write_foreign(tmp_path / "a.h5", np.argwhere(np.ones((3, 4), dtype=bool)), channels=6)
    (tmp_path / "slides.csv").write_text("slide,mpp\na.tif,250\n")
    slides = slide_set(None, tmp_path)
    write_all(slides, collected(slides, (0.2, 0.8)), DSNet(embedding_channels=6), tmp_path / "out", made_by=BlankMap())
    (entry,) = slides.manifest
    assert entry.error.startswith("predicted, but without a heat map: ")
    assert "a.tif: the table says 250 um/px, expected 0.05 to 10: correct its column mpp" in entry.error


def test_a_slide_that_was_judged_leaves_no_vectors_and_no_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        write_embedding(tmp_path / "data" / f"{seed}.h5", shape_yx=(60, 50), channels=6, seed=seed)
    monkeypatch.setattr(exports, "write_overlay", lambda path, view: None)  # which has such a test of its own
    model = str(tmp_path / "data" / "0.h5")
    slides = InferenceSet(None, job_of(tmp_path / "data", MeanEncoder), CARD, model=model)
    slides.prepare()
    evaluator, *kept = pipeline(slides, tmp_path / "out")
    held_bytes = []

    def look() -> None:
        gc.collect()
        storages = [one.untyped_storage() for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
        of_tensors = {storage.data_ptr(): storage.nbytes() for storage in storages}
        held_bytes.append(sum(of_tensors.values()) + tracemalloc.get_traced_memory()[0])

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, look)
    gc.freeze()  # what is there already is not looked at
    tracemalloc.start()
    try:
        classify(evaluator, *kept)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    vectors_bytes = 60 * 50 * 6 * 4  # of one slide; its pixels and the network's input take more
    assert len(held_bytes) == 5 and held_bytes[4] - held_bytes[1] < vectors_bytes


def test_a_run_that_is_stopped_leaves_the_whole_result_of_before(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the same request, and beside it what it has found; the run after it writes the same bytes."""

    def run() -> None:
        slides = InferenceSet(str(five), job_of(tmp_path / "data", MeanEncoder), CARD, model=str(five / "a.tif"))
        slides.prepare()
        torch.manual_seed(0)
        with pytest.raises(SlideError, match="1 of 5 slides failed"):
            classify(*pipeline(slides, tmp_path / "out"))

    run()
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    assert [slide.slide_id for slide in read_inference(tmp_path / "out").slides] == ["a", "c", "e"], "it has ended"
    original = heat_maps.write_heat_map

    def write(folder: Path, view: HeatMapView) -> None:
        if folder.name == "c":
            raise KeyboardInterrupt
        original(folder, view)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(heat_maps, "write_heat_map", write)
        run()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    assert [row["slide_id"] for row in read_predictions(tmp_path / "out", SO_FAR)] == ["a"]
    with pytest.raises(RequestError, match="inference was stopped or is still at work"):
        read_inference(tmp_path / "out")
    run()
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    assert len(read_inference(tmp_path / "out").slides) == 3
    assert not (tmp_path / "out" / SO_FAR).exists()


@pytest.mark.parametrize("embeddings", ["out", "data"])
def test_what_a_run_says_is_of_this_run_alone(five: Path, tmp_path: Path, embeddings: str) -> None:
    """After one with heat maps of a slide more, whose files stay: as embeddings do of a slide that has left the table."""
    out, table = tmp_path / "out", five / "slides.csv"

    def run(*names: str, heat_maps: bool) -> None:
        table.write_text("".join(f"{line}\n" for line in ("slide", *names)))
        slides = InferenceSet(str(table), job_of(tmp_path / embeddings, MeanEncoder), CARD, model=str(five / "a.tif"))
        slides.prepare()
        with pytest.raises(SlideError, match="slides failed") if "b.tif" in names else nullcontext():
            classify(*pipeline(slides, out, heat_maps=heat_maps))

    run("a.tif", "b.tif", "c.tif", "d.tif", heat_maps=True)
    told = read_inference(out)
    assert [(one.slide_id, one.scores is None) for one in told.slides] == [("a", False), ("c", False)]
    assert [(other.slide_id, other.status) for other in told.others] == [("b", "failed"), ("d", "empty")]
    run("a.tif", "d.tif", heat_maps=False)
    told = read_inference(out)
    assert [(one.slide_id, one.scores) for one in told.slides] == [("a", None)]
    assert [(other.slide_id, other.status) for other in told.others] == [("d", "empty")]
    assert (tmp_path / embeddings / "c.h5").is_file() and (out / "c" / "cam.png").is_file()
    run("a.tif", "c.tif", heat_maps=True)
    assert all(one.scores for one in read_inference(out).slides) and not read_inference(out).others


@pytest.mark.parametrize("end", [None, KeyboardInterrupt(), StorageError("no room"), RuntimeError("of a handler")])
def test_the_process_that_reads_pictures_ends_with_the_run(
    five: Path, tmp_path: Path, end: BaseException | None
) -> None:
    slides = InferenceSet(str(five / "a.tif"), job_of(tmp_path / "data", MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    evaluator, outputs, maps, results = pipeline(slides, tmp_path / "out")
    readers: list[Any] = []

    def stop(engine: Any) -> None:
        readers.extend(multiprocessing.active_children())
        if end is not None:
            raise end

    evaluator.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with pytest.raises(type(end)) if end is not None else nullcontext():
        classify(evaluator, outputs, maps, results)
    assert len(readers) == 2, "one encodes, one reads pictures"
    assert multiprocessing.active_children() == []


def test_a_slide_that_comes_or_goes_after_the_list_was_made(five: Path, tmp_path: Path) -> None:
    slides = InferenceSet(str(five), job_of(tmp_path / "data", MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    write_painted_slide(five / "bb.tif")
    (five / "e.tif").unlink()
    with pytest.raises(SlideError, match="2 of 5 slides failed"):
        classify(*pipeline(slides, tmp_path / "out"))
    assert [row["slide_id"] for row in read_predictions(tmp_path / "out")] == ["a", "c"]


def test_processes_that_load_data_have_nothing_to_load(five: Path, tmp_path: Path) -> None:
    slides = slide_set(five, tmp_path / "data")
    loader = DataLoader(SparingDataset(slides, LoadEmbeddingd()), batch_size=1, num_workers=1)
    with slides.opened(), pytest.raises(RequestError, match="num_workers: expected 0"):
        next(iter(loader))


def test_a_dry_run_tells_what_would_be_replaced(five: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slide_set(five, tmp_path / "data")
    job = job_of(tmp_path / "data", MeanEncoder, settings={"patch_um": 32.0})
    slides = InferenceSet(str(five), job, CARD, model=str(five / "a.tif"))
    with pytest.raises(RequestError, match="--replace true"):
        slides.prepare(dry_run=True)
    slides.prepare(dry_run=True, replace=True)
    assert "slides: " in capsys.readouterr().out


def test_none_of_the_slides_can_be_classified(five: Path, tmp_path: Path) -> None:
    for name in ("a", "c", "e"):
        (five / f"{name}.tif").unlink()
    slides = InferenceSet(str(five), job_of(tmp_path / "data", MeanEncoder), CARD, model=str(five / "d.tif"))
    slides.prepare()
    with pytest.raises(SlideError, match=r"none of 2 slides can be classified.*b\.tif"):
        classify(*pipeline(slides, tmp_path / "out"))
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_slides_are_called_as_in_the_folder_of_their_embeddings(tmp_path: Path) -> None:
    """A slide that has come to a folder since, of the same stem, changes no id."""
    write_painted_slide(tmp_path / "scans" / "case.tif")
    first = slide_set(tmp_path / "scans", tmp_path / "data")
    shutil.copy(tmp_path / "scans" / "case.tif", tmp_path / "scans" / "case.svs")
    both = slide_set(tmp_path / "scans", tmp_path / "data")
    assert [item["slide_id"] for item in first.items] == ["case"]
    assert {item["slide_id"]: Path(item["slide"]).name for item in both.items} == {
        "case": "case.tif",
        "scans_case": "case.svs",
    }


def test_a_slide_that_cannot_be_loaded_keeps_its_embedding_in_the_manifest(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that it is known of which slide the embedding is, and another one of its name does not replace it."""
    out, other = tmp_path / "out", tmp_path / "other"
    slides = InferenceSet(str(five), job_of(out, MeanEncoder), CARD, model=str(five / "a.tif"))
    slides.prepare()
    with monkeypatch.context() as context, pytest.raises(SlideError, match=r"slides failed|can be classified"):
        context.setattr(transforms, "thumbnail_of", lambda *_, **__: (_ for _ in ()).throw(MemoryError("too large")))
        classify(*pipeline(slides, out))
    rows = {row["slide_id"]: row for row in read_predictions(out, "manifest.csv")}
    assert (rows["a"]["status"], rows["a"]["output"]) == ("failed", "a.h5") and "MemoryError" in rows["a"]["error"]
    other.mkdir()
    write_painted_slide(other / "a.tif", seed=99)
    with pytest.raises(RequestError, match="would replace it"):
        encode_all(other, out, MeanEncoder)
