"""The MONAI Deploy application, run by its command line, against ``inference.yaml`` on the same slides."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkout import Checkout
from PIL import Image
from tiny_flow import BUNDLE, ON_CPU, TinyFlow, read_rows, run_config

from scripts.common.files import sha256_of
from scripts.slides.opening import open_slide
from scripts.slides.table import read_slides

pytest_plugins = ["tiny_flow_fixture"]

APP = BUNDLE.parent / "integrations" / "monai_deploy"
TOOL = BUNDLE.parent / "tools" / "package.py"
NAME = "pathology_wsi_dsnet_classification"
MAPS = ["cam.geojson", "cam.nii.gz", "cam.ome.tif", "cam.png", "cam.xml"]
ON_DISK = [*MAPS, "observed.png", "prediction.json", "scores.json", "thumbnail.png"]
PATIENT = "Иванов^Пётр"


@pytest.fixture(scope="session")
def python() -> str:
    """An interpreter that has MONAI Deploy."""
    named = os.environ.get("DSNET_DEPLOY_PYTHON")
    if named is None and importlib.util.find_spec("holoscan") is None:
        pytest.skip("no MONAI Deploy here: run make deploy-test, or name in DSNET_DEPLOY_PYTHON a Python that has it")
    return named or sys.executable


@pytest.fixture(scope="session")
def trained(flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained networks with a card whose temperature and threshold are not the neutral ones."""
    folder = tmp_path_factory.mktemp("trained") / "models"
    shutil.copytree(flow.model.parent, folder)
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    (folder / "model.json").write_text(json.dumps({**card, "temperature": 0.4, "threshold": 0.3}))
    return folder


