"""The zip of the bundle holds what the model zoo and MONAI's tools look for. That it works there is `make verify-package`."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from command_server import command_server
from tiny_flow import TinyFlow

from scripts.common.files import sha256_of
from scripts.dsnet.network import DSNet
from scripts.training.model_card import ModelCard

pytest_plugins = ["tiny_flow_fixture"]

REPO = Path(__file__).resolve().parents[1]
NAME = "pathology_wsi_dsnet_classification"
sys.path.insert(0, str(REPO / "tools"))
import package as package_tool  # noqa: E402
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


OTHER = {"num_classes": 3, "embedding_channels": 20, "thumbnail_levels": 2}
"""Of a network: other features, thumbnails and classes than those of the demonstration."""


def other_card(**changed: object) -> ModelCard:
    """Of a network of :data:`OTHER`."""
    content: dict = {
        "class_names": ("benign", "in situ", "invasive"),
        "threshold": None,
        "threshold_from": None,
        "encoder": "uni sha256:0",
        "network": DSNet(**OTHER).arguments,
        "validation": {"slides": 4, "auc": {"value": None, "ci95": [None, None]}},
    }
    return ModelCard(**content | changed)


def test_weights_of_other_features_and_classes_are_described_as_they_are(flow: TinyFlow, tmp_path: Path) -> None:
    """In metadata.json and in the copy inside model.ts; MONAI's check feeds what the metadata say."""
    (tmp_path / "models").mkdir()
    shutil.copy(flow.encoder, tmp_path / "models" / "scae.pt")
    torch.save(DSNet(**OTHER).state_dict(), tmp_path / "models" / "model.pt")
    card = other_card(weights_sha256=sha256_of(tmp_path / "models" / "model.pt")).to_json()
    (tmp_path / "models" / "model.json").write_text(json.dumps(card), encoding="utf-8")
    result = package(tmp_path / "models", tmp_path / "dist")
    assert result.returncode == 0, result.stderr
    root = verify_package.unpack(next((tmp_path / "dist").iterdir()), tmp_path / "bundles")

    metadata = json.loads((root / "configs" / "metadata.json").read_text(encoding="utf-8"))
    image, pred = (
        metadata["network_data_format"][end][name] for end, name in (("inputs", "image"), ("outputs", "pred"))
    )
    assert (image["num_channels"], pred["num_channels"]) == (20 + 24, 3)
    names = list(image["channel_def"].values())
    assert list(image["channel_def"]) == [str(channel) for channel in range(44)]
    assert names[19] == "V: embedding, feature 19 of the patch encoder"
    assert names[20].startswith("T: R of thumbnail 1 ") and names[43].startswith("T: B of thumbnail 2 ")
    assert list(pred["channel_def"]) == ["0", "1", "2"] and pred["channel_def"]["1"].startswith("in situ ")
    assert metadata["label_classes"] == "one integer per slide: 0 benign, 1 in situ, 2 invasive"
    assert metadata["image_classes"].startswith(
        "44 channels on the grid of patches: 20 of the embedding matrix V, then 24 "
    )
    held = {"metadata.json": ""}
    torch.jit.load(root / "models" / "model.ts", _extra_files=held)
    assert json.loads(held["metadata.json"])["network_data_format"] == metadata["network_data_format"]

    fits = command_server().run("-m", "monai.bundle", "verify_net_in_out", *verify_package.NETWORK, cwd=root)
    assert fits.returncode == 0, fits.stderr
    words = [sys.executable, "-W", "ignore", "-c", verify_package.LOAD, str(root)]
    loads = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert loads.returncode == 0, loads.stderr


def test_the_metadata_of_the_repository_are_those_of_the_paper(tmp_path: Path) -> None:
    metadata = json.loads((REPO / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    before = json.dumps(metadata)
    paper = other_card(class_names=("negative", "positive"), encoder="SCAEEncoder sha256:0", network=DSNet().arguments)
    assert json.dumps(package_tool.describe_tensors(metadata, paper)) == before


@pytest.mark.parametrize(
    ("encoder", "channels", "span", "first", "last"),
    [
        ("SCAEEncoder sha256:0", 128, None, "foreground feature 0 of S-CAE", "background feature 31 of S-CAE"),
        ("SCAEEncoder sha256:0", 32, (96, 128), "background feature 0 of S-CAE", "background feature 31 of S-CAE"),
        ("SCAEEncoder sha256:0", 32, None, "feature 0 of the patch encoder", "feature 31 of the patch encoder"),
        ("SCAEEncoder-mixed sha256:0", 128, None, "feature 0 of the patch encoder", "feature 127 of the patch encoder"),
        ("uni sha256:0", 8, (4, 12), "feature 4 of the patch encoder", "feature 11 of the patch encoder"),
        (None, 8, None, "feature 0 of the patch encoder", "feature 7 of the patch encoder"),
    ],
)
def test_channels_of_v_are_named_by_their_encoder(
    encoder: str | None, channels: int, span: tuple[int, int] | None, first: str, last: str
) -> None:
    metadata = json.loads((REPO / "bundle" / "configs" / "metadata.json").read_text(encoding="utf-8"))
    network = DSNet(embedding_channels=channels).arguments
    card = other_card(class_names=("a", "b"), encoder=encoder, channel_range=span, network=network)
    names = package_tool.describe_tensors(metadata, card)["network_data_format"]["inputs"]["image"]["channel_def"]
    assert (names["0"], names[str(channels - 1)]) == (f"V: embedding, {first}", f"V: embedding, {last}")
    assert names[str(channels)].startswith("T: ")


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
