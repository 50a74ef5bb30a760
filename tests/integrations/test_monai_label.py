"""The MONAI Label app on a running server, asked over HTTP as QuPath and the Digital Slide Archive ask."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen
from xml.etree import ElementTree

import pytest
import torch
from checkout import Checkout
from tiny_flow import BUNDLE, TinyFlow, read_rows

from scripts.common.files import sha256_of, write_csv
from scripts.slides.table import read_slides

pytest_plugins = ["tiny_flow_fixture"]
pytestmark = pytest.mark.skipif(
    not os.environ.get("DSNET_LABEL_PYTHON"),
    reason="no environment of MONAI Label: `make label-test` makes one, or set DSNET_LABEL_PYTHON",
)

REPO = BUNDLE.parent
NAME = "pathology_wsi_dsnet_classification"
APP = REPO / "integrations" / "monailabel"
Rings = list[tuple[str, list[list[int]]]]
START_S, ANSWER_S, TRAINING_S = 180, 240, 400
MULTIPART = "\r\n".join(
    ["--edge", 'Content-Disposition: form-data; name="file"; filename="slide.tif"', "Content-Type: image/tiff", "", ""]
).encode()
NO_NETWORK = """
import os, socket

def guarded(function, host_of):
    def call(*arguments, **options):
        host = host_of(arguments)
        if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0"):
            with open(os.environ["DSNET_TEST_CALLS"], "a") as file:
                file.write(f"{host}\\n")
            raise OSError(f"no network: {host}")
        return function(*arguments, **options)
    return call

def peer(arguments):
    return arguments[1][0] if isinstance(arguments[1], tuple) else None

socket.socket.connect = guarded(socket.socket.connect, peer)
socket.socket.connect_ex = guarded(socket.socket.connect_ex, peer)
socket.getaddrinfo = guarded(socket.getaddrinfo, lambda arguments: arguments[0])
"""
"""A sitecustomize.py: of every Python process of the server, what it asks of another machine fails and is written down."""


@dataclass(frozen=True)
class Server:
    """A running server and what it was given."""

    url: str
    bundle: Path
    studies: Path
    app: Path
    log: Path
    calls: Path

    def ask(self, method: str, path: str, *, content_type: str = "", body: bytes | None = None, **query: str) -> bytes:
        """Send a request; the answer's status must be 200."""
        url = f"{self.url}{path}?{urlencode(query)}"
        headers = {"Content-Type": content_type} if content_type else {}
        with urlopen(Request(url, data=body, headers=headers, method=method), timeout=ANSWER_S) as answer:
            content: bytes = answer.read()
        return content

    def ask_json(self, method: str, path: str, value: Any = None, **query: str) -> Any:
        """The same with JSON both ways."""
        body = None if value is None else json.dumps(value).encode()
        return json.loads(self.ask(method, path, content_type="application/json", body=body, **query))

    def predict(self, image: str) -> dict[str, Any]:
        """Ask for the prediction of a slide of the datastore."""
        answer: dict[str, Any] = self.ask_json("POST", f"/infer/{NAME}", image=image)
        return answer

    def train(self, **options: Any) -> dict[str, Any]:
        """Train to the end; return the task."""
        self.ask_json("POST", f"/train/{NAME}", options)
        end = time.monotonic() + TRAINING_S
        while (task := self.ask_json("GET", "/train/"))["status"] in ("SUBMITTED", "RUNNING"):
            assert time.monotonic() < end, task
            time.sleep(1)
        return dict(task)


@pytest.fixture(scope="module")
def label_python() -> str:
    """Interpreter of an environment with MONAI Label."""
    return str(Path(os.environ["DSNET_LABEL_PYTHON"]).absolute())


