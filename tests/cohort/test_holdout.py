from collections import Counter
from pathlib import Path

import pytest

from scripts.cohort.holdout import draw_slides, hold_out
from scripts.common.errors import RequestError
from scripts.slides.table import SlideRow


def slide_rows(count: int, *, per_patient: int = 1, split: str | None = None) -> list[SlideRow]:
    """Every third slide is of class b."""
    return [
        SlideRow(f"s{i:03d}", Path(f"s{i:03d}.svs"), "b" if i % 3 == 2 else "a", f"p{i // per_patient}", split)
        for i in range(count)
    ]


def test_shares_of_each_class() -> None:
    rows = hold_out(slide_rows(300), 0.2, split="test", of={None}, seed=0)
    assert Counter((row.label, row.split) for row in rows) == {
        ("a", None): 160, ("a", "test"): 40, ("b", None): 80, ("b", "test"): 20,
    }  # fmt: skip
    assert [row.slide_id for row in rows] == [row.slide_id for row in slide_rows(300)]


@pytest.mark.parametrize("seed", range(5))
def test_patients_stay_together(seed: int) -> None:
    rows = hold_out(slide_rows(90, per_patient=2), 0.3, split="val", of={None}, seed=seed)
    splits: dict[str | None, set[str | None]] = {}
    for row in rows:
        splits.setdefault(row.patient, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(row.label for row in rows if row.split == "val")["b"] in (8, 9)


def test_the_draw_depends_on_seed_alone() -> None:
    def held(rows: list[SlideRow], seed: int) -> set[str]:
        return {row.slide_id for row in hold_out(rows, 0.2, split="test", of={None}, seed=seed) if row.split}

    rows = slide_rows(60)
    assert held(rows, 0) == held(rows[::-1], 0)
    assert held(rows, 0) != held(rows, 1)


def test_other_splits_are_left_alone() -> None:
    rows = [*slide_rows(30, split="train"), SlideRow("t", Path("t.svs"), "a", "pt", "test")]
    drawn = hold_out(rows, 0.5, split="val", of={"train"}, seed=0)
    assert drawn[-1].split == "test"
    assert Counter(row.split for row in drawn) == {"train": 15, "val": 15, "test": 1}
    assert hold_out(rows, 0, split="val", of={"train"}, seed=0) == rows


def test_shares_that_cannot_be() -> None:
    with pytest.raises(RequestError, match=r"val_share is 1, expected 0 to below 1"):
        hold_out(slide_rows(9), 1, split="val", of={None}, seed=0)
    with pytest.raises(
        RequestError, match=r"leaves no slide of class [ab] in test or none outside it.*set test_share to 0"
    ):
        hold_out(slide_rows(9, per_patient=9), 0.2, split="test", of={None}, seed=0)


def test_slides_of_each_class_are_drawn() -> None:
    rows = draw_slides(slide_rows(60), 15, seed=0)
    assert Counter(row.label for row in rows) == {"a": 15, "b": 15}
    assert rows == draw_slides(slide_rows(60)[::-1], 15, seed=0)[::-1]
    with pytest.raises(RequestError, match="slides_per_class is 21, and there are 20 slides of class b"):
        draw_slides(slide_rows(60), 21, seed=0)
