"""The synthetic slide set: its files, its repeatability, its lesions, and that colour does not tell the label."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from monai.bundle import ConfigParser
from numpy.typing import NDArray
from openslide import OpenSlide
from PIL import Image
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scripts.common.errors import RequestError
from scripts.slides.synthetic import write_slide_set, write_tiny_slide_set
from scripts.slides.synthetic_tissue import KINDS, LESION, draw_layout, nucleus_bank, render_stains

CONFIG = Path(__file__).resolve().parents[2] / "bundle" / "configs" / "demo_data.yaml"


def rows_of(table: Path) -> list[dict[str, str]]:
    with open(table, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("[!.]*") if path.is_file()}


def coarsest_level(path: Path) -> NDArray[np.uint8]:
    with tifffile.TiffFile(path) as file:
        return file.pages[len(file.pages) - 1].asarray()


@pytest.fixture(scope="module")
def tiny_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_slide_set(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def many_slides(tmp_path_factory: pytest.TempPathFactory) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Coarsest levels (48, 512, 512, 3) and labels (48,) of slides of 8 x 8 cells at 1 um/px."""
    table = write_slide_set(
        tmp_path_factory.mktemp("many"), {"train": 48, "val": 0, "test": 0}, seed=3, cells=8, mpp=1.0
    )
    rows = rows_of(table)
    images = np.stack([coarsest_level(table.parent / row["slide"]) for row in rows]).astype(float)
    return images, np.array([int(row["label"]) for row in rows])


def test_table_lists_balanced_splits_with_a_patient_a_slide(tiny_set: Path) -> None:
    rows = rows_of(tiny_set)
    assert list(rows[0]) == ["slide", "label", "patient", "split"]
    assert [row["label"] for row in rows] == ["0", "1"] * 4
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    assert len({row["patient"] for row in rows}) == 8
    written = {str(path.relative_to(tiny_set.parent)) for path in (tiny_set.parent / "slides").iterdir()}
    assert written == {row["slide"] for row in rows}


def test_slides_are_tiled_pyramids_with_their_resolution(tmp_path: Path) -> None:
    write_slide_set(tmp_path, {"train": 1, "val": 0, "test": 0}, seed=0, cells=9, mpp=0.5)
    with tifffile.TiffFile(tmp_path / "slides" / "train_000.tif") as file:
        assert [page.shape for page in file.pages] == [(1152, 1152, 3), (576, 576, 3), (288, 288, 3)]
        for factor, page in zip((1, 2, 4), file.pages, strict=True):
            assert page.tile == (256, 256)
            assert page.compression == tifffile.COMPRESSION.JPEG
            assert page.tags["ResolutionUnit"].value == tifffile.RESUNIT.CENTIMETER
            numerator, denominator = page.tags["XResolution"].value
            assert 1e4 * denominator / numerator == pytest.approx(0.5 * factor)
        fine, coarse = file.pages[0].asarray().astype(float), file.pages[1].asarray().astype(float)
    assert np.abs(fine.reshape(576, 2, 576, 2, 3).mean(axis=(1, 3)) - coarse).mean() < 4
    with OpenSlide(tmp_path / "slides" / "train_000.tif") as slide:
        assert slide.level_dimensions == ((1152, 1152), (576, 576), (288, 288))


def test_files_depend_on_the_seed_alone(tiny_set: Path, tmp_path: Path) -> None:
    alone = bytes_of(tiny_set.parent)
    write_slide_set(tmp_path / "parallel", {"train": 4, "val": 2, "test": 2}, seed=0, cells=4, num_workers=2)
    assert bytes_of(tmp_path / "parallel") == alone
    write_slide_set(tmp_path / "shorter", {"train": 2, "val": 1, "test": 0}, seed=0, cells=4)
    shorter = bytes_of(tmp_path / "shorter")
    shorter.pop("slides.csv")
    assert len(shorter) == 6
    assert shorter.items() <= alone.items()
    other = bytes_of(write_slide_set(tmp_path / "other", {"train": 2, "val": 0, "test": 0}, seed=1, cells=4).parent)
    assert all(content != alone[name] for name, content in other.items() if name.endswith(".tif"))


def test_a_repeated_call_completes_the_set(tiny_set: Path, tmp_path: Path) -> None:
    write_slide_set(tmp_path, {"train": 2, "val": 0, "test": 0}, seed=0, cells=4)
    (tmp_path / "slides" / "train_001.tif").unlink()
    (tmp_path / "masks" / "train_000.png").unlink()
    (tmp_path / "slides.csv").unlink()
    write_slide_set(tmp_path, {"train": 2, "val": 0, "test": 0}, seed=0, cells=4)
    whole = bytes_of(tmp_path)
    assert len(rows_of(tmp_path / "slides.csv")) == 2
    whole.pop("slides.csv")
    assert len(whole) == 4
    assert whole.items() <= bytes_of(tiny_set.parent).items()