@pytest.fixture(scope="module")
def bundle(label_python: str, flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked package, with the weights of the tiny flow.

    The last layer's sign is turned: after two epochs nothing argues for class 1, and its heat map would be empty.
    """
    folder, models = tmp_path_factory.mktemp("package"), tmp_path_factory.mktemp("models")
    shutil.copy(flow.encoder, models / "scae.pt")
    weights = torch.load(flow.model, weights_only=True)
    *_, weight, bias = weights
    torch.save({**weights, weight: -weights[weight], bias: -weights[bias]}, models / "model.pt")
    card = json.loads(flow.model.with_suffix(".json").read_text(encoding="utf-8"))
    card["weights_sha256"] = sha256_of(models / "model.pt")
    (models / "model.json").write_text(json.dumps(card), encoding="utf-8")
    command = [sys.executable, str(REPO / "tools" / "package.py"), "--name", NAME]
    command += ["--models", str(models), "--output_dir", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    (package,) = folder.glob("*.zip")
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    return folder / NAME


@pytest.fixture(scope="module")
def slide(flow: TinyFlow) -> Path:
    """A real slide where there is one, else a generated one."""
    data = Path(os.environ.get("DSNET_DATA", REPO.parent / "shared" / "data"))
    real = data / "slides" / "cmu-1-small-region.svs"
    return real if real.is_file() else flow.slides.parent / "slides" / "test_001.tif"


@pytest.fixture(scope="module")
def server(
    label_python: str, bundle: Path, slide: Path, flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The app on a server of its own, without a network."""
    root = tmp_path_factory.mktemp("server")
    app, studies, calls = root / "app", root / "studies", root / "calls.txt"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("__pycache__", "logs", "model", "work", "bin"))
    studies.mkdir()
    for path in {slide, *(flow.slides.parent / "slides").iterdir()}:
        shutil.copy(path, studies)
    (studies / "broken.tif").write_bytes(b"II*\0 not a slide")
    (root / "guard").mkdir()
    (root / "guard" / "sitecustomize.py").write_text(NO_NETWORK, encoding="utf-8")
    calls.touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = start_command(label_python, app, studies, bundle, python=sys.executable, port=port)
    environment = {**os.environ, "PYTHONPATH": str(root / "guard"), "DSNET_TEST_CALLS": str(calls), "HOME": str(root)}
    log = root / "server.log"
    with open(log, "w", encoding="utf-8") as output:
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=output, stderr=subprocess.STDOUT)
    running = Server(f"http://127.0.0.1:{port}", bundle, studies, app, log, calls)
    try:
        wait_for(running, process)
        yield running
    finally:
        process.terminate()
        process.wait(timeout=60)


def start_command(label_python: str, app: Path, studies: Path, bundle: Path, *, python: str, port: int) -> list[str]:
    command = [label_python, "-m", "monailabel.main", "start_server", "--app", app, "--studies", studies]
    command += ["--host", "127.0.0.1", "--port", port, "--verbose", "WARNING"]
    command += ["--conf", "bundle", bundle, "--conf", "python", python]
    return list(map(str, command))


def wait_for(server: Server, process: "subprocess.Popen[bytes]") -> None:
    """Return when the server answers."""
    end = time.monotonic() + START_S
    while True:
        try:
            server.ask("GET", "/info/")
            return
        except URLError:
            late = process.poll() is not None or time.monotonic() > end
            assert not late, server.log.read_text(encoding="utf-8")[-3000:]
            time.sleep(0.5)


def inferred(bundle: Path, slide: Path, output: Path, **options: Path) -> tuple[dict[str, str], Rings]:
    """What the package's ``inference.yaml`` says of a slide: its row of predictions.csv, the outlines of cam.xml."""
    words = ["inference", "--bundle_root", bundle, "--config_file", bundle / "configs" / "inference.yaml"]
    for name, value in {"slides": slide, "output_dir": output, **options}.items():
        words += [f"--{name}", value]
    command = [sys.executable, "-m", "monai.bundle", "run", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=ANSWER_S)
    (row,) = read_rows(output / "predictions.csv")
    return row, rings_of((output / slide.stem / "cam.xml").read_bytes(), "PartOfGroup")


def rings_of(asap: bytes, name: str) -> Rings:
    """Label and points of every outline, sorted; the label is the attribute ``name``."""
    return sorted(
        (element.attrib[name], [[int(point.attrib[axis]) for axis in "XY"] for point in element.iter("Coordinate")])
        for element in ElementTree.fromstring(asap).iter("Annotation")
    )


@pytest.fixture(scope="module")
def reference(bundle: Path, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Rings]:
    """The same slide by ``inference.yaml``."""
    return inferred(bundle, slide, tmp_path_factory.mktemp("reference"))


def scores(answer: dict[str, Any]) -> list[float]:
    return [entry["score"] for entry in answer["prediction"]]


