"""No stage changes or removes a file that the project did not write, whatever it is called."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_flow import ON_CPU, TinyFlow, run_config

from scripts.common.errors import RequestError

pytest_plugins = ["tiny_flow_fixture"]

TRAIN = {"max_epochs": 1, "batch_size": 4}
Options = Callable[[TinyFlow, Path], dict[str, Any]]

STAGES: dict[str, tuple[tuple[str, ...], str, Options]] = {
    "generating": (
        ("demo_data.yaml",),
        "generating",
        lambda flow, at: {"train": 1, "val": 0, "test": 0, "cells": 4, "num_workers": 0},
    ),
    "listing": (("datalist.yaml",), "listing", lambda flow, at: {"cohort": "folder", "slides": at / "classes"}),
    "splitting": (("split.yaml",), "splitting", lambda flow, at: {"slides": flow.slides, "folds": 2}),
    "sampling": (
        ("sample.yaml",),
        "sampling",
        lambda flow, at: {"slides": flow.slides, "draw#patches_per_slide": 4, "draw#rich_share": 0.0, "num_workers": 0},
    ),
    "training of S-CAE": (
        ("train_scae.yaml",),
        "training",
        lambda flow, at: {"dataset_dir": flow.patches, "max_epochs": 1, **ON_CPU},
    ),
    "searching": (
        ("search_sparsity.yaml",),
        "searching",
        lambda flow, at: {
            "dataset_dir": flow.patches,
            "training_steps": 1,
            "max_steps": 1,
            "measured_patches": 4,
            **ON_CPU,
        },
    ),
    "drawing panels": (
        ("scae_panels.yaml",),
        "drawing_panels",
        lambda flow, at: {"dataset_dir": flow.patches, "encoder": flow.encoder, "patches": 1, "device": "cpu"},
    ),
    "comparing masks": (("compare_masks.yaml",), "comparing_masks", lambda flow, at: {"slides": one_slide(flow)}),
    "encoding": (
        ("encode.yaml",),
        "encoding",
        lambda flow, at: {"slides": at / "one.csv", "encoder": flow.encoder, "job#engine": "torch", **ON_CPU},
    ),
    "training": (("train.yaml",), "training", lambda flow, at: {"dataset_dir": flow.dataset, **TRAIN, **ON_CPU}),
    "segmenting": (
        ("train.yaml", "segment_train.yaml"),
        "training",
        lambda flow, at: {"dataset_dir": flow.dataset, "masks": flow.slides.parent / "masks", **TRAIN, **ON_CPU},
    ),
    "evaluating": (
        ("train.yaml", "evaluate.yaml"),
        "evaluating",
        lambda flow, at: {"dataset_dir": flow.dataset, "model": flow.model, **ON_CPU},
    ),
    "comparing": (
        ("compare.yaml",),
        "comparing",
        lambda flow, at: dict.fromkeys(("first", "second"), flow.evaluation / "predictions.csv") | {"resamples": 10},
    ),
    "inference": (
        ("inference.yaml",),
        "inference",
        lambda flow, at: {"slides": one_slide(flow), "job#engine": "torch", **flow.trained, **ON_CPU},
    ),
    "inference of embeddings": (
        ("inference.yaml",),
        "inference",
        lambda flow, at: {"dataset_dir": flow.dataset, "split": "test", **flow.trained, **ON_CPU},
    ),
    "reporting": (("report.yaml",), "reporting", lambda flow, at: {"predictions_dir": at / "predictions"}),
    "localising": (
        ("localise.yaml",),
        "localising",
        lambda flow, at: {
            "predictions_dir": at / "predictions",
            "dataset_dir": flow.dataset,
            "masks": flow.slides.parent / "masks",
            "resamples": 10,
        },
    ),
}


def one_slide(flow: TinyFlow) -> Path:
    return flow.slides.parent / "slides" / "test_001.tif"


@pytest.fixture(scope="module")
def material(flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What some stages need besides the flow: a table of one slide, slides by class, and predictions with heat maps."""
    root = tmp_path_factory.mktemp("material")
    (root / "one.csv").write_text(f"slide\n{one_slide(flow)}\n")
    for name in ("a", "b"):
        (root / "classes" / name).mkdir(parents=True)
        shutil.copy(one_slide(flow), root / "classes" / name / f"{name}.tif")
    run_config(
        "inference.yaml",
        run_id="inference",
        workflow_type="infer",
        dataset_dir=flow.dataset,
        split="test",
        output_dir=root / "predictions",
        **flow.trained,
        **ON_CPU,
    )
    return root


def causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__


@pytest.mark.parametrize("stage", STAGES)
def test_foreign_files_of_every_name_stay(stage: str, flow: TinyFlow, material: Path, tmp_path: Path) -> None:
    """One run tells the names; then each lies there as a file of somebody else, alone and with all the others."""
    files, run_id, make = STAGES[stage]
    options = {**make(flow, material), "output_dir": tmp_path / "out"}
    kind = "infer" if run_id == "inference" else "train"
    run_config(*files, run_id=run_id, workflow_type=kind, **options)
    written = [path for path in sorted((tmp_path / "out").rglob("*")) if path.is_file() and "tfevents" not in path.name]
    assert written
    shutil.rmtree(tmp_path / "out")
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"not {path.name} of this project")
    for replace in (False, True):
        with pytest.raises(Exception) as caught:
            run_config(*files, run_id=run_id, workflow_type=kind, **options, replace=replace)
        assert any(isinstance(error, RequestError) for error in causes(caught.value)), caught.value
    for path in written:
        assert path.read_text() == f"not {path.name} of this project"
    assert sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file()) == written, "nothing is added"
    for path in written:
        shutil.rmtree(tmp_path / "out")
        path.parent.mkdir(parents=True)
        path.write_text("theirs")
        with pytest.raises(Exception):  # noqa: B017 (MONAI wraps it)
            run_config(*files, run_id=run_id, workflow_type=kind, **options, replace=True)
        assert path.read_text() == "theirs", path.name
