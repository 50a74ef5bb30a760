"""The operators of the MONAI Deploy application: what a slide that fails after its encoding leaves. MONAI Deploy is stood in for."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from tiny_flow import BUNDLE, read_rows

from scripts.common.errors import SlideError
from scripts.encoding.job import EncodingJob, ManifestRow
from scripts.slides.table import SlideRow
from scripts.training.model_card import ModelCard

pytest.importorskip("pydicom", reason="pydicom is not installed")
APP = BUNDLE.parent / "integrations" / "monai_deploy"
STAND_INS = {
    "monai.deploy": (),
    "monai.deploy.core": ("ExecutionContext", "Fragment", "InputContext", "OperatorSpec", "OutputContext"),
    "monai.deploy.core.domain": (),
    "monai.deploy.core.domain.dicom_series": ("DICOMSeries",),
    "monai.deploy.core.domain.dicom_series_selection": ("SelectedSeries", "StudySelectedSeries"),
    "monai.deploy.core.domain.dicom_study": ("DICOMStudy",),
}
"""Names that the operators import of MONAI Deploy, by module; they do nothing here."""


class Operator:
    def __init__(self, fragment: object, *args: object, **kwargs: object) -> None: ...


class Ports(dict[str, Any]):
    """What lies at the inputs, or was sent."""

    receive = dict.__getitem__

    def emit(self, value: Any, port: str) -> None:
        self[port] = value


@pytest.fixture
def operators(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The application's modules."""
    for name, holds in STAND_INS.items():
        module = ModuleType(name)
        vars(module).update({one: type(one, (), {}) for one in holds}, Operator=Operator)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(APP))
    before = set(sys.modules)
    yield SimpleNamespace(
        **{name: import_module(f"operators.{name}") for name in ("manifest", "transformation", "writers")}
    )
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("operators", "recipe"):
            del sys.modules[name]


@pytest.fixture
def manifest(operators: SimpleNamespace, tmp_path: Path) -> Any:
    """Of three slides that are encoded."""
    found = operators.manifest.Manifest(tmp_path / "manifest.csv")
    for name in "abc":
        found.enter(ManifestRow(name, f"{name}.tif", "done", patches=3, output=name))
    return found


class Writer:
    """In the place of the bundle's writer of heat maps."""

    kind: object = "Patch map"
    fails = False
    written: ClassVar[list[str]] = []

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def write(self, item: dict[str, Any], prediction: object) -> None:
        if self.fails:
            raise SlideError(f"{item['slide']}: gone")
        self.written.append(item["slide_id"])


