"""The parts of the MONAI Label app without its server; MONAI Label is stood in for."""

import fnmatch
import importlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from tiny_flow import BUNDLE

from scripts.inference.annotations import outline, write_asap_xml, write_geojson
from scripts.slides.geometry import PatchGrid

fastapi = pytest.importorskip("fastapi", reason="fastapi is not installed")
requests = pytest.importorskip("requests", reason="requests is not installed")
APP = BUNDLE.parent / "integrations" / "monailabel"
STAND_INS = {
    "monailabel": (),
    "monailabel.config": ("settings",),
    "monailabel.datastore.local": ("LocalDatastore",),
    "monailabel.interfaces.app": ("MONAILabelApp",),
    "monailabel.interfaces.datastore": ("Datastore", "DefaultLabelTag"),
    "monailabel.interfaces.exception": ("MONAILabelError", "MONAILabelException"),
    "monailabel.interfaces.tasks.infer_v2": ("InferTask", "InferType"),
    "monailabel.interfaces.tasks.train": ("TrainTask",),
    "monailabel.utils.others.pathology": ("create_dsa_annotations_json",),
}
"""Names that the app imports of MONAI Label, by module."""


class Base:
    CLASSIFICATION = APP_INIT_ERROR = ""

    def __init__(self, *args: object, **kwargs: object) -> None: ...


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """The app's modules."""
    for name, holds in STAND_INS.items():
        module = ModuleType(name)
        vars(module).update({one: type(one, (Base,), {}) for one in holds})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(
        sys.modules["monailabel.utils.others.pathology"],
        "create_dsa_annotations_json",
        lambda result: (json.dumps(result["annotations"]), 0),
    )
    monkeypatch.syspath_prepend(str(APP))
    before = set(sys.modules)
    yield SimpleNamespace(
        main=importlib.import_module("main"),
        bundle=importlib.import_module("lib.bundle"),
        infer=importlib.import_module("lib.infer"),
        settings=sys.modules["monailabel.config"].settings,  # type: ignore[attr-defined]
        put_labels=importlib.import_module("put_labels"),
    )
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("lib", "main", "put_labels"):
            del sys.modules[name]


