"""What the reader of the documentation has, under the names that the pages use."""

import csv
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import tifffile
import torch
from cohort.empty_files import touch, write_camelyon16, write_lines, write_tcga
from encoding.other_tools import features_of, write_clam, write_trident
from monai.networks.nets import resnet50
from PIL import Image

from scripts.common.files import write_csv
from scripts.encoding.checksums import seal
from scripts.slides.synthetic import write_slide_set

DAMAGED = b"II*\0 not a slide"
CASES = 17
"""Slides; of the first two patients there are two each, and every one of two or three classes has five patients at least."""
TILES, IMAGES = 3, 2
"""Tiles per class, each of a group of its own; annotated images per split."""

IMAGE_PX = 300


def write_own_slides(folder: Path) -> None:
    """``data``: scans of two classes, one without a resolution, one damaged; and new ones, one of them damaged."""
    made = write_slide_set(folder / "made", {"train": CASES, "val": 0, "test": 2}, seed=0, cells=4).parent
    rows, grades = [], []
    for index in range(CASES):
        name = f"scans/case{index + 1:02d}.tif"
        move(made / "slides" / f"train_{index:03d}.tif", folder / "data" / name)
        if (mask := made / "masks" / f"train_{index:03d}.png").exists():
            move(mask, folder / "data" / "masks" / f"case{index + 1:02d}.png")
        patient = f"p{index % 15 + 1:02d}"
        label = ("normal", "tumor")[index % 2]
        rows.append({"slide": name, "label": label, "patient": patient, "mpp": ""})
        grades.append({"slide": name, "label": ("benign", "in situ", "invasive")[index % 3], "patient": patient})
    write_without_resolution(folder / "data" / "scans" / "case03.tif")
    rows[2]["mpp"] = "0.5"
    (folder / "data" / "scans" / "case18.tif").write_bytes(DAMAGED)
    rows.append({"slide": "scans/case18.tif", "label": "tumor", "patient": "p18", "mpp": ""})
    write_csv(folder / "data" / "slides.csv", list(rows[0]), rows)
    write_csv(folder / "data" / "grades.csv", list(grades[0]), grades)
    (folder / "export.csv").write_text("slide;label\nscans/case01.tif;normal\n", encoding="utf-8-sig")
    for index in range(2):
        move(made / "slides" / f"test_{index:03d}.tif", folder / "data" / "new" / f"new{index + 1}.tif")
    shutil.copytree(folder / "data" / "new", folder / "data" / "no_mpp")
    write_without_resolution(folder / "data" / "no_mpp" / "new1.tif")
    shutil.copytree(folder / "data" / "new", folder / "FOLDER")
    shutil.copy(folder / "data" / "new" / "new1.tif", folder / "slide.svs")
    (folder / "data" / "new" / "new3.tif").write_bytes(DAMAGED)


def write_features(folder: Path) -> None:
    """Features of those scans, as TRIDENT and as CLAM leave them."""
    for index in range(CASES):
        grid_yx = np.argwhere(np.ones((4, 4 - index % 2), dtype=bool))
        features = features_of(len(grid_yx), 1024, mean=0.3 * (index % 2), seed=index)
        name = f"case{index + 1:02d}.h5"
        write_trident(
            folder / "job" / "20x_256px_0px_overlap" / "features_uni_v1" / name, grid_yx, features, patch_px=64
        )
        write_clam(folder / "FEATURES" / "h5_files" / name, grid_yx[:, ::-1] * 128, features)


def write_predictions(folder: Path) -> None:
    """Those of two methods, two seeds each, on the scans."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "a0", "a1", "b0", "b1"):
        rows = []
        for index in range(CASES):
            label, p = ("normal", "tumor")[index % 2], float(rng.random())
            cells = {"slide_id": f"case{index + 1:02d}", "label": label, "predicted": ("normal", "tumor")[p >= 0.5]}
            rows.append({**cells, "p_normal": 1 - p, "p_tumor": p, "stream_score": 0.5, "threshold": 0.5})
        (folder / name).mkdir(exist_ok=True)
        write_csv(folder / name / "predictions.csv", list(rows[0]), rows)


def write_resnet50(folder: Path) -> None:
    """A state dict by torchvision's names, untrained."""
    network = resnet50(spatial_dims=2, n_input_channels=3, conv1_t_stride=2, bias_downsample=False, num_classes=1000)
    torch.save(network.state_dict(), folder / "resnet50.pth")