def test_info_names_the_model(server: Server) -> None:
    info = server.ask_json("GET", "/info/")
    assert list(info["models"]) == list(info["trainers"]) == [NAME]
    assert info["models"][NAME]["type"] == "classification"
    assert info["datastore"]["total"] == sum(path.suffix in (".svs", ".tif") for path in server.studies.iterdir())


def test_prediction_is_that_of_inference_yaml(
    server: Server, slide: Path, reference: tuple[dict[str, str], Rings]
) -> None:
    answer = server.predict(slide.stem)
    row, _ = reference
    assert [(entry["idx"], entry["label"]) for entry in answer["prediction"]] == [(0, "0"), (1, "1")]
    assert scores(answer) == pytest.approx([float(row["p_0"]), float(row["p_1"])], abs=1e-4)
    assert answer["stream_score"] == pytest.approx(float(row["stream_score"]), abs=1e-4)
    assert (answer["predicted"], answer["threshold"]) == (row["predicted"], float(row["threshold"]))


def test_prediction_of_an_uploaded_slide(server: Server, flow: TinyFlow) -> None:
    path = flow.slides.parent / "slides" / "test_000.tif"
    body = MULTIPART + path.read_bytes() + b"\r\n--edge--\r\n"
    answer = server.ask("POST", f"/infer/{NAME}", content_type="multipart/form-data; boundary=edge", body=body)
    assert scores(json.loads(answer)) == pytest.approx(scores(server.predict("test_000")), abs=1e-4)
    assert {path.name for path in (server.app / "work" / "inference").iterdir()} <= {
        path.stem for path in server.studies.iterdir()
    }, "of an upload nothing is kept"


def test_outlines_are_those_of_the_heat_map(
    server: Server, slide: Path, reference: tuple[dict[str, str], Rings]
) -> None:
    assert reference[1], "nothing to compare"
    (annotations,) = (entry["annotation"] for entry in server.predict(slide.stem)["annotations"])
    found = [(element["label"], ring) for element in annotations["elements"] for ring in element["contours"]]
    assert sorted(found) == reference[1]
    assert {label for label, _ in found} <= set(annotations["labels"])


def test_qupath_gets_asap_xml(server: Server, slide: Path, reference: tuple[dict[str, str], Rings]) -> None:
    """The request of its extension; it makes a class of every Name, and on a second run removes those that /info/ lists."""
    request = {"level": 0, "location": [0, 0], "size": [512, 512], "tile_size": [1024, 1024], "min_poly_area": 30}
    request["params"] = {"foreground": [], "background": [], "max_workers": 1}
    body = json.dumps(request).encode()
    answer = server.ask(
        "POST", f"/infer/wsi/{NAME}", content_type="application/json", body=body, output="asap", image=slide.stem
    )
    found = rings_of(answer, "Name")
    assert found == reference[1], "this slide's scan begins at 0, 0"
    labels = server.ask_json("GET", "/info/")["models"][NAME]["labels"]
    assert {name for name, _ in found} <= set(labels)
    annotations = ElementTree.fromstring(answer).find("Annotations")
    assert annotations is not None
    assert annotations.attrib["Description"].startswith("0 0."), "the scores"


def test_digital_slide_archive_gets_json(server: Server, slide: Path, reference: tuple[dict[str, str], Rings]) -> None:
    request = {"location": [-1, -1], "size": [-1, -1], "output": "dsa", "params": {"wsi_tiles": []}}
    answer = server.ask_json("POST", f"/infer/wsi/{NAME}", request, output="dsa", image=slide.stem)
    found = [(item["label"]["value"], [point[:2] for point in item["points"]]) for item in answer["elements"]]
    assert sorted(found) == reference[1]
    assert {(item["type"], item["closed"]) for item in answer["elements"]} == {("polyline", True)}


@pytest.mark.parametrize(
    ("image", "status", "said"), [("nowhere", 404, "GET /datastore/"), ("broken", 500, "cannot be read")]
)
def test_a_slide_that_cannot_be_classified(server: Server, image: str, status: int, said: str) -> None:
    with pytest.raises(HTTPError) as caught:
        server.predict(image)
    with caught.value as answer:
        assert answer.code == status
        assert said in json.loads(answer.read())["detail"]


