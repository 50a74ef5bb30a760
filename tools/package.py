"""Writes the bundle as one zip, as MONAI Label, MONAI Deploy and ``monai.bundle download`` take it.

    python tools/package.py --name pathology_wsi_dsnet_classification [--url BASE] [--output_dir dist]

The zip holds one folder of the bundle's name, from which MONAI Label reads the kind of task. Beside what the repository holds it has

- ``models/``: the weights and the model card in ``bundle/models``, and ``model.ts``, DSNet as TorchScript (``ckpt_export``);
- ``configs/inference.json``: ``inference.yaml`` as JSON, which ``monai.bundle.load`` looks for;
- with ``--url``, ``large_files.yml``: where the weights are to be found under that address, with their sha256 (model zoo).

Order, times and modes of the entries are fixed, so that equal contents give equal bytes, but for ``model.ts``, into which MONAI
writes the time.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import yaml

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))
from scripts.common.files import atomic_path, sha256_of  # noqa: E402

FOLDERS = ("configs", "docs", "scripts")
WEIGHTS = ("model.pt", "model.json", "scae.pt")
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


def main() -> None:
    """Build the folder, then the zip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="name of the bundle")
    parser.add_argument("--models", type=Path, default=REPO / "bundle" / "models", help="folder of the weights")
    parser.add_argument("--output_dir", type=Path, default=REPO / "dist")
    parser.add_argument("--url", help="address below which the weights will be published")
    arguments = parser.parse_args()
    missing = [name for name in WEIGHTS if not (arguments.models / name).is_file()]
    if missing:
        parser.error(
            f"{arguments.models}: no {', '.join(missing)}; train both networks, or `make weights` for a demonstration"
        )
    version = json.loads((REPO / "bundle/configs/metadata.json").read_text(encoding="utf-8"))["version"]
    target = arguments.output_dir / f"{arguments.name}_v{version}.zip"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / arguments.name
        fill(folder, arguments.models, arguments.url)
        count = write_zip(folder, target)
    print(f"{target}: {count} files, {target.stat().st_size} bytes, sha256 {sha256_of(target)}")


def fill(folder: Path, models: Path, url: str | None) -> None:
    """Lay out the bundle in ``folder``.

    Args:
        folder: made anew.
        models: holds `WEIGHTS`.
        url: address of the weights, None to leave ``large_files.yml`` out.
    """
    folder.mkdir()
    shutil.copy(REPO / "bundle" / "LICENSE", folder)
    for name in FOLDERS:
        shutil.copytree(REPO / "bundle" / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    (folder / "models").mkdir()
    for name in WEIGHTS:
        shutil.copy(models / name, folder / "models")
    recipe = yaml.safe_load((folder / "configs/inference.yaml").read_text(encoding="utf-8"))
    (folder / "configs/inference.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    export_torchscript(folder)
    if url is not None:
        entries = [
            {
                "path": f"models/{path.name}",
                "url": f"{url.rstrip('/')}/{path.name}",
                "hash_val": sha256_of(path),
                "hash_type": "sha256",
            }
            for path in sorted((folder / "models").iterdir())
        ]
        text = yaml.safe_dump({"large_files": entries}, sort_keys=False)
        (folder / "large_files.yml").write_text(text, encoding="utf-8")


def export_torchscript(folder: Path) -> None:
    """Write ``models/model.ts`` by the command that the model zoo names, run in the bundle's folder as there."""
    words = [
        "ckpt_export", "--net_id", "network_def", "--filepath", "models/model.ts", "--ckpt_file", "models/model.pt",
        "--meta_file", "configs/metadata.json", "--config_file", "configs/inference.json", "--device", "cpu",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "monai.bundle", *words], cwd=folder, env=environment, capture_output=True, text=True
    )
    if result.returncode != 0:
        sys.exit(f"ckpt_export failed:\n{result.stdout}\n{result.stderr}")


def write_zip(folder: Path, target: Path) -> int:
    """Pack ``folder`` and return the number of files."""
    files = sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as partial, zipfile.ZipFile(partial, "w") as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder.parent).as_posix(), DATE)
            entry.compress_type, entry.external_attr, entry.create_system = zipfile.ZIP_DEFLATED, 0o100644 << 16, 3
            archive.writestr(entry, path.read_bytes())
    return len(files)


if __name__ == "__main__":
    main()
