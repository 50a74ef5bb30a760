"""The TensorRT overlay, without a GPU: what MONAI's compiler is asked for, and that classes come from the forward that it replaces."""

import shutil
from pathlib import Path
from types import MethodType
from typing import Any

import h5py
import monai.networks
import pytest
import torch
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_config
from torch import Tensor, nn

pytest_plugins = ["tiny_flow_fixture"]
FILES = ("inference.yaml", "inference_trt.yaml")
SCORES = torch.tensor([[0.0, 3.0]])


def options(flow: TinyFlow, out: Path) -> dict[str, Any]:
    return {"dataset_dir": flow.dataset, "output_dir": out, **flow.trained, **ON_CPU}


def test_without_tensorrt_torch_gives_the_same_classes(flow: TinyFlow, tmp_path: Path) -> None:
    run_config(*FILES, run_id="inference", **options(flow, tmp_path / "overlay"))
    run_config(*FILES[:1], run_id="inference", heat_maps=False, **options(flow, tmp_path / "plain"))
    found, expected = (read_rows(tmp_path / name / "predictions.csv") for name in ("overlay", "plain"))
    assert len(found) > 1
    for row in expected:
        assert row["stream_score"]
        row["stream_score"] = ""  # the compiled network has one output
    for row, other in zip(found, expected, strict=True):  # sums in another order: the last bits may differ
        probabilities = [float(each.pop(name)) for each in (row, other) for name in ("p_0", "p_1")]
        assert probabilities[:2] == pytest.approx(probabilities[2:], abs=1e-6)
    assert found == expected
    assert not [path for path in (tmp_path / "overlay").iterdir() if path.is_dir()]


def test_the_compiled_forward_is_what_runs(flow: TinyFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def compiled(self: nn.Module, image: Tensor) -> Tensor:
        low, _, high = asked[0]["args"]["input_profiles"][0]["image"]
        assert image.shape[1] == low[1] == high[1]
        return SCORES.expand(len(image), 2)

    def trt_compile(model: nn.Module, base_path: str, args: dict[str, Any]) -> nn.Module:
        asked.append({"base_path": base_path, "args": args})
        model.forward = MethodType(compiled, model)  # type: ignore[method-assign]
        return model

    monkeypatch.setattr(monai.networks, "trt_compile", trt_compile)
    run_config(*FILES, run_id="inference", **options(flow, tmp_path))
    (request,) = asked
    assert request["base_path"] == str(flow.model)
    assert request["args"]["fallback"] is True
    assert [shape[2:] for shape in request["args"]["input_profiles"][0]["image"]] == [[16, 16], [128, 128], [512, 512]]
    rows = read_rows(tmp_path / "predictions.csv")
    assert len({row["p_1"] for row in rows}) == 1, "not the scores of the compiled forward"
    assert float(rows[0]["p_1"]) > 0.5


def test_a_slide_that_cannot_be_loaded_or_judged_fails_alone(
    flow: TinyFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiled(self: nn.Module, image: Tensor) -> Tensor:
        if not judged:
            judged.append(1)
            raise RuntimeError("no engine for this shape")
        return SCORES.expand(len(image), 2)

    def trt_compile(model: nn.Module, base_path: str, args: dict[str, Any]) -> nn.Module:
        model.forward = MethodType(compiled, model)  # type: ignore[method-assign]
        return model

    judged: list[int] = []
    monkeypatch.setattr(monai.networks, "trt_compile", trt_compile)
    shutil.copytree(flow.dataset, tmp_path / "data")
    first, second, *others = [row["slide_id"] for row in read_rows(tmp_path / "data" / "manifest.csv")]
    with h5py.File(tmp_path / "data" / f"{first}.h5", "r+") as file:
        file["features"][0] += 1  # as its checksum tells, when it is read
    stated = {**options(flow, tmp_path / "out"), "dataset_dir": tmp_path / "data"}
    with pytest.raises(RuntimeError) as caught:
        run_config(*FILES, run_id="inference", **stated)
    assert "2 of 8 slides failed, all others are done" in str(caught.value.__cause__)
    assert [row["slide_id"] for row in read_rows(tmp_path / "out" / "predictions.csv")] == others
    failed = {row["slide_id"]: row["error"] for row in read_rows(tmp_path / "out" / "manifest.csv") if row["error"]}
    assert set(failed) == {first, second}
    assert "checksum" in failed[first] and "RuntimeError: no engine for this shape" in failed[second]