def write_published(folder: Path, data: Path) -> None:
    """``DATA``: some of the published tiles, corners of annotated images, and all of the slides and weights (docs/results.md)."""
    for name in ("slides", "weights"):
        (folder / "DATA" / name).parent.mkdir(exist_ok=True)
        (folder / "DATA" / name).symlink_to(data / name)
    tiles = data / "tiles" / "lc25000-colon"
    with open(tiles / "labels.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    of_group = {row["group"]: row for row in rows}
    kept = [
        row
        for name in ("colon_aca", "colon_n")
        for row in [row for row in of_group.values() if row["class"] == name][:TILES]
    ]
    link(tiles, folder / "DATA" / "tiles" / "lc25000-colon", [row["file"] for row in kept])
    write_csv(folder / "DATA" / "tiles" / "lc25000-colon" / "labels.csv", list(rows[0]), kept)
    images = data / "nuclei" / "brca-m2c"
    for split in ("train", "val"):
        names = sorted(path.stem for path in (images / split / "images").iterdir())[:IMAGES]
        for name in names:
            write_corner(images / split, folder / "DATA" / "nuclei" / "brca-m2c" / split, name)
    (folder / "nic_encoder_multitask-4.h5").symlink_to(data / "weights" / "nic_encoder_multitask-4.h5")


def write_corner(source: Path, target: Path, name: str) -> None:
    """Write the upper left corner of an annotated image, and its points."""
    for kind in ("images", "points"):
        (target / kind).mkdir(parents=True, exist_ok=True)
    with Image.open(source / "images" / f"{name}.png") as image:
        image.crop((0, 0, IMAGE_PX, IMAGE_PX)).save(target / "images" / f"{name}.png")
    points = Path("points", f"{name}_points.csv")
    with open(source / points, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if max(float(row["x"]), float(row["y"])) < IMAGE_PX]
    write_csv(target / points, list(rows[0]), kept)


def write_readers_slides(folder: Path) -> None:
    """What the README starts from: ``data/slides.csv`` with splits, the same as ``splitting`` names it, and new slides."""
    table = write_slide_set(folder / "data", {"train": 4, "val": 2, "test": 2}, seed=0, cells=4)
    with open(table, newline="", encoding="utf-8") as file:
        rows = [{**row, "label": ("normal", "tumor")[int(row["label"])]} for row in csv.DictReader(file)]
    write_csv(table, list(rows[0]), rows)
    rows = [{**row, "slide": str(table.parent / row["slide"])} for row in rows]
    (folder / "work" / "splits").mkdir(parents=True)
    write_csv(folder / "work" / "splits" / "split.csv", list(rows[0]), rows)
    for name in ("slide.svs", "new_slide.svs"):
        shutil.copy(folder / "data" / "slides" / "test_000.tif", folder / name)


def write_cohorts(folder: Path) -> None:
    """Trees of empty files with the names of Camelyon16 and TCGA-LUSC, a folder and a table."""
    write_camelyon16(folder / "CAMELYON16")
    write_tcga(folder / "LUSC", patients=1200)
    touch(folder / "slides", [f"{name}/case{index}_a.svs" for index in range(6) for name in ("benign", "malignant")])
    write_lines(
        folder / "clam.csv",
        ["case_id,slide_id,label", *(f"p{index},case{index}_b,{index % 2}" for index in range(6))],
    )
    touch(folder / "slides", [f"more/case{index}_b.svs" for index in range(6)])


def write_foreground(folder: Path) -> None:
    """Put a foreground into embeddings of an S-CAE that was trained for too few steps to detect anything."""
    for path in folder.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            file["features"][:, 0] += 0.1
            seal(file)


def write_without_resolution(path: Path) -> None:
    """Write a slide again, its tag of the resolution left out."""
    pixels = tifffile.imread(path, level=0)
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, photometric="rgb", compression="jpeg", tile=(256, 256), metadata=None)


def move(source: Path, target: Path) -> None:
    """Move a file into a folder that may not be there yet."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def link(source: Path, target: Path, names: list[str]) -> None:
    """Link files of a folder, each under its name."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(source / name, target / name)
