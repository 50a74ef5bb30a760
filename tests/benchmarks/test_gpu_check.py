"""Every section of the GPU check on the CPU, at small size."""

import json
from collections.abc import Iterator
from pathlib import Path

import gpu_check
import gpu_training
import pytest
import torch
from gpu_figures import SMALL, Figure, Sizes, missing

CPU = torch.device("cpu")
MEASURED = {
    "decode": ("cuCIM on cpu", "mean difference", "nvImageCodec"),
    "engines": ("float32: encoder", "bfloat16: largest deviation", "network alone", "torch.compile"),
    "end_to_end": ("auto: reader", "end to end (paper", "slower of reader and encoder / end to end"),
    "training": ("C = 16: step on 72 patches", "peak memory", "projection 8", "head patch"),
    "inference": ("inference with heat maps", "slides encoded, classified and mapped"),
    "one_process_group": ("torchrun, one process, gloo: 2 epochs",),
}
ABSENT = {"tests": "not there: no CUDA", "tensorrt": "not there: no CUDA"}


@pytest.mark.parametrize("name", MEASURED)
def test_a_section(name: str, tmp_path: Path) -> None:
    if name in ("decode", "end_to_end"):
        pytest.importorskip("cucim")
    figures = list(gpu_check.SECTIONS[name](CPU, SMALL, tmp_path))
    told = [figure.what for figure in figures]
    assert all(any(what in line for line in told) for what in MEASURED[name]), told
    absent = [figure for figure in figures if isinstance(figure.value, str)]
    assert [figure.what for figure in absent] == (["nvImageCodec"] if name == "decode" else [])
    assert all(figure.value >= 0 for figure in figures if not isinstance(figure.value, str))


@pytest.mark.parametrize("name", ABSENT)
def test_what_only_a_gpu_has_is_told(name: str, tmp_path: Path) -> None:
    assert [figure.value for figure in gpu_check.SECTIONS[name](CPU, SMALL, tmp_path)] == [ABSENT[name]]


def test_a_step_is_timed_by_the_kernels_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    next(gpu_check.SECTIONS["training"](CPU, SMALL, tmp_path))
    assert torch.backends.cudnn.deterministic


def test_a_warning_that_only_cuda_raises_fails_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = cuda\nfilterwarnings = error\n")
    (tmp_path / "tests" / "cuda").mkdir(parents=True)
    lines = ["import warnings, pytest", "@pytest.mark.cuda", "def test_it():", "    warnings.warn('by CUDA')"]
    (tmp_path / "tests" / "cuda" / "test_it.py").write_text("\n".join(lines))
    monkeypatch.setattr(gpu_training, "REPO", tmp_path)
    (figure,) = gpu_check.SECTIONS["tests"](torch.device("cuda"), SMALL, tmp_path)
    assert "1 passed, 1 warning" in str(figure.value)


def test_a_module_that_is_not_installed_is_named() -> None:
    assert missing("it", "torch") is None
    assert missing("it", "torch", "not_there.part") == Figure("it", "not there: not_there.part is not installed")


def test_a_section_that_fails_costs_itself_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a whole process: a bad device ends it, and the files say so."""
    code = gpu_check.main(["--output_dir", str(tmp_path), "--device", "nowhere", "--small", "--sections", "machine"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert code == 1 and list(results) == ["machine"]
    assert all(found["ended"].startswith("failed: RuntimeError") for found in results.values())
    table = (tmp_path / "table.md").read_text()
    assert table.count("| ended | failed") == 1 and table.strip() in capsys.readouterr().out
    assert (tmp_path / "machine.log").is_file()


def test_figures_are_kept_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def section(device: torch.device, sizes: Sizes, folder: Path) -> Iterator[Figure]:
        yield Figure("first", 1234.5, "patches/s", ">= 1")
        raise RuntimeError("then it fails")

    monkeypatch.setitem(gpu_check.SECTIONS, "machine", section)
    with pytest.raises(RuntimeError):
        gpu_check.run_section("machine", "cpu", True, tmp_path / "m.jsonl")
    figures = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    results = {"machine": {"ended": "failed: it", "seconds": 1.0, "figures": figures}}
    assert "| machine | first | 1,234 patches/s | >= 1 |" in gpu_check.table(results)


def test_without_a_gpu_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--output_dir", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()
