"""Which embeddings an inference may replace."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_flow import ON_CPU, workflow

from scripts.inference.inference_outputs import PredictionOutputs
from scripts.inference.slide_set import InferenceSet


def replaces(folder: str, dataset_dir: str, *, replace: bool = True) -> bool:
    slides: Any = SimpleNamespace(folder=Path(dataset_dir))
    return PredictionOutputs(folder, slides, "scae.pt", replace=replace).replaces_embeddings


@pytest.mark.parametrize(
    ("folder", "dataset_dir"),
    [
        ("out", "out/embeddings"),
        ("out/", "out/embeddings/"),
        ("./out", "out/../out/embeddings"),
        ("{here}/out", "out/embeddings"),
        ("link", "out/embeddings"),
    ],
)
def test_those_in_its_own_folder_however_that_is_spelt(
    folder: str, dataset_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    Path("link").symlink_to("out")
    folder = folder.format(here=tmp_path)
    assert replaces(folder, dataset_dir)
    assert not replaces(folder, dataset_dir, replace=False)


@pytest.mark.parametrize("dataset_dir", ["data", "out", "out/embeddings2", "other/embeddings"])
def test_none_in_a_folder_of_the_user(dataset_dir: str) -> None:
    assert not replaces("out", dataset_dir)


def test_the_config_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(InferenceSet, "prepare", lambda self, *, dry_run, replace: asked.append(replace))
    for folders in ({}, {"dataset_dir": f"{tmp_path}/embeddings/"}, {"dataset_dir": tmp_path / "data"}):
        stage = workflow("inference.yaml", run_id="inference", output_dir=tmp_path, replace=True, **ON_CPU, **folders)
        (step,) = (index for index, line in enumerate(stage.parser["inference"]) if "@slide_set.prepare" in line)
        stage.parser.get_parsed_content(f"inference::{step}")
    assert asked == [True, True, False]
