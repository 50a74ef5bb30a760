"""With ``--anonymise true`` no byte of the outputs names a slide, a patient or a place; names are planted, and looked for."""

import base64
import csv
import gzip
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
from PIL import Image
from slides.dicom_file import write_dicom_slide
from tiny_flow import ON_CPU, TinyFlow, read_rows, run_config

from scripts.common.errors import RequestError, SlideError
from scripts.encoding.checksums import seal

pytest_plugins = ["tiny_flow_fixture"]

PLANTED = ("muster", "h17-0815", "erika", "station9", "archiv")  # also in capitals
SLIDES = {
    "H17-0815_Muster": "test_000",
    "H17-0815_Muster_2": "test_001",
    "h17-0815-erika": "test_000",
    "Archiv_damaged": None,
}


@contextmanager
def ended_by(kind: type[Exception], message: str) -> Iterator[None]:
    """A run that an error of ours ends, out of which MONAI makes a RuntimeError."""
    with pytest.raises((RuntimeError, kind)) as caught:
        yield
    error: BaseException | None = caught.value
    while error is not None and not isinstance(error, kind):
        error = error.__cause__
    assert error is not None and re.search(message, str(error)), repr(caught.value)


@pytest.fixture(scope="module")
def dataset(flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embeddings of two slides, one of them a DICOM one, and of one that is damaged, all called by patients."""
    folder = tmp_path_factory.mktemp("station9") / "muster"
    (folder / "archiv").mkdir(parents=True)
    rows: list[dict[str, str]] = []
    for number, (name, source) in enumerate(SLIDES.items()):
        slide = folder / "archiv" / f"{name}.tif"
        if source is None:
            (folder / f"{name}.h5").write_bytes(b"\x89HDF\r\n\x1a\nErika")
        else:
            shutil.copy(flow.dataset / f"{source}.h5", folder / f"{name}.h5")
            shutil.copy(flow.slides.parent / "slides" / f"{source}.tif", slide)
        if "erika" in name:
            (folder / "archiv" / name).mkdir()
            pixels = tifffile.imread(flow.slides.parent / "slides" / f"{source}.tif", level=0)
            slide = write_dicom_slide(folder / "archiv" / name, [np.asarray(pixels)], mpp_xy=(0.5, 0.5))[0]
            with h5py.File(folder / f"{name}.h5", "r+") as file:
                stated = json.loads(file.attrs["parameters"])
                del stated["slide_bytes"]  # of the TIFF
                file.attrs["parameters"] = json.dumps(stated)
                seal(file)
        row = {
            "slide": str(slide.relative_to(folder)),
            "slide_id": name,
            "label": str(number % 2),
            "patient": f"Erika Muster {number}",
        }
        rows.append({**row, "split": "test" if number < 2 else ""})
    for table, chosen in (("slides.csv", rows), ("tested.csv", rows[:2])):
        with open(folder / table, "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(chosen)
    return folder


def run_all(flow: TinyFlow, dataset: Path, output: Path, **options: Any) -> Path:
    """Inference, one slide of which fails, evaluation and report."""
    with ended_by(SlideError, "1 of 4 slides failed"):
        run_config(
            "inference.yaml",
            run_id="inference",
            dataset_dir=dataset,
            output_dir=output / "predictions",
            **flow.trained,
            **ON_CPU,
            **options,
        )
    evaluated = {
        "dataset_dir": dataset,
        "slides": dataset / "tested.csv",
        "output_dir": output / "evaluation",
        "model": flow.model,
    }
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", **evaluated, **ON_CPU, **options)
    reported = {
        "predictions_dir": output / "predictions",
        "evaluation_dir": output / "evaluation",
        "slides": dataset / "slides.csv",
    }
    run_config("report.yaml", run_id="reporting", **reported, output_dir=output / "pages", **options)
    return output


@pytest.fixture(scope="module")
def made(flow: TinyFlow, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return run_all(flow, dataset, folder / "out", anonymise=True, anonymise_key=folder / "keys" / "study.key")


def told(folder: Path) -> list[str]:
    """Where a planted name stands: in names of files, in their bytes, in what is packed in them."""
    found = []
    for path in sorted(folder.rglob("*")):
        contents = [str(path.relative_to(folder)).encode()]
        if path.is_file():
            contents.append(path.read_bytes())
        if path.suffix == ".gz":
            contents.append(gzip.decompress(path.read_bytes()))
        if path.suffix == ".png":
            with Image.open(path) as image:
                contents.append(repr(image.info).encode())
        if path.suffix == ".html":
            contents += [base64.b64decode(data) for data in re.findall(rb"base64,([A-Za-z0-9+/=]+)", path.read_bytes())]
        whole = b"\n".join(contents).lower()
        wide = whole.replace(b"\0", b"")  # UTF-16
        found += [
            f"{path.relative_to(folder)}: {name}" for name in PLANTED if name.encode() in whole or name.encode() in wide
        ]
    return found


def test_no_byte_holds_a_name(made: Path) -> None:
    assert told(made) == []
    names = {path.name for path in made.rglob("*")}
    assert {"cam.nii.gz", "cam.ome.tif", "cam.png", "scores.json", "report.html", ".inference.outputs.jsonl"} <= names
    assert "cam.dcm" not in names, "it would hold the patient of the slide"


def test_without_it_names_stand_where_they_are_looked_for(flow: TinyFlow, dataset: Path, tmp_path: Path) -> None:
    found = told(run_all(flow, dataset, tmp_path / "out"))
    for place in (
        "predictions.csv",
        "manifest.csv",
        "scores.json",
        "inference.json",
        ".inference.outputs.jsonl",
        "report.html",
        "cam.dcm",
    ):
        assert any(place in one for one in found), place


def test_the_same_slide_has_the_same_id_everywhere(made: Path) -> None:
    ids = {row["slide_id"] for row in read_rows(made / "predictions" / "predictions.csv")}
    assert len(ids) == 3 and all(re.fullmatch(r"slide-[0-9a-f]{16}", name) for name in ids)
    assert {row["slide_id"] for row in read_rows(made / "evaluation" / "predictions.csv")} < ids
    assert {path.stem for path in (made / "pages" / "slides").iterdir()} == ids
    rows = read_rows(made / "predictions" / "manifest.csv")
    (failed,) = [row for row in rows if row["status"] == "failed"]
    assert ids < {row["slide_id"] for row in rows} and "without --anonymise" in failed["error"]
    assert not any(row["slide"] or row["output"] for row in rows)
    origins = json.loads((made / "predictions" / "inference.json").read_text())["slides"]
    assert origins.keys() == ids
    assert all(re.fullmatch(r"patient-[0-9a-f]{16}", origin["patient"]) for origin in origins.values())


def test_the_key_lies_apart_for_its_user_alone_and_serves_again(
    made: Path, flow: TinyFlow, dataset: Path, tmp_path: Path
) -> None:
    key = made.parent / "keys" / "study.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert not any(key.read_bytes().strip() in path.read_bytes() for path in made.rglob("*") if path.is_file())
    again = run_all(flow, dataset, tmp_path / "out", anonymise=True, anonymise_key=key)
    assert read_rows(again / "predictions" / "predictions.csv") == read_rows(made / "predictions" / "predictions.csv")
    other = run_all(flow, dataset, tmp_path / "other", anonymise=True, anonymise_key=tmp_path / "other.key")
    ids = [{row["slide_id"] for row in read_rows(one / "predictions" / "predictions.csv")} for one in (again, other)]
    assert not ids[0] & ids[1], "another key gives other ids"


def test_pages_alone_may_be_anonymous(flow: TinyFlow, dataset: Path, made: Path, tmp_path: Path) -> None:
    with ended_by(SlideError, "1 of 4 slides failed"):
        run_config(
            "inference.yaml",
            run_id="inference",
            dataset_dir=dataset,
            output_dir=tmp_path / "plain",
            **flow.trained,
            **ON_CPU,
        )
    key = {"anonymise": True, "anonymise_key": made.parent / "keys" / "study.key"}
    run_config(
        "report.yaml", run_id="reporting", predictions_dir=tmp_path / "plain", output_dir=tmp_path / "pages", **key
    )
    assert told(tmp_path / "pages") == []
    ids = {row["slide_id"] for row in read_rows(made / "predictions" / "predictions.csv")}
    assert {path.stem for path in (tmp_path / "pages" / "slides").iterdir()} == ids, "those that inference would give"


def classify(flow: TinyFlow, dataset: Path, output: Path, **options: Any) -> None:
    run_config(
        "inference.yaml",
        run_id="inference",
        dataset_dir=dataset,
        output_dir=output,
        **flow.trained,
        **ON_CPU,
        **options,
    )


def test_a_lost_key_is_not_replaced(made: Path, flow: TinyFlow, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "predictions", tmp_path / "predictions")
    with ended_by(
        RequestError, r"gone\.key: no such file, and .*predictions holds outputs that are anonymous by a key"
    ):
        classify(flow, dataset, tmp_path / "predictions", anonymise=True, anonymise_key=tmp_path / "gone.key")
    assert not (tmp_path / "gone.key").exists()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (None, "no key is named; expected --anonymise_key"),
        ("out/study.key", "lies in the folder of the outputs"),
        ("open.key", "others than its user may read it"),
        ("short.key", "a key of 3 bytes, expected 32"),
        ("text.key", "no key"),
    ],
)
def test_a_key_that_does_not_serve(
    key: str | None, message: str, flow: TinyFlow, dataset: Path, tmp_path: Path
) -> None:
    for name, content, mode in (
        ("open.key", "0" * 64, 0o644),
        ("short.key", "010203", 0o600),
        ("text.key", "secret", 0o600),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(mode)
    with ended_by(RequestError, message):
        classify(flow, dataset, tmp_path / "out", anonymise=True, anonymise_key=None if key is None else tmp_path / key)
    assert not (tmp_path / "out").exists()


def test_embeddings_do_not_lie_among_anonymous_outputs(flow: TinyFlow, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "embeddings")
    with ended_by(RequestError, "its files are called by the slides; expected another folder.*--dataset_dir"):
        classify(
            flow, tmp_path / "out" / "embeddings", tmp_path / "out", anonymise=True, anonymise_key=tmp_path / "a.key"
        )
    assert not (tmp_path / "a.key").exists()
