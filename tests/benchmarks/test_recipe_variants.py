"""Variants of the recommended recipe, judged by training slides that were left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fewer_slides import fewer
from recipe_variants import RECOMMENDED, VARIANTS, aucs_of, record_of, split_anew

from scripts.ablations.rows import FULL, ROWS
from scripts.common.config_files import CONFIGS
from scripts.evaluation.predictions import Prediction, write_predictions
from scripts.studies.trainings import Trainings


def slide_rows() -> list[dict[str, str]]:
    splits = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    return [{"slide": f"{place}.tif", "label": str(place % 2), "split": split} for place, split in enumerate(splits)]


def test_training_slides_that_were_left_out_judge_and_test_slides_take_no_part() -> None:
    rows = slide_rows()
    anew = {row["slide"]: row["split"] for row in split_anew(rows, 4, draw=0)}
    before = {row["slide"]: row["split"] for row in rows}
    assert set(anew) == {slide for slide, split in before.items() if split != "test"}
    assert sum(split == "train" for split in anew.values()) == 4
    assert {slide for slide, split in anew.items() if split == "val"} == {f"{place}.tif" for place in range(12, 16)}
    assert all(before[slide] == "train" for slide, split in anew.items() if split == "test")
    assert anew != {row["slide"]: row["split"] for row in split_anew(rows, 4, draw=1)}


def test_training_slides_without_a_label_are_left_out() -> None:
    unlabelled = [
        {"slide": f"u{place}.tif", "label": "", "split": split} for place, split in enumerate(("train", "val"))
    ]
    anew = split_anew([*slide_rows(), *unlabelled], 4, draw=0)
    assert [row["slide"] for row in anew if row["slide"].startswith("u")] == ["u1.tif"]
    assert sorted(row["label"] for row in anew if row["split"] == "train") == ["0", "0", "1", "1"]
    assert {row["slide"] for row in fewer(unlabelled + slide_rows(), 4, np.random.default_rng(0))} >= {"u1.tif"}
    assert "u0.tif" not in {row["slide"] for row in fewer(unlabelled + slide_rows(), 4, np.random.default_rng(0))}


def test_runs_of_an_earlier_command_with_more_tables_do_not_count(tmp_path: Path) -> None:
    rows = [Prediction(str(place), place % 2, (0.5, 0.5), 0.5) for place in range(4)]
    for place in range(3):
        folder = tmp_path / f"set{place}" / "nic" / f"set{place}_draw0" / "full" / "seed0"
        write_predictions(folder / "predictions.csv", rows, class_names=["0", "1"], threshold=0.5)
    assert sorted(aucs_of(tmp_path, [0, 1], [0, 1], 2)) == [
        f"set{place}/nic/set{place}_draw0/full/seed0" for place in range(2)
    ]


@pytest.mark.parametrize("name", VARIANTS)
def test_a_training_takes_what_a_variant_changes(name: str) -> None:
    given = dict(VARIANTS[name])
    overlay = str(CONFIGS / given.pop("overlay", f"{RECOMMENDED}.yaml"))
    assert Path(overlay).is_file()
    recipe = replace(ROWS[FULL], overlays=(overlay,))
    assert set(Trainings(more=given).options_for([recipe])) == set(given)


def test_a_difference_is_taken_run_by_run() -> None:
    reference = {"a": 0.5, "b": 0.7, "c": 0.9}
    record = record_of("other", {"a": 0.6, "b": 0.8, "c": 1.0}, reference)
    assert record["runs"] == 3
    assert record["auc"] == pytest.approx(0.8)
    assert [record[key] for key in ("difference", "difference_low", "difference_high")] == pytest.approx([0.1] * 3)
    spread = record_of("other", {"a": 0.5, "b": 0.8}, reference)
    assert spread["difference"] == pytest.approx(0.05)
    assert spread["difference_high"] == pytest.approx(0.05 + 12.706 * 0.05, abs=1e-3)  # t of one degree of freedom
    assert "difference" not in record_of(RECOMMENDED, reference, reference)