def test_slides_are_seen_whatever_the_case_of_their_suffix(
    app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As MONAI Label's datastore looks for them."""
    monkeypatch.setattr(app.bundle.Bundle, "_facts", {"suffixes": [".svs", ".tif"], "levels": [0.5]})
    app.main.SlideApp(str(tmp_path), str(tmp_path), {"bundle": str(BUNDLE)})
    names = ["a.svs", "b.SVS", "c.tif", "d.TIF", "e.txt", "f.tiff"]
    patterns = app.settings.MONAI_LABEL_DATASTORE_FILE_EXT
    assert {name for pattern in patterns for name in fnmatch.filter(names, pattern)} == {*names} - {"e.txt", "f.tiff"}


@pytest.fixture
def task(app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The task on a slide that is classified without its bundle."""
    (tmp_path / "s.tif").touch()
    bundle = SimpleNamespace(classes=["n", "t"], name="x", work=tmp_path / "work", metadata={"description": ""})
    row = {"slide_id": "s", "p_n": "0.2", "p_t": "0.8", "predicted": "t", "threshold": "0.5", "stream_score": "1.0"}
    monkeypatch.setattr(app.infer.SlideInferTask, "_classify", lambda *_: row)
    return app.infer.SlideInferTask(bundle)


def request_of(folder: Path, **more: str) -> dict[str, str]:
    return {"image": str(folder / "s.tif"), "slide_id": "s", **more}


def test_a_model_without_a_heat_map_is_served(task: Any, tmp_path: Path) -> None:
    for more in ({}, {"output": "dsa"}):
        file, result = task(request_of(tmp_path, **more))
        assert [one["score"] for one in result["prediction"]] == [0.2, 0.8]
        assert result["annotations"] == [] and file == ("[]" if more else None)
    with pytest.raises(fastapi.HTTPException) as caught:
        task(request_of(tmp_path, output="asap"))
    assert caught.value.status_code == 422 and "has no heat map" in caught.value.detail


def test_the_outlines_of_a_heat_map_are_served(task: Any, tmp_path: Path) -> None:
    folder = tmp_path / "work" / "inference" / "s" / "s"
    folder.mkdir(parents=True)
    bands = outline(np.ones((2, 2), np.float32), PatchGrid(8, (0, 0), (2, 2)), class_name="t")
    write_asap_xml(folder / "cam.xml", bands)
    write_geojson(folder / "cam.geojson", bands, bounds_xy_px=(0, 0))
    file, result = task(request_of(tmp_path, output="asap"))
    assert len(result["annotations"]) == 1 and "t &gt;= 0.75" in Path(file).read_text(encoding="utf-8")
    Path(file).unlink()


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """A server that has every slide but "unknown", fails with "broken", and what was put: path, slide, body."""
    put: list[tuple[str, str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            (slide,) = parse_qs(url.query)["image"]
            code = {"unknown": 404, "broken": 500}.get(slide, 200)
            if code == 200:
                put.append((url.path, slide, body))
            self.send_response(code)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", put
    running.shutdown()
    thread.join()
    running.server_close()


def put_labels(app: SimpleNamespace, table: Path, text: str, server: str) -> int:
    table.write_text(text, encoding="utf-8")
    return int(app.put_labels.main([str(table), "--server", server, "--bundle", str(BUNDLE)]))


def test_a_slide_that_the_server_has_not_does_not_stop_the_others(
    app: SimpleNamespace,
    server: tuple[str, list[tuple[str, str, str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Spaces around names and cells are nothing, as in every table of the bundle."""
    table = (
        "slide, label ,patient,mpp\nin/a.SVS, tumor ,p1,0.25\nunknown.svs,tumor,p2,\nbroken.svs,tumor,p4,\n"
        "b.svs,,p3,0.5\nc.svs,normal,,\n"
    )
    assert put_labels(app, tmp_path / "slides.csv", table, server[0]) == 1
    out, err = capsys.readouterr()
    assert out == "2 labels\n"
    unknown, broken = err.splitlines()
    assert unknown.startswith(f"{tmp_path / 'unknown.svs'}: not put (404 ")
    assert broken.startswith(f"{tmp_path / 'broken.svs'}: not put (500 ")
    assert "expected a slide of the server's datastore" in unknown and "datastore:" not in broken
    assert [(path, slide) for path, slide, _ in server[1]] == [
        ("/datastore/image/info", "a"),
        ("/datastore/label", "a"),
        ("/datastore/image/info", "b"),
        ("/datastore/label", "c"),
    ]
    assert '{"label": "tumor", "patient": "p1"}' in server[1][1][2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("slide;label\na.svs;tumor\n", "semicolons"),
        ("slides,label\na.svs,tumor\n", "slide"),
        ("slide,label\na.svs,tumor\na.svs,normal\n", "line 2 already"),
    ],
)
def test_a_table_that_is_none_is_refused_before_anything_is_put(
    app: SimpleNamespace,
    server: tuple[str, list[tuple[str, str, str]]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    text: str,
    said: str,
) -> None:
    with pytest.raises(SystemExit) as ended:
        put_labels(app, tmp_path / "slides.csv", text, server[0])
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and said in line and str(tmp_path / "slides.csv") in line
    assert server[1] == []


def test_no_server_and_no_bundle_are_said_in_one_line(
    app: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        put_labels(app, tmp_path / "slides.csv", "slide,label\na.svs,tumor\n", "http://127.0.0.1:9")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1 and line.startswith("http://127.0.0.1:9: no answer") and "--server" in line
    with pytest.raises(SystemExit) as ended:
        app.put_labels.main([str(tmp_path / "slides.csv"), "--bundle", str(tmp_path)])
    assert ended.value.code == 2 and f"{tmp_path}: holds no scripts" in capsys.readouterr().err


def test_the_reader_of_tables_needs_no_package(tmp_path: Path) -> None:
    """MONAI Label's environment lacks most of the bundle's."""
    shutil.copytree(BUNDLE / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-I",
        "-S",
        "-B",
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import scripts.slides.table",
    ]
    subprocess.run(command, check=True)
