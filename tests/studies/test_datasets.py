from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training.masked_dataset import write_masked_dataset

from scripts.studies.datasets import Dataset, draws_of
from scripts.studies.recipe import Overlaid

PLAIN, MASKED = Overlaid("plain", ("recommended.yaml",)), Overlaid("masked", ("recommended.yaml", "masks.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_masked_dataset(tmp_path / "data")


def draw_anew(mask: Path) -> None:
    with Image.open(mask) as image:
        Image.fromarray(1 - (np.asarray(image) > 0).astype(np.uint8)).save(mask)


def test_masks_that_a_recipe_learns_from_belong_to_what_its_result_depends_on(folder: Path) -> None:
    def content(recipe: Overlaid) -> dict[str, str]:
        return Dataset(folder, {}).content_for(recipe)

    plain, masked = content(PLAIN), content(MASKED)
    draw_anew(folder / "masks" / "test_1.png")
    assert content(MASKED) == masked, "no training reads it"
    draw_anew(folder / "masks" / "train_3.png")
    assert content(PLAIN) == plain
    assert {name for name, value in content(MASKED).items() if value != masked[name]} == {"masks_sha256"}


def test_a_folder_of_masks_that_an_overlay_names_is_the_one_that_counts(folder: Path, tmp_path: Path) -> None:
    elsewhere = (folder / "masks").rename(tmp_path / "masks")
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(f"masks: {elsewhere}\n", encoding="utf-8")
    mine = Overlaid("mine", (*MASKED.overlays, str(overlay)))
    before = Dataset(folder, {}).content_for(mine)
    draw_anew(elsewhere / "train_3.png")
    assert Dataset(folder, {}).content_for(mine)["masks_sha256"] != before["masks_sha256"]


def test_datasets_of_the_same_test_slides_share_their_resamples(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = (folder / "slides.csv").read_text().splitlines(keepends=True)
    tables = {"again": lines, "fewer": [line for line in lines if "test_1" not in line]}
    for name, kept in tables.items():
        (folder / f"{name}.csv").write_text("".join(kept))
    own, again, fewer = (
        Dataset(folder, options) for options in ({}, *({"slides": str(folder / f"{name}.csv")} for name in tables))
    )
    other = Dataset(write_masked_dataset(tmp_path / "other"), {})
    assert draws_of([own, other, again]) == [0, 1, 0]
    assert not caplog.messages
    assert draws_of([own, fewer]) == [0, 1]
    assert f"{len(fewer.test_slides())} test slides stand in more than one dataset" in caplog.text


def test_where_the_table_lies_does_not_belong_to_it(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "fold0.csv"
    copied.write_bytes((folder / "slides.csv").read_bytes())
    assert Dataset(folder, {"slides": str(copied)}).content_for(PLAIN) == Dataset(folder, {}).content_for(PLAIN)