@pytest.fixture(scope="session")
def models(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of those networks."""
    return packaged(trained, tmp_path_factory.mktemp("deploy"))


def packaged(trained: Path, folder: Path) -> Path:
    """What `make package` writes, unpacked, less ``model.pt``."""
    words = [TOOL, "--name", NAME, "--models", trained, "--output_dir", folder / "dist"]
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True, timeout=240)
    (package,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder / "models")
    (folder / "models" / NAME / "models" / "model.pt").unlink()
    return folder / "models"


def run_app(python: str, models: Path, slides: Path, output: Path) -> subprocess.CompletedProcess[str]:
    """Run the application as a user does."""
    words = ["--model", models, "--input", slides, "--output", output]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    command = [python, str(APP), *map(str, words)]
    return subprocess.run(
        command, cwd=output.parent, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def expected(trained: Path, slides: Path, output: Path) -> dict[str, dict[str, str]]:
    """Rows of the ``predictions.csv`` that ``inference.yaml`` writes, by slide; slides that fail are left out."""
    options = {"slides": slides, "output_dir": output, "model": trained / "model.pt", "encoder": trained / "scae.pt"}
    with suppress(RuntimeError):
        run_config("inference.yaml", run_id="inference", **options, **ON_CPU)
    return {row["slide_id"]: row for row in read_rows(output / "predictions.csv")}


def require_agreement(result: dict[str, Any], row: dict[str, str]) -> None:
    """Compare ``prediction.json`` with a row of ``predictions.csv``."""
    assert result["predicted"] == row["predicted"]
    assert result["threshold"] == float(row["threshold"])
    assert result["stream_score"] == pytest.approx(float(row["stream_score"]), abs=1e-4)
    assert sorted(result["probabilities"]) == sorted(name[2:] for name in row if name.startswith("p_"))
    for name, probability in result["probabilities"].items():
        assert probability == pytest.approx(float(row[f"p_{name}"]), abs=1e-4)
    assert min(result["probabilities"].values()) > 0.01, "too near to 0 to tell a number that was cut to an integer"


def read_result(output: Path, slide_id: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((output / slide_id / "prediction.json").read_text(encoding="utf-8"))
    return result


def test_a_table_of_slides_one_of_them_broken(
    python: str, models: Path, trained: Path, flow: TinyFlow, tmp_path: Path
) -> None:
    """The others are done as by ``inference.yaml``; slides of one name stay apart, and a resolution may be given."""
    generated = [row.path for row in read_slides(flow.slides)]
    (tmp_path / "in" / "twin").mkdir(parents=True)
    shutil.copy(generated[0], tmp_path / "in" / "a.tif")
    shutil.copy(generated[-1], tmp_path / "in" / "twin" / "a.tif")
    (tmp_path / "in" / "broken.tif").write_bytes(b"II*\x00 and no more")
    table = tmp_path / "in" / "slides.csv"
    table.write_text("slide,mpp\na.tif,2.2\ntwin/a.tif,\nbroken.tif,\n")
    done = run_app(python, models, table, tmp_path / "out")
    assert done.returncode == 1, done.stderr
    assert "1 of 3 slides failed" in done.stderr
    rows = expected(trained, table, tmp_path / "ref")
    assert len(rows) == 2
    for slide_id, row in rows.items():
        assert sorted(path.name for path in (tmp_path / "out" / slide_id).iterdir()) == ON_DISK
        require_agreement(read_result(tmp_path / "out", slide_id), row)
    assert [(row["slide_id"], row["status"]) for row in read_rows(tmp_path / "out" / "manifest.csv")] == [
        *((slide_id, "done") for slide_id in rows),
        ("broken", "failed"),
    ]
    assert not (tmp_path / "out" / "dicom_sr").exists()
    assert not [word for word in ("broken", "twin") if word in re.sub(r"out/\S+", "", done.stderr)]


def test_a_network_without_a_heat_map_classifies_every_slide(python: str, flow: TinyFlow, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    overlay = "baselines/colour_statistics.yaml"
    options = {
        "dataset_dir": flow.dataset,
        "output_dir": tmp_path / "log",
        "model": trained / "model.pt",
        "max_epochs": 1,
    }
    run_config("train.yaml", overlay, run_id="training", **options, **ON_CPU)
    shutil.copy(flow.encoder, trained / "scae.pt")
    done = run_app(python, packaged(trained, tmp_path), flow.slides.parent / "slides", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = read_rows(tmp_path / "out" / "manifest.csv")
    assert {row["status"] for row in rows} == {"done"} and len(rows) == len(read_slides(flow.slides))
    for row in rows:
        assert [path.name for path in (tmp_path / "out" / row["output"]).iterdir()] == ["prediction.json"]


def test_a_real_slide(python: str, models: Path, trained: Path, data_dir: Path, tmp_path: Path) -> None:
    slide = data_dir / "slides" / "cmu-1-small-region.svs"
    done = run_app(python, models, slide, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    result = read_result(tmp_path / "out", slide.stem)
    require_agreement(result, expected(trained, slide, tmp_path / "ref")[slide.stem])
    assert result["model"]["weights_sha256"] == sha256_of(trained / "model.pt")
    mine, theirs = (
        np.asarray(Image.open(tmp_path / folder / slide.stem / "cam.png").convert("RGB"), dtype=int)
        for folder in ("out", "ref")
    )
    assert mine.shape == theirs.shape
    assert np.ptp(mine, axis=(0, 1)).min() > 50, "an empty picture"
    assert abs(mine - theirs).mean() < 1


def test_a_dicom_slide_gets_a_report(python: str, models: Path, trained: Path, flow: TinyFlow, tmp_path: Path) -> None:
    """A series of two files is one slide; a DICOM object of another kind beside them is left out."""
    pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
    from slides.dicom_file import SERIES, STUDY, write_dicom_slide

    with open_slide(read_slides(flow.slides)[0].path) as reader:
        corner, size = np.zeros((1, 2), dtype=np.int64), reader.level_sizes_xy_px[0]
        (pixels,), mpp_xy = reader.read_patches(corner, size_xy_px=size, level=0), reader.mpp_xy
    assert mpp_xy is not None
    (tmp_path / "in").mkdir()
    files = write_dicom_slide(tmp_path / "in", [pixels, pixels[::2, ::2]], mpp_xy=mpp_xy)
    for path in files:
        header = pydicom.dcmread(path)
        header.SpecificCharacterSet, header.PatientName = "ISO_IR 192", PATIENT
        header.save_as(path)
    header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = pydicom.uid.BasicTextSRStorage
    header.SeriesInstanceUID = pydicom.uid.generate_uid()
    header.save_as(tmp_path / "in" / "report.dcm")

    done = run_app(python, models, tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    (entry,) = read_rows(tmp_path / "out" / "manifest.csv")
    assert (entry["slide_id"], entry["status"]) == ("level0", "done")
    result = read_result(tmp_path / "out", "level0")
    require_agreement(result, expected(trained, files[0], tmp_path / "ref")["level0"])
    assert result["dicom"] == {"study_instance_uid": STUDY, "series_instance_uid": SERIES}

    heat_map = pydicom.dcmread(tmp_path / "out" / "level0" / "cam.dcm")
    assert (heat_map.SOPClassUID, heat_map.StudyInstanceUID) == (pydicom.uid.ParametricMapStorage, STUDY)

    (path,) = (tmp_path / "out" / "dicom_sr").iterdir()
    report = pydicom.dcmread(path)
    assert report.SOPClassUID == pydicom.uid.BasicTextSRStorage
    assert (report.StudyInstanceUID, report.PatientID, str(report.PatientName)) == (STUDY, "T1", PATIENT)
    assert report.SeriesInstanceUID != SERIES
    (content,) = report.ContentSequence
    assert f"Predicted class: {result['predicted']}" in content.TextValue
    for name, probability in result["probabilities"].items():
        assert f"P({name}) = {probability:.4f}" in content.TextValue
    assert sha256_of(trained / "model.pt") in content.TextValue
    (origin,) = report.ContributingEquipmentSequence
    assert origin.DeviceUID == pydicom.uid.generate_uid(entropy_srcs=[sha256_of(trained / "model.pt")])


def without_scripted_network(bundle: Path, trained: Path) -> None:
    (bundle / "models" / "model.ts").unlink()


def without_card(bundle: Path, trained: Path) -> None:
    (bundle / "models" / "model.json").unlink()


def with_an_old_export(bundle: Path, trained: Path) -> None:
    """As after a training that no export followed."""
    import torch

    state = torch.load(trained / "model.pt", weights_only=True)
    name = next(iter(state))
    state[name] = state[name] + 1
    torch.save(state, bundle / "models" / "model.pt")
    card = json.loads((bundle / "models" / "model.json").read_text())
    card["weights_sha256"] = sha256_of(bundle / "models" / "model.pt")
    (bundle / "models" / "model.json").write_text(json.dumps(card))


def with_another_encoder(bundle: Path, trained: Path) -> None:
    card = json.loads((bundle / "models" / "model.json").read_text())
    (bundle / "models" / "model.json").write_text(json.dumps({**card, "encoder": "SCAEEncoder sha256:0"}))


def twice(bundle: Path, trained: Path) -> None:
    shutil.copytree(bundle / "configs", bundle.parent / "another" / "configs")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_scripted_network, r"model\.ts: no such file.*make package"),
        (without_card, r"model\.json: no such file.*expected the model card"),
        (with_an_old_export, r"model\.ts: not made from .*make package"),
        (with_another_encoder, "trained on embeddings of SCAEEncoder sha256:0, but these are of"),
        (twice, "2 bundles, expected one"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_model_folder_that_does_not_serve(
    damage: Any, message: str, python: str, models: Path, trained: Path, flow: TinyFlow, tmp_path: Path
) -> None:
    """Exit code 2, the remedy on the last line, and no output."""
    shutil.copytree(models, tmp_path / "models")
    damage(tmp_path / "models" / NAME, trained)
    done = run_app(python, tmp_path / "models", read_slides(flow.slides)[0].path, tmp_path / "out")
    assert done.returncode == 2, done.stderr
    assert re.search(message, done.stderr.splitlines()[-1]), done.stderr
    assert not list((tmp_path / "out").iterdir())


def test_the_commands_of_the_readme_run(python: str, flow: TinyFlow, tmp_path: Path) -> None:
    environments = {".venv": sys.executable, ".venv-deploy": python}
    checkout = Checkout(tmp_path / "checkout", models=flow.model.parent, environments=environments)
    shutil.copy(read_slides(flow.slides)[-1].path, checkout.folder / "slide.svs")
    blocks = checkout.blocks("integrations/monai_deploy/README.md")
    assert len(blocks) == 3
    checkout.run(blocks)
    assert read_result(checkout.folder / "OUT", "slide")["predicted"] in ("0", "1")


def test_the_pins_are_those_of_the_bundle() -> None:
    """Every requirement of the bundle, at the version it is tested with."""
    repo = BUNDLE.parent
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (repo / "constraints.txt").read_text(), re.MULTILINE))
    mine = dict(re.findall(r"^([\w.-]+)==(\S+)$", (APP / "requirements.txt").read_text(), re.MULTILINE))
    pinned, mine = ({name.lower(): version for name, version in pins.items()} for pins in (pinned, mine))
    assert list(mine) == sorted(mine)
    assert {name: version for name, version in mine.items() if pinned.get(name, version) != version} == {}
    text = (repo / "pyproject.toml").read_text(encoding="utf-8")
    required = re.findall(r'"([\w.-]+)>=', text[text.index("dependencies = [") : text.index("[project.optional-")])
    assert len(required) > 10
    assert set(required) <= set(mine)
