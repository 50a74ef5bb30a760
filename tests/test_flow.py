import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_command, run_config

from scripts.common.errors import SlideError

pytest_plugins = ["tiny_flow_fixture"]

METRICS = ["auc", "accuracy", "precision", "recall", "f1", "specificity", "brier", "ece"]
PREDICTION_COLUMNS = ["slide_id", "label", "predicted", "p_0", "p_1", "stream_score", "threshold"]
HEAT_MAP_FILES = [
    "cam.geojson",
    "cam.nii.gz",
    "cam.ome.tif",
    "cam.png",
    "cam.xml",
    "observed.png",
    "scores.json",
    "thumbnail.png",
]
TEST_SLIDES = ["test_000", "test_001"]


@pytest.fixture(scope="module")
def unlabelled(flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of inference on a CSV of the test slides that has no labels."""
    folder = tmp_path_factory.mktemp("unlabelled")
    slides = [flow.slides.parent / "slides" / f"{name}.tif" for name in TEST_SLIDES]
    table = folder / "request.csv"
    table.write_text("slide\n" + "".join(f"{path}\n" for path in slides))
    run_config(
        "inference.yaml",
        run_id="inference",
        workflow_type="infer",
        slides=table,
        output_dir=folder / "out",
        **flow.trained,
        **ON_CPU,
    )
    return folder / "out"


def test_files_of_every_stage(flow: TinyFlow) -> None:
    assert sorted(path.name for path in flow.patches.glob("[!.]*")) == ["contact_sheet.png", "counts.csv", "patches.h5"]
    assert sorted(path.name for path in flow.model.parent.glob("[!.]*")) == ["model.json", "model.pt", "scae.pt"]
    ids = [Path(row["slide"]).stem for row in read_rows(flow.slides)]
    expected = sorted([*(f"{name}.h5" for name in ids), "manifest.csv", "slides.csv"])
    assert sorted(path.name for path in flow.dataset.iterdir() if not path.name.startswith(".")) == expected
    assert {row["status"] for row in read_rows(flow.dataset / "manifest.csv")} == {"done"}
    assert (flow.log / "last.pt").is_file()
    assert any(path.name.startswith("events.out.tfevents") for path in flow.log.iterdir())
    assert {"metrics.json", "predictions.csv"} <= {path.name for path in flow.evaluation.iterdir()}


def test_metrics_and_predictions_of_evaluating(flow: TinyFlow) -> None:
    metrics = json.loads((flow.evaluation / "metrics.json").read_text())
    others = ["n_positive", "n_negative", "threshold", "threshold_from", "seed", "bootstrap"]
    assert list(metrics) == [*METRICS, *others]
    for name in METRICS:
        assert set(metrics[name]) == {"value", "ci95"}, name
        assert len(metrics[name]["ci95"]) == 2, name
    card = json.loads(flow.model.with_suffix(".json").read_text())
    assert metrics["threshold"] == card["threshold"]
    # two validation slides and two epochs: whether the threshold separates them is chance
    assert metrics["threshold_from"] == card["threshold_from"] and card["threshold_from"] in ("val", "default")
    assert (metrics["n_positive"], metrics["n_negative"]) == (1, 1)

    rows = read_rows(flow.evaluation / "predictions.csv")
    assert list(rows[0]) == PREDICTION_COLUMNS
    assert [(row["slide_id"], row["label"]) for row in rows] == [("test_000", "0"), ("test_001", "1")]
    for row in rows:
        assert math.isclose(float(row["p_0"]) + float(row["p_1"]), 1, abs_tol=1e-6)
        assert 0 < float(row["stream_score"]) < 1
        assert row["predicted"] == str(int(float(row["p_1"]) >= float(row["threshold"])))
    assert (float(rows[1]["p_1"]) > float(rows[0]["p_1"])) == (metrics["auc"]["value"] == 1)


def test_card_names_encoder_and_weights(flow: TinyFlow) -> None:
    card = json.loads(flow.model.with_suffix(".json").read_text())
    with h5py.File(flow.dataset / "test_000.h5") as file:
        assert card["encoder"] == file.attrs["encoder"]
        assert card["precision"] == file.attrs["precision"] == "float32"
    assert card["class_names"] == ["0", "1"]
    assert card["network"] == {
        "num_classes": 2,
        "embedding_channels": 128,
        "thumbnail_levels": 3,
        "thumbnail_stream": True,
        "sparse": True,
        "multi_scale": True,
        "concurrent_bottleneck": True,
        "spatial_bottleneck": True,
        "stream_attention": True,
        "channel_attention": True,
        "projection": None,
        "head": "slide",
    }
    assert card["training"]["slides"] == 4
    assert card["training"]["max_epochs"] == 2
    assert card["validation"]["slides"] == 2


def test_inference_agrees_with_evaluating(flow: TinyFlow, unlabelled: Path) -> None:
    inferred = read_rows(unlabelled / "predictions.csv")
    evaluated = read_rows(flow.evaluation / "predictions.csv")
    assert list(inferred[0]) == PREDICTION_COLUMNS
    assert [row["slide_id"] for row in inferred] == TEST_SLIDES
    assert [row["label"] for row in inferred] == ["", ""]
    for name in ("p_0", "p_1", "stream_score", "threshold"):
        mine, theirs = ([float(row[name]) for row in rows] for rows in (inferred, evaluated))
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_heat_map_files(unlabelled: Path) -> None:
    expected = ["embeddings", "inference.json", "manifest.csv", "predictions.csv", *TEST_SLIDES]
    assert sorted(path.name for path in unlabelled.glob("[!.]*")) == expected
    for name in TEST_SLIDES:
        assert sorted(path.name for path in (unlabelled / name).iterdir()) == HEAT_MAP_FILES
        with h5py.File(unlabelled / "embeddings" / f"{name}.h5") as file:
            observed = np.zeros(file.attrs["grid_shape"], dtype=np.uint8)
            observed[tuple(file["grid"][:].T)] = 255
        np.testing.assert_array_equal(np.asarray(Image.open(unlabelled / name / "observed.png")), observed)
    assert json.loads((unlabelled / "inference.json").read_text())["settings"]["settings#precision"] == "float32"


@pytest.mark.parametrize("request_of", ["file", "folder"])
def test_inference_takes_a_file_and_a_folder(flow: TinyFlow, unlabelled: Path, tmp_path: Path, request_of: str) -> None:
    slide = flow.slides.parent / "slides" / "test_001.tif"
    folder = tmp_path / "scans"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / slide.name).write_bytes(slide.read_bytes())
    run_config(
        "inference.yaml",
        run_id="run",
        workflow_type="infer",
        slides=slide if request_of == "file" else folder,
        output_dir=tmp_path / "out",
        heat_maps=False,
        **flow.trained,
        **ON_CPU,
    )
    (row,) = read_rows(tmp_path / "out" / "predictions.csv")
    assert row == read_rows(unlabelled / "predictions.csv")[1]
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        "embeddings",
        "inference.json",
        "manifest.csv",
        "predictions.csv",
    ]


def test_inference_from_embeddings_needs_no_slide(flow: TinyFlow, tmp_path: Path) -> None:
    run_config(
        "inference.yaml",
        run_id="inference",
        workflow_type="infer",
        dataset_dir=flow.dataset,
        output_dir=tmp_path / "out",
        heat_maps=False,
        threshold=0.0,
        **flow.trained,
        **ON_CPU,
    )
    rows = read_rows(tmp_path / "out" / "predictions.csv")
    evaluated = read_rows(flow.evaluation / "predictions.csv")
    assert len(rows) == 8
    assert {row["predicted"] for row in rows} == {"1"}, "the threshold of the command line decides"
    assert [(row["label"], row["p_1"]) for row in rows[-2:]] == [(row["label"], row["p_1"]) for row in evaluated]


def test_one_bad_slide_does_not_stop_the_others(flow: TinyFlow, tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    good = flow.slides.parent / "slides" / "test_000.tif"
    (folder / good.name).write_bytes(good.read_bytes())
    (folder / "a_broken.tif").write_bytes(b"II*\0 not a slide")
    options = {"slides": folder, "output_dir": tmp_path / "out", "heat_maps": False, **flow.trained, **ON_CPU}
    result = run_command("inference", "inference.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: 1 of 2 slides failed, all others are done")
    rows = read_rows(tmp_path / "out" / "embeddings" / "manifest.csv")
    assert [(row["slide_id"], row["status"]) for row in rows] == [("a_broken", "failed"), ("test_000", "done")]
    assert "a_broken.tif: cannot be read" in rows[0]["error"]
    assert [row["slide_id"] for row in read_rows(tmp_path / "out" / "predictions.csv")] == ["test_000"]


def test_a_class_that_the_model_does_not_know(flow: TinyFlow, tmp_path: Path) -> None:
    options = {
        "slides": flow.slides,
        "output_dir": tmp_path / "out",
        "heat_map_writer#target_class": "tumour",
        **flow.trained,
    }
    result = run_command("inference", "inference.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1] == (
        "error: target_class 'tumour': the model knows 0, 1; name one of them, or leave it out"
    )
    assert not list(tmp_path.iterdir())


def test_a_sole_bad_slide_is_a_plain_error(flow: TinyFlow, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(b"II*\0 not a slide")
    with pytest.raises(RuntimeError) as caught:
        run_config(
            "inference.yaml",
            run_id="inference",
            workflow_type="infer",
            slides=tmp_path / "broken.tif",
            output_dir=tmp_path / "out",
            **flow.trained,
            **ON_CPU,
        )
    causes = [caught.value, caught.value.__cause__]
    assert any(isinstance(cause, SlideError) and "broken.tif" in str(cause) for cause in causes), causes
    assert not (tmp_path / "out" / "predictions.csv").exists()


def test_encoding_as_a_command_from_another_folder(flow: TinyFlow, tmp_path: Path) -> None:
    """The same file again, by relative paths: what a stage writes does not depend on where it is started."""
    slide = tmp_path / "test_000.tif"
    slide.write_bytes((flow.slides.parent / "slides" / "test_000.tif").read_bytes())
    options = {"slides": "test_000.tif", "output_dir": "embeddings", "encoder": flow.encoder, **ON_CPU}
    result = run_command("encoding", "encode.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    assert "encoding: 1 done, 0 skipped, 0 empty, 0 failed" in result.stdout
    with (
        h5py.File(tmp_path / "embeddings" / "test_000.h5") as mine,
        h5py.File(flow.dataset / "test_000.h5") as theirs,
    ):
        np.testing.assert_allclose(mine["features"][:], theirs["features"][:], atol=1e-5)
        assert mine.attrs["parameters"] == theirs.attrs["parameters"]


def test_encoding_on_a_cluster_as_a_command(flow: TinyFlow, tmp_path: Path) -> None:
    """A folder of slides: the same features as without."""
    pytest.importorskip("distributed", reason="dask[distributed] is not installed")
    options = {"slides": flow.slides.parent / "slides", "output_dir": tmp_path, "encoder": flow.encoder, **ON_CPU}
    options["cluster#workers"] = 1
    result = run_command("encoding", "encode.yaml", "cluster.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    assert "encoding: 8 done, 0 skipped, 0 empty, 0 failed" in result.stdout
    for path in flow.dataset.glob("*.h5"):
        with h5py.File(tmp_path / path.name) as mine, h5py.File(path) as theirs:
            np.testing.assert_allclose(mine["features"][:], theirs["features"][:], atol=1e-5)


def test_trained_weights_are_tensors_alone(flow: TinyFlow) -> None:
    for path in (flow.model, flow.encoder):
        state = torch.load(path, weights_only=True)
        assert all(isinstance(value, torch.Tensor) for value in state.get("model", state).values())


def test_the_manifest_names_files_that_exist(flow: TinyFlow, unlabelled: Path, tmp_path: Path) -> None:
    """Relative to itself, whether the slides were encoded now or before."""
    run_config(
        "inference.yaml",
        run_id="inference",
        dataset_dir=flow.dataset,
        split="test",
        output_dir=tmp_path / "out",
        heat_maps=False,
        **flow.trained,
        **ON_CPU,
    )
    for folder in (unlabelled, tmp_path / "out"):
        rows = read_rows(folder / "manifest.csv")
        assert [(row["slide_id"], row["status"]) for row in rows] == [(name, "done") for name in TEST_SLIDES]
        assert [(folder / row["output"]).is_file() for row in rows] == [True, True]
        assert all(int(row["patches"]) > 0 for row in rows)
