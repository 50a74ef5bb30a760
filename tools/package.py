"""Writes the bundle as one zip, as MONAI Label, MONAI Deploy and ``monai.bundle download`` take it.

    python tools/package.py --name pathology_wsi_dsnet_classification [--url BASE] [--output_dir dist]

The zip holds one folder of the bundle's name, from which MONAI Label reads the kind of task. Beside what the repository holds it has

- ``models/``: the weights and the model card in ``bundle/models``, and ``model.ts``, DSNet as TorchScript (``ckpt_export``);
- ``configs/inference.json`` and ``configs/train.json``: the YAML files as JSON, which ``monai.bundle.load`` looks for; the second trains
  the network of the weights;
- in ``configs/metadata.json`` what the weights take and give, and ``eval_metrics``, from the model card;
- a licence header in each file of ``scripts/``;
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
from itertools import product
from pathlib import Path
from typing import Any

import yaml

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO / "bundle"))
from sbom import bill  # noqa: E402

from scripts.common.files import atomic_path, sha256_of  # noqa: E402
from scripts.encoding.encoders import scae_name  # noqa: E402
from scripts.encoding.thumbnail import DEFAULT_LEVELS  # noqa: E402
from scripts.scae.scae_network import BACKGROUND_CHANNELS, FOREGROUND_CHANNELS  # noqa: E402
from scripts.slides.geometry import T_PIXELS_PER_PATCH  # noqa: E402
from scripts.training.card import NETWORKS, read_card  # noqa: E402
from scripts.training.model_card import ModelCard  # noqa: E402

FOLDERS = ("configs", "docs", "scripts")
WEIGHTS = ("model.pt", "model.json", "scae.pt")
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say


FIND_CODE = (
    "$sys.path.insert(1, next(str(one.frame.f_locals['self'].config_root_path.resolve().parent) for one in inspect.stack(0) "
    "if isinstance(one.frame.f_locals.get('self'), ConfigWorkflow)))"
)
"""An expression of a config: the folder of the workflow that evaluates it, above ``configs``, joins the search path."""

FIND_WORKFLOW = "$from monai.bundle import ConfigWorkflow"

HEADER = """\
# Copyright (c) dsnet-wsi contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""


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
    write_json_configs(folder)
    complete_metadata(folder)
    add_licence_headers(folder)
    export_torchscript(folder)
    write_bill(folder)
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


def write_json_configs(folder: Path) -> None:
    """Write the configs that ``monai.bundle.load`` looks for: ``inference.json``, and ``train.json`` with the network of the weights.

    Both begin by putting the bundle's folder where Python finds ``scripts``, since ``load`` and a workflow that only looks do not.
    """
    card = json.loads((folder / "models" / "model.json").read_text(encoding="utf-8"))
    trained = {
        "classes": card["class_names"],
        "network_def": {
            "_target_": f"{NETWORKS[card['architecture']].__module__}.{card['architecture']}",
            **card["network"],
        },
    }
    of_table = {
        "levels": card["network"]["thumbnail_levels"] if card["network"]["thumbnail_stream"] else None,
        "channel_range": card["channel_range"],
    }
    for name, changes in (("inference", {}), ("train", trained)):
        recipe = yaml.safe_load((folder / f"configs/{name}.yaml").read_text(encoding="utf-8")) | changes
        if name == "train":
            recipe["table"] |= of_table
        recipe["imports"] = [*recipe.get("imports", []), "$import inspect", "$import sys", FIND_WORKFLOW]
        recipe["initialize"] = [FIND_CODE, *recipe["initialize"]]
        (folder / f"configs/{name}.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def complete_metadata(folder: Path) -> None:
    """Write into ``metadata.json`` what the weights take and give, and how good they are, from their card."""
    path, card = folder / "configs" / "metadata.json", read_card(folder / "models" / "model.pt")
    metadata = describe_tensors(json.loads(path.read_text(encoding="utf-8")), card)
    auc, slides = card.validation["auc"]["value"], card.validation["slides"]
    metadata["eval_metrics"] = {"validation_auc": auc, "validation_slides": slides}
    path.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")


def describe_tensors(metadata: dict[str, Any], card: ModelCard) -> dict[str, Any]:
    """Return ``metadata`` with the channels and classes of a card's network, in numbers and in words."""
    v, t = _channels_of_v(card), _channels_of_t(card.thumbnail_levels or DEFAULT_LEVELS)
    scores = [f"{name} (logit; softmax gives the probability)" for name in card.class_names]
    data, side = metadata["network_data_format"], T_PIXELS_PER_PATCH
    for tensor, names in ((data["inputs"]["image"], v + t), (data["outputs"]["pred"], scores)):
        tensor |= {"num_channels": len(names), "channel_def": {str(index): name for index, name in enumerate(names)}}
    return metadata | {
        "image_classes": f"{len(v + t)} channels on the grid of patches: {len(v)} of the embedding matrix V, then {len(t)} of the "
        f"thumbnail matrix T ({len(t) // (3 * side**2)} RGB thumbnails, {side} x {side} pixels per patch); zero where no tissue was "
        "observed",
        "label_classes": "one integer per slide: "
        + ", ".join(f"{index} {name}" for index, name in enumerate(card.class_names)),
    }


def _channels_of_v(card: ModelCard) -> list[str]:
    first, last = card.channels
    parts = (("foreground", FOREGROUND_CHANNELS), ("background", BACKGROUND_CHANNELS))
    names = [f"{part} feature {index} of S-CAE" for part, count in parts for index in range(count)]
    of_scae = (card.encoder or "").startswith(f"{scae_name('separated')} ")
    if not of_scae or (card.channel_range is None and last != len(names)):  # else one part alone was encoded
        names = [f"feature {index} of the patch encoder" for index in range(last)]
    return [f"V: embedding, {name}" for name in names[first:last]]


def _channels_of_t(levels: int) -> list[str]:
    """In the order of :func:`scripts.dsnet.packing.pack_observed`."""
    pixels = range(T_PIXELS_PER_PATCH)
    return [
        f"T: {colour} of thumbnail {level + 1} (1 is the finest), pixel at row {row}, column {column} of the patch, 1 - intensity"
        for level, colour, row, column in product(range(levels), "RGB", pixels, pixels)
    ]


def add_licence_headers(folder: Path) -> None:
    """Begin each Python file with the header that the model zoo's files have."""
    for path in (folder / "scripts").rglob("*.py"):
        path.write_text(HEADER + path.read_text(encoding="utf-8"), encoding="utf-8")


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


def write_bill(folder: Path) -> None:
    """Write ``docs/sbom.cdx.json``: what the package is made of; without ``model.ts``, which holds the time."""
    version = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"]
    content = bill(folder.name, version, {name: sha256_of(folder / "models" / name) for name in WEIGHTS})
    (folder / "docs" / "sbom.cdx.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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