@pytest.fixture
def writer(operators: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> type[Writer]:
    one = type("OneWriter", (Writer,), {"written": []})
    monkeypatch.setattr(operators.writers, "HeatMapWriter", one)
    return one


def judge(operators: SimpleNamespace, manifest: Any, folder: Path, *, p: float) -> Ports:
    """Let both writers have the slide b; return what was sent on."""
    network = {"embedding_channels": 4, "thumbnail_levels": 3, "thumbnail_stream": True}
    card = ModelCard(class_names=("n", "t"), threshold=0.5, threshold_from="val", encoder=None, network=network)
    recipe = SimpleNamespace(
        card=card, threshold=0.5, target=None, network=None, device="cpu", metadata={"name": "x", "version": "0"}
    )
    selected = SimpleNamespace(series=SimpleNamespace(SeriesInstanceUID="1.2"))
    series = SimpleNamespace(selected_series=[selected], study=SimpleNamespace(StudyInstanceUID="1"))
    slide = operators.transformation.EncodedSlide({"slide_id": "b", "slide": "b.tif"}, series)
    sent = Ports()
    for kind in (operators.writers.HeatMapWriterOperator, operators.writers.PredictionWriterOperator):
        made = kind(None, recipe=recipe, manifest=manifest, output_folder=folder)
        pred = {"probabilities": [1 - p, p], "stream_score": 0.5}
        made.compute(Ports(slide=slide, pred=pred), sent, None)
    return sent


def told(folder: Path) -> list[tuple[str, str, str]]:
    return [(row["slide_id"], row["status"], row["error"]) for row in read_rows(folder / "manifest.csv")]


def test_a_slide_whose_score_is_no_number_failed(
    operators: SimpleNamespace, manifest: Any, writer: type[Writer], tmp_path: Path
) -> None:
    assert judge(operators, manifest, tmp_path, p=float("nan")) == {}
    (_, failed, _) = found = told(tmp_path)
    assert [status for _, status, _ in found] == ["done", "failed", "done"]
    assert failed[2].startswith("encoded, but not predicted: ") and "NaN" in failed[2]
    assert writer.written == [] and not (tmp_path / "b").exists()
    assert [row.output for row in manifest.rows] == ["a", "", "c"]


def test_a_slide_without_its_heat_map_failed_and_keeps_its_prediction(
    operators: SimpleNamespace, manifest: Any, writer: type[Writer], tmp_path: Path
) -> None:
    writer.fails = True
    assert set(judge(operators, manifest, tmp_path, p=0.7)) == {"study_selected_series_list", "text"}
    assert told(tmp_path)[1] == ("b", "failed", "predicted, but without a heat map: b.tif: gone")
    assert (tmp_path / "b" / "prediction.json").is_file()


@pytest.mark.parametrize(("kind", "written"), [("Patch map", ["b"]), (None, [])])
def test_a_heat_map_is_written_where_the_network_has_one(
    operators: SimpleNamespace,
    manifest: Any,
    writer: type[Writer],
    tmp_path: Path,
    kind: str | None,
    written: list[str],
) -> None:
    writer.kind = kind
    judge(operators, manifest, tmp_path, p=0.7)
    assert writer.written == written
    assert told(tmp_path)[1] == ("b", "done", "")


class Encoded:
    """In the place of the bundle's slides of one table: the slide is encoded."""

    def __init__(self, table: str, *args: object, **kwargs: object) -> None:
        (row,) = read_rows(Path(table))
        self.name = Path(row["slide"]).stem
        self.manifest = [ManifestRow(self.name, row["slide"], "done", patches=1)]

    def prepare(self) -> None: ...

    def opened(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield {"slide_id": self.name, "slide": self.name, "embedding": f"{self.name}.h5"}


def loaded(item: dict[str, Any]) -> dict[str, Any]:
    """What the bundle's preprocessing makes of an item, of which MONAI hides the error in one of its own."""
    if item["slide_id"] == "a":
        raise RuntimeError("applying transform") from SlideError("a.h5: damaged")
    thumbnail = torch.zeros(9, 2, 2, dtype=torch.uint8)
    return {"vectors": torch.ones(1, 4), "places": torch.ones(1, 1, 1, dtype=torch.int32), "t": thumbnail}


def test_a_slide_that_cannot_be_loaded_failed_and_nothing_is_sent(
    operators: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(operators.transformation, "InferenceSet", Encoded)
    recipe = SimpleNamespace(job=EncodingJob(tmp_path, torch.nn.Identity), card=None, model=None, preprocessing=loaded)
    manifest = operators.manifest.Manifest(tmp_path / "manifest.csv")
    operator = operators.transformation.TransformationOperator(
        None, recipe=recipe, manifest=manifest, workdir=tmp_path / "work"
    )
    sent = {}
    for name in "ab":
        case = SimpleNamespace(row=SlideRow(name, tmp_path / f"{name}.tif"), series=None)
        sent[name] = Ports()
        operator.compute(Ports(slide=case), sent[name], None)
    assert sent["a"] == {}
    assert sent["b"]["slide"].slide_id == "b" and sent["b"]["image"].shape == (4 + 36, 1, 1)
    assert told(tmp_path) == [("a", "failed", "a.h5: damaged"), ("b", "done", "")]
