"""The zip of the bundle holds what the model zoo and MONAI's tools look for. That it works there is `make verify-package`."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from command_server import command_server
from tiny_flow import TinyFlow

pytest_plugins = ["tiny_flow_fixture"]

REPO = Path(__file__).resolve().parents[1]
NAME = "pathology_wsi_dsnet_classification"
sys.path.insert(0, str(REPO / "tools"))
import verify_package  # noqa: E402


def package(models: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = [
        str(REPO / "tools" / "package.py"),
        "--name",
        NAME,
        "--models",
        str(models),
        "--output_dir",
        str(out),
        *more,
    ]
    return command_server().run(*words, cwd=REPO)


@pytest.fixture(scope="module")
def models(flow: TinyFlow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    shutil.copy(flow.encoder, folder / "scae.pt")
    shutil.copy(flow.model, folder / "model.pt")
    shutil.copy(flow.model.with_suffix(".json"), folder / "model.json")
    return folder


@pytest.fixture(scope="module")
def archive(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    result = package(models, out)
    assert result.returncode == 0, result.stderr
    (found,) = out.iterdir()
    return found


@pytest.mark.parametrize(
    ("broken", "title"),
    [
        ("models/model.ts", "files"),
        ("configs/metadata.json", "version stands in the changelog"),
    ],
)
def test_a_check_fails_where_its_part_is_missing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, title: str
) -> None:
    monkeypatch.setattr(verify_package.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "", ""))
    root = verify_package.unpack(archive, tmp_path)
    assert root.name == NAME
    assert verify_package.run_checks(root, Path(sys.executable)) == []
    if broken.endswith(".json"):
        metadata = json.loads((root / broken).read_text(encoding="utf-8"))
        (root / broken).write_text(json.dumps({**metadata, "version": "9.9.9"}), encoding="utf-8")
    else:
        (root / broken).unlink()
    assert verify_package.run_checks(root, Path(sys.executable)) == [title]


def test_equal_contents_give_equal_bytes(archive: Path, models: Path, tmp_path: Path) -> None:
    """But for model.ts, which holds the time."""
    assert package(models, tmp_path).returncode == 0
    with zipfile.ZipFile(archive) as one, zipfile.ZipFile(tmp_path / archive.name) as other:
        assert one.namelist() == other.namelist()
        for entry in one.infolist():
            again = other.getinfo(entry.filename)
            assert entry.date_time == again.date_time
            assert entry.filename.endswith("/model.ts") or one.read(entry) == other.read(again)


def test_large_files_name_address_and_sum(models: Path, tmp_path: Path) -> None:
    """MONAI's ``download_url`` takes a file that is there with the right sum, and refuses another."""
    from monai.apps.utils import HashCheckError, download_url

    assert package(models, tmp_path, "--url", models.as_uri()).returncode == 0
    root = verify_package.unpack(next(tmp_path.glob("*.zip")), tmp_path / "unpacked")
    entries = yaml.safe_load((root / "large_files.yml").read_text(encoding="utf-8"))["large_files"]
    assert [entry["path"] for entry in entries] == [
        f"models/{n}" for n in ("model.json", "model.pt", "model.ts", "scae.pt")
    ]
    for entry in entries:
        kind = {"hash_val": entry["hash_val"], "hash_type": entry["hash_type"]}
        download_url(url=entry["url"], filepath=root / entry["path"], fuzzy=True, **kind)
        (root / entry["path"]).write_bytes(b"other")
        with pytest.raises(HashCheckError):
            download_url(url=entry["url"], filepath=root / entry["path"], fuzzy=True, **kind)


def test_weights_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    result = package(tmp_path / "models", tmp_path / "dist")
    assert result.returncode == 2
    assert "no model.pt, model.json, scae.pt" in result.stderr
    assert not (tmp_path / "dist").exists()


def test_nothing_but_the_bundle_is_packed(archive: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        names = [Path(name).relative_to(NAME) for name in packed.namelist()]
    assert {name.parts[0] for name in names} == {"LICENSE", "configs", "docs", "models", "scripts"}
    assert {name.name for name in names if name.parts[0] == "models"} == {
        "model.pt",
        "model.json",
        "model.ts",
        "scae.pt",
    }
    assert not [name for name in names if "__pycache__" in name.parts or name.name.startswith(".")]


def test_the_package_loads_from_any_folder(archive: Path, models: Path, tmp_path: Path) -> None:
    """By MONAI's own call, for training and inference, in a process that knows nothing of where it lies."""
    root = verify_package.unpack(archive, tmp_path / "bundles")
    words = [sys.executable, "-W", "ignore", "-c", verify_package.LOAD, str(root)]
    result = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr


def test_what_the_zoo_asks_beside_that(archive: Path, models: Path, tmp_path: Path) -> None:
    root = verify_package.unpack(archive, tmp_path)
    card = json.loads((models / "model.json").read_text(encoding="utf-8"))
    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert metadata["eval_metrics"] == {
        "validation_auc": card["validation"]["auc"]["value"],
        "validation_slides": card["validation"]["slides"],
    }
    for path in (root / "scripts").rglob("*.py"):
        assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 132, path
        assert "http://www.apache.org/licenses/LICENSE-2.0" in path.read_text(encoding="utf-8")[:400], path
    readme = (root / "docs" / "README.md").read_text(encoding="utf-8")
    for heading in (
        "Model Description",
        "Data",
        "Preprocessing",
        "Performance",
        "System Configuration",
        "Limitations",
        "References",
    ):
        assert f"# **{heading}**\n" in readme, heading