def test_masks_hold_a_lesion_on_positive_slides_only(tiny_set: Path) -> None:
    for row in rows_of(tiny_set):
        mask = np.asarray(Image.open(tiny_set.parent / "masks" / f"{Path(row['slide']).stem}.png"))
        assert mask.shape == (4, 4)
        assert set(np.unique(mask)) <= {0, 255}
        assert mask.any() == (row["label"] == "1")


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_lesion_is_one_blob_of_the_wanted_share_of_the_tissue(share: float) -> None:
    for seed in range(20):
        layout = draw_layout(np.random.default_rng(seed), cells=12, lesion_share=share)
        assert ndimage.label(layout.lesion_cells)[1] == 1
        assert not (layout.lesion_cells & ~layout.tissue_cells).any()
        assert layout.lesion_cells.sum() == pytest.approx(share * layout.tissue_cells.sum(), abs=1)
        inside = layout.lesion.reshape(12, 32, 12, 32).mean(axis=(1, 3))
        assert (inside[layout.lesion_cells] > 0.5).all()
        assert inside[~layout.lesion_cells].max() < 0.5


def test_tissue_and_glass_both_have_room() -> None:
    for seed in range(20):
        layout = draw_layout(np.random.default_rng(seed), cells=16, lesion_share=0.0)
        assert not layout.lesion.any()
        assert 0.4 < (layout.edge_um > 0).mean() < 0.7


def test_lesion_nuclei_are_larger_darker_and_more_crowded() -> None:
    bank = nucleus_bank(0, 0.5)
    area_um2 = (bank > 0.2).mean(axis=(1, 2, 3, 4)) * (bank.shape[-1] * 0.5) ** 2
    lesion = KINDS.index(LESION)
    assert area_um2[lesion] > 1.8 * np.delete(area_um2, lesion).max()
    layout = draw_layout(np.random.default_rng(2), cells=8, lesion_share=0.3)
    haematoxylin, eosin = render_stains(np.random.default_rng(2), layout, mpp=0.5, bank_seed=0)
    assert haematoxylin.shape == eosin.shape == (1024, 1024)
    nuclear = (haematoxylin > 0.25).reshape(8, 128, 8, 128).mean(axis=(1, 3))
    benign = layout.tissue_cells & ~layout.lesion_cells
    assert nuclear[layout.lesion_cells].mean() > 2 * nuclear[benign].mean()
    assert nuclear[benign].mean() > 0.03
    assert nuclear[~layout.tissue_cells].mean() < nuclear[benign].mean()


def test_every_part_of_the_tissue_has_nuclei() -> None:
    layout = draw_layout(np.random.default_rng(5), cells=12, lesion_share=0.0)
    layout.edge_um[:] = 100.0
    haematoxylin, _ = render_stains(np.random.default_rng(5), layout, mpp=1.0, bank_seed=0)
    nuclear = (haematoxylin > 0.2).reshape(12, 64, 12, 64).mean(axis=(1, 3))
    assert nuclear.min() > 0.01


def test_mean_colour_does_not_tell_the_label(many_slides: tuple[NDArray[np.float64], NDArray[np.int64]]) -> None:
    images, labels = many_slides
    model = make_pipeline(StandardScaler(), LogisticRegression(C=100))
    folds = StratifiedKFold(6, shuffle=True, random_state=0)
    scores = cross_val_predict(model, images.mean(axis=(1, 2)), labels, cv=folds, method="predict_proba")[:, 1]
    assert roc_auc_score(labels, scores) < 0.75


def test_slides_look_like_stained_tissue_on_glass(
    many_slides: tuple[NDArray[np.float64], NDArray[np.int64]],
) -> None:
    images, labels = many_slides
    red, green, blue = np.moveaxis(images, -1, 0)
    glass = images.min(axis=-1) > 235
    inked = red < 45
    tissue = ~glass & ~inked
    assert (glass.mean(axis=(1, 2)) > 0.2).all()
    assert (red[tissue] > green[tissue]).mean() > 0.9
    assert (blue[tissue] > green[tissue]).mean() > 0.9
    marked = inked.mean(axis=(1, 2)) > 0.01
    assert 0.08 < marked[labels == 0].mean() < 0.5
    assert 0.08 < marked[labels == 1].mean() < 0.5


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"counts": {"train": 0, "val": 0, "test": 0}}, "train, val, test"),
        ({"counts": {"train": 1, "val": -1, "test": 0}}, "val"),
        ({"seed": -1}, "seed"),
        ({"cells": 3}, "cells"),
        ({"mpp": 40.0}, "mpp"),
        ({"lesion_share": (0.3, 0.1)}, "lesion_share"),
        ({"num_workers": -1}, "num_workers"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_written(
    wrong: dict[str, Any], named: str, tmp_path: Path
) -> None:
    counts = {"train": 1, "val": 0, "test": 0}
    request: dict[str, Any] = {"counts": counts, "seed": 0} | wrong
    with pytest.raises(RequestError, match=f"{named} "):
        write_slide_set(tmp_path / "set", **request)
    assert not (tmp_path / "set").exists()


def test_config_makes_the_set(tiny_set: Path, tmp_path: Path) -> None:
    parser = ConfigParser(ConfigParser.load_config_file(CONFIG))
    parser.update({"output_dir": str(tmp_path), "train": 4, "val": 2, "test": 2, "cells": 4, "num_workers": 0})
    parser.get_parsed_content("generating")
    assert bytes_of(tmp_path) == bytes_of(tiny_set.parent)