def test_training_serves_the_new_model(server: Server, label_python: str, flow: TinyFlow, tmp_path: Path) -> None:
    slide = flow.slides.parent / "slides" / "test_001.tif"
    before = server.predict(slide.stem)
    table = tmp_path / "slides.csv"
    with open(table, "w", newline="", encoding="utf-8") as file:  # names for classes; no split: the app draws one
        rows = [[row["slide"], ("normal", "tumor")[int(row["label"])]] for row in read_rows(flow.slides)]
        csv.writer(file).writerows([["slide", "label"], *rows])
    put = [label_python, str(APP / "put_labels.py"), str(table), "--server", server.url, "--bundle", str(server.bundle)]
    assert "8 labels" in subprocess.run(put, check=True, capture_output=True, text=True, timeout=60).stdout
    assert server.ask_json("GET", "/info/")["datastore"]["completed"] == 8

    task = server.train(max_epochs=2, learning_rate="1e-3", batch_size=4)
    assert task["status"] == "DONE", task["details"]
    answer = server.predict(slide.stem)
    assert [entry["label"] for entry in answer["prediction"]] == ["normal", "tumor"]
    assert scores(answer) != pytest.approx(scores(before), abs=1e-6)
    (model,) = (server.app / "work" / "models").glob("*/model.pt")
    row, outlines = inferred(server.bundle, slide, tmp_path / "out", model=model)
    assert scores(answer) == pytest.approx([float(row["p_normal"]), float(row["p_tumor"])], abs=1e-4)
    (annotations,) = (entry["annotation"] for entry in answer["annotations"])
    assert sum(len(element["contours"]) for element in annotations["elements"]) == len(outlines)
    stats = server.ask_json("GET", "/info/")["train_stats"][NAME]
    assert stats["training"]["slides"] + stats["validation"]["slides"] == 8


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_epochs": "$print('code')"}, "max_epochs"),
        ({"classes": ["normal", "$print('code')"]}, "classes"),
    ],
)
def test_a_wrong_training_says_why(server: Server, options: dict[str, Any], said: str) -> None:
    """After the training above: its labels are there."""
    task = server.train(**options)
    assert task["status"] == "ERROR"
    assert any("422" in line and said in line for line in task["details"]), task["details"]


def test_the_commands_of_the_readme_run(label_python: str, flow: TinyFlow, tmp_path: Path) -> None:
    environments = {".venv": sys.executable, ".venv-label": label_python}
    checkout = Checkout(tmp_path / "checkout", models=flow.model.parent, environments=environments)
    labels = []
    for index, row in enumerate(read_slides(flow.slides)):
        name = f"slide_{index + 1}.tif"
        (checkout.folder / "SLIDES").mkdir(exist_ok=True)
        shutil.copy(row.path, checkout.folder / "SLIDES" / name)
        labels.append({"slide": f"SLIDES/{name}", "label": row.label, "split": row.split})
    write_csv(checkout.folder / "slides.csv", list(labels[0]), labels)
    one = {name: value for name, value in labels[0].items() if name != "slide"}
    (checkout.folder / "slide_1.json").write_text(json.dumps(one), encoding="utf-8")
    start, *requests = checkout.blocks("integrations/monailabel/README.md")
    assert len(requests) == 2
    log = tmp_path / "server.log"
    with checkout.running(start, log) as process:
        bundle, studies = checkout.folder / "bundle", checkout.folder / "SLIDES"
        wait_for(Server("http://127.0.0.1:8000", bundle, studies, checkout.folder, log, log), process)
        said = checkout.run(requests)
    assert '"prediction"' in said and ("RUNNING" in said or "SUBMITTED" in said)


def test_a_python_without_the_requirements_is_refused(label_python: str, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__", "logs", "model", "work", "bin"))
    command = start_command(label_python, tmp_path / "app", tmp_path / "studies", bundle, python=label_python, port=0)
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=START_S)
    assert result.returncode
    assert "cannot run the bundle (ModuleNotFoundError" in result.stdout + result.stderr


def test_nothing_asked_for_another_machine_or_logged_a_name(server: Server) -> None:
    """The last of this file: what the server did for all the others."""
    assert server.calls.read_text(encoding="utf-8") == ""
    log = server.log.read_text(encoding="utf-8")
    assert log, "no log to look into"
    assert [path.name for path in server.studies.iterdir() if path.is_file() and path.stem in log] == []
