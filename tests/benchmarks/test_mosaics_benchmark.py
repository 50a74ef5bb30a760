import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_server import command_server
from mosaics import Mosaic, Options, draw_mosaics
from PIL import Image
from scipy.ndimage import label as connected_parts

from scripts.common.errors import RequestError

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "mosaics.py"
CLASSES = {"tumour": (150, 60, 140), "normal": (220, 150, 200)}
OPTIONS = Options(("tumour",), ("normal",), {"train": 4, "val": 2, "test": 2}, cells=12, mpp=4.0, share=(0.1, 0.3))


def write_tiles(folder: Path, *, groups: int = 6, columns: tuple[str, ...] = ("file", "class", "group")) -> Path:
    """Tiles of one colour with some noise, of which every group has one per class."""
    rng = np.random.default_rng(0)
    rows = []
    for name, colour in CLASSES.items():
        for group in range(groups):
            file = f"{name}{group}.png"
            pixels = np.clip(rng.normal(colour, 25, (24, 24, 3)), 0, 255).astype(np.uint8)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / file)
            rows.append({"file": file, "class": name, "group": f"{name}-{group}"})
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mosaic]:
    tiles = write_tiles(tmp_path_factory.mktemp("tiles"))
    return {mosaic.name: mosaic for mosaic in draw_mosaics(tiles, OPTIONS)}


def test_labels_are_balanced_in_every_split(drawn: Mapping[str, Mosaic]) -> None:
    assert [(mosaic.split, mosaic.label) for mosaic in drawn.values()] == [
        *[("train", index % 2) for index in range(4)],
        *[(split, label) for split in ("val", "test") for label in (0, 1)],
    ]


def test_a_positive_slide_has_one_lesion_of_the_asked_share(drawn: Mapping[str, Mosaic]) -> None:
    for mosaic in drawn.values():
        cells, px = OPTIONS.cells, OPTIONS.cell_px
        tissue = mosaic.tissue.reshape(cells, px, cells, px).mean(axis=(1, 3)) > 0.5
        assert connected_parts(mosaic.lesion)[1] == mosaic.label
        if mosaic.label:
            assert 0.05 < mosaic.lesion.sum() / tissue.sum() < 0.4


def test_glass_and_stroke_lie_outside_the_tissue_and_on_it(drawn: Mapping[str, Mosaic]) -> None:
    strokes = [mosaic for mosaic in drawn.values() if mosaic.ink.any()]
    assert 0 < len(strokes) < len(drawn)
    for mosaic in drawn.values():
        bare = ~mosaic.tissue & ~mosaic.ink
        assert mosaic.pixels[bare].min() > 225 and mosaic.pixels[mosaic.tissue & ~mosaic.ink].mean() < 225


def test_tiles_of_a_group_stand_in_one_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles, opened, split_of = write_tiles(tmp_path), [], {}
    monkeypatch.setattr(
        "mosaics._normalised", lambda path, scale: opened.append(path.name) or np.ones((24, 24, 3), np.uint8)
    )
    for mosaic in draw_mosaics(tiles, OPTIONS):
        for name in opened:
            assert split_of.setdefault(name, mosaic.split) == mosaic.split
        opened.clear()
    assert sorted(split_of.values()) == ["test"] * 4 + ["train"] * 6 + ["val"] * 2


def test_the_same_options_write_the_same_files(tmp_path: Path) -> None:
    tiles = write_tiles(tmp_path / "tiles")
    command = [str(SCRIPT), "--tiles", str(tiles), "--positive", "tumour", "--negative", "normal"]
    command += ["--mpp", "4", "--cells", "12", "--train", "2", "--val", "2", "--test", "2", "--seed"]
    for out, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        command_server().run(*command, seed, "--out", str(tmp_path / out), cwd=tmp_path).check_returncode()
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 14
    same = {
        out: [(tmp_path / "a" / file).read_bytes() == (tmp_path / out / file).read_bytes() for file in files]
        for out in "bc"
    }
    assert all(same["b"]) and not all(same["c"])
    with tifffile.TiffFile(tmp_path / "a" / "slides" / "train_000.tif") as slide:
        assert slide.pages[0].shape == (192, 192, 3)
        assert slide.pages[0].tags["XResolution"].value[0] / slide.pages[0].tags["XResolution"].value[1] == 2500
    with open(tmp_path / "a" / "slides.csv", encoding="utf-8") as file:
        assert next(csv.DictReader(file)) == {
            "slide": "slides/train_000.tif",
            "label": "0",
            "patient": "train_000",
            "split": "train",
        }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("class", "no tiles of class carcinoma; expected one of normal, tumour"),
        ("column", "no column group"),
        ("groups", "no tiles of normal for train; expected three groups"),
        ("tile", r"normal\d\.png: cannot be read"),
        ("table", r"labels\.csv: no such file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, wrong: str, message: str) -> None:
    tiles = write_tiles(
        tmp_path,
        groups=1 if wrong == "groups" else 6,
        columns=("file", "class") if wrong == "column" else ("file", "class", "group"),
    )
    if wrong == "tile":
        for path in tiles.glob("normal*.png"):
            path.write_bytes(b"no picture")
    if wrong == "table":
        (tiles / "labels.csv").unlink()
    options = Options(("carcinoma",), ("normal",)) if wrong == "class" else OPTIONS
    with pytest.raises(RequestError, match=message):
        list(draw_mosaics(tiles, options))
