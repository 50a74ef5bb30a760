"""Promises about other people's files and about what is told to whom, over whole stages."""

import logging
import pickle
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_flow import ON_CPU, TinyFlow, run_config

from scripts.common.errors import RequestError
from scripts.common.weights import load_tensors

pytest_plugins = ["tiny_flow_fixture"]


class Runs:
    """What a loader that trusts a file would run."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("as_zip", [True, False, None])
def test_weights_run_no_code(as_zip: bool | None, tmp_path: Path) -> None:
    """Of torch.save's formats, and of a bare pickle."""
    content = {"a": torch.zeros(2), "more": Runs(tmp_path / "run")}
    path = tmp_path / "model.pt"
    if as_zip is None:
        path.write_bytes(pickle.dumps(content["more"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(RequestError, match=r"model\.pt: not a checkpoint of tensors"):
        load_tensors(path, expected="weights")
    assert not (tmp_path / "run").exists()
    if as_zip is not None:
        torch.load(path, weights_only=False)
        assert (tmp_path / "run").exists(), "who trusts the file runs it"


def test_nothing_connects_and_no_log_names_a_slide(
    flow: TinyFlow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    caplog.set_level(logging.INFO)
    slides = flow.slides.parent / "slides" / "test_000.tif"
    run_config(
        "inference.yaml", run_id="inference", slides=slides, output_dir=tmp_path / "out", **flow.trained, **ON_CPU
    )
    run_config("report.yaml", run_id="reporting", predictions_dir=tmp_path / "out", output_dir=tmp_path / "pages")
    assert (tmp_path / "pages" / "report.html").is_file()
    lines = [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG]
    assert len(lines) > 3 and not [line for line in lines if "test_000" in line or "tumor" in line]
