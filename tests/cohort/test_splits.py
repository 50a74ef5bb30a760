import csv
import json
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_flow import run_config

from scripts.cohort.split_draw import Division, assign_splits
from scripts.cohort.splits import split_slides
from scripts.common.errors import RequestError
from scripts.slides.table import SlideRow, read_slides


def rows_of(patients: int = 60, *, classes: int = 2, mixed: bool = False, seed: int = 0) -> list[SlideRow]:
    """One to three slides per patient; with ``mixed`` some patients have slides of several classes."""
    rng = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        own = patient % classes
        for slide in range(rng.integers(1, 4)):
            label = rng.integers(classes) if mixed and patient % 5 == 0 else own
            name = f"p{patient}_{slide}"
            rows.append(SlideRow(name, Path(f"{name}.tif"), label=f"c{label}", patient=f"p{patient}"))
    return rows


def write(folder: Path, rows: list[SlideRow], **columns: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "slides.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["slide", "label", "patient", *columns])
        writer.writerows([row.path, row.label or "", row.patient or "", *columns.values()] for row in rows)
    return folder / "slides.csv"


def share_of_classes(rows: list[SlideRow], split_of: list[str], split: str) -> dict[str | None, float]:
    counts = Counter(row.label for row, own in zip(rows, split_of, strict=True) if own == split)
    return {name: count / counts.total() for name, count in counts.items()}


@pytest.mark.parametrize("folds", [None, 5])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("mixed", [False, True])
def test_patients_stay_together_and_classes_are_spread(folds: int | None, classes: int, mixed: bool) -> None:
    rows = rows_of(90, classes=classes, mixed=mixed)
    whole = share_of_classes(rows, ["all"] * len(rows), "all")
    for split_of in assign_splits(rows, Division(folds=folds)):
        splits_of_patient: dict[str | None, set[str]] = {}
        for row, split in zip(rows, split_of, strict=True):
            splits_of_patient.setdefault(row.patient, set()).add(split)
        assert {len(splits) for splits in splits_of_patient.values()} == {1}
        for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert split_of.count(split) / len(rows) == pytest.approx(share, abs=0.05)
            for name, of_class in share_of_classes(rows, split_of, split).items():
                assert of_class == pytest.approx(whole[name], abs=0.08)


def test_every_slide_is_tested_once() -> None:
    rows = rows_of()
    tested = np.array([[split == "test" for split in split_of] for split_of in assign_splits(rows, Division(folds=4))])
    assert (tested.sum(axis=0) == 1).all()
    assert tested.sum(axis=1) == pytest.approx(len(rows) / 4, abs=4)


def test_a_slide_without_patient_stands_for_itself_and_one_without_label_in_no_split() -> None:
    rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), label=None if i == 7 else str(i % 2)) for i in range(40)]
    (split_of,) = assign_splits(rows, Division())
    assert Counter(split_of) == {"train": 23, "val": 8, "test": 8, "": 1}
    assert split_of[7] == ""


@pytest.mark.parametrize(("test_share", "val_share"), [(0.1, 0.15), (0.5, 0.25), (0, 0.3)])
def test_shares(test_share: float, val_share: float) -> None:
    rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), label=str(i % 2)) for i in range(200)]
    (split_of,) = assign_splits(rows, Division(test_share=test_share, val_share=val_share))
    assert split_of.count("test") == pytest.approx(200 * test_share, abs=3)
    assert split_of.count("val") == pytest.approx(200 * val_share, abs=3)


@pytest.mark.parametrize(
    ("slides", "shares", "expected"),
    [
        (1000, (0.2, 0.02), (200, 40)),
        (1000, (0.024, 0.2), (50, 200)),
        (1000, (0, 0.98), (0, 950)),
        (10, (0.1, 0.1), (2, 2)),
    ],
)
def test_a_share_that_is_small_or_nearly_all(
    slides: int, shares: tuple[float, float], expected: tuple[int, int]
) -> None:
    """It is one part of the most that there are, or all but one."""
    rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), label=str(i % 2)) for i in range(slides)]
    (split_of,) = assign_splits(rows, Division(test_share=shares[0], val_share=shares[1]))
    assert (split_of.count("test"), split_of.count("val")) == pytest.approx(expected, abs=slides * 0.01)


def test_three_patients_a_class_are_enough() -> None:
    for seed in range(20):
        rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), label=str(i % 2)) for i in range(6)]
        assert Counter(assign_splits(rows, Division(seed=seed))[0]) == {"train": 2, "val": 2, "test": 2}


@pytest.mark.parametrize("moved", ["data", "splits"])
def test_copies_are_written_anew_where_they_lead_nowhere(tmp_path: Path, moved: str) -> None:
    (tmp_path / "data").mkdir()
    (table,) = split_slides(write(tmp_path / "data", rows_of()), tmp_path / "splits")
    before = [row.split for row in read_slides(table)]
    folder = (tmp_path / "deeper").joinpath("in") / moved
    folder.parent.mkdir(parents=True)
    (tmp_path / moved).rename(folder)
    places = {name: folder if name == moved else tmp_path / name for name in ("data", "splits")}
    (table,) = split_slides(places["data"] / "slides.csv", places["splits"])
    rows = read_slides(table)
    assert [row.split for row in rows] == before
    assert {row.path.resolve().parent for row in rows} == {places["data"].resolve()}


def test_the_seed_draws() -> None:
    rows = rows_of()
    assert assign_splits(rows, Division(seed=1)) == assign_splits(rows, Division(seed=1))
    assert assign_splits(rows, Division(seed=1)) != assign_splits(rows, Division(seed=2))


def test_an_official_test_set_stays() -> None:
    rows = [
        SlideRow(f"s{i}", Path(f"s{i}.tif"), str(i % 2), f"p{i // 2}", "test" if i < 20 else "train") for i in range(60)
    ]
    (split_of,) = assign_splits(rows, Division(keep_test=True, val_share=0.25))
    assert split_of[:20] == ["test"] * 20
    assert Counter(split_of[20:]) == {"train": 30, "val": 10}
    with pytest.raises(RequestError, match="patient p0 is in split test with other slides, which leaks"):
        assign_splits([*rows, SlideRow("late", Path("late.tif"), "0", "p0")], Division(keep_test=True))
    with pytest.raises(RequestError, match="no slide is in split test"):
        assign_splits(rows_of(), Division(keep_test=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "folds 1: expected a whole number, 2 or more"),
        ({"folds": 4, "keep_test": True}, "folds 4 with keep_test: expected"),
        ({"test_share": 0.6, "val_share": 0.4}, "test_share 0.6 and val_share 0.4: expected shares"),
        ({"folds": 2, "val_share": 0.5}, "test_share 0.5 and val_share 0.5: expected shares"),
        ({"val_share": 0}, "val_share 0: expected a number over 0 and under 1"),
        ({"folds": 31}, "class c0: slides of 30 patients to divide, expected 31 or more.*fewer --folds"),
    ],
)
def test_wrong_requests(options: dict, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        assign_splits(rows_of(), Division(**options))


def test_too_few_patients_of_a_class() -> None:
    """Many slides of two patients: not enough for three splits."""
    rows = [
        SlideRow(f"s{i}", Path(f"s{i}.tif"), "0" if i < 20 else "1", f"p{i}" if i < 20 else f"q{i % 2}")
        for i in range(40)
    ]
    with pytest.raises(RequestError, match=r"class 1: slides of 2 patients to divide, expected 3 or more.*least: add"):
        assign_splits(rows, Division())
    with pytest.raises(RequestError, match="1 classes in 20 slides, expected two or more"):
        assign_splits(rows[:20], Division())


def test_folds_beyond_all_patients_are_refused_before_any_file_is_named(tmp_path: Path) -> None:
    table = write(tmp_path, rows_of())
    tracemalloc.start()
    try:
        with pytest.raises(
            RequestError, match="expected 10000000 or more, one per part at least: ask for fewer --folds, or add"
        ):
            split_slides(table, tmp_path / "out", folds=10_000_000)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_files_keep_every_column(tmp_path: Path) -> None:
    table = write(tmp_path / "data", rows_of(), mpp="0.5", site="north", split="train")
    paths = split_slides(table, tmp_path / "splits", folds=3)
    assert [path.name for path in paths] == ["fold0.csv", "fold1.csv", "fold2.csv"]
    for path in paths:
        written = read_slides(path)
        assert [row.slide_id for row in written] == [row.slide_id for row in read_slides(table)]
        assert [row.path.resolve() for row in written] == [row.path.resolve() for row in read_slides(table)]
        assert {row.mpp for row in written} == {0.5}
        assert {row.extra["site"] for row in written} == {"north"}
        assert {row.split for row in written} == {"train", "val", "test"}
    card = json.loads((tmp_path / "splits" / "split.json").read_text())
    assert card["request"]["folds"] == 3
    counts = card["splits"]["fold0.csv"]
    assert sum(counts[split]["slides"] for split in counts) == len(rows_of())
    assert sum(counts[split]["patients"] for split in counts) == 60


def test_the_same_request_keeps_what_is_there(tmp_path: Path) -> None:
    table = write(tmp_path, rows_of())
    (path,) = split_slides(table, tmp_path / "splits", seed=1)
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    write(tmp_path, rows_of(), split="train")  # what the table says of splits does not count
    split_slides(table, tmp_path / "splits", seed=1)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, stamp)


def test_another_request_is_refused_unless_asked(tmp_path: Path) -> None:
    table, output = write(tmp_path, rows_of()), tmp_path / "splits"
    split_slides(table, output, folds=5)
    for options, what in (
        ({"folds": 5, "seed": 1}, "seed"),
        ({"folds": 3}, "folds"),
        ({"folds": 5, "val_share": 0.1}, "val_share"),
    ):
        with pytest.raises(RequestError, match=f"another request \\({what} was .*--replace true"):
            split_slides(table, output, **options)
    for other in (write(tmp_path / "more", rows_of(61)), write(tmp_path, rows_of(), mask="m.png")):
        with pytest.raises(RequestError, match="another request \\(table was"):
            split_slides(other, output, folds=5)
    split_slides(table, output, folds=5, replace=True)
    assert {row.mask for row in read_slides(output / "fold0.csv")} == {output / "../m.png"}, "an old copy of the table"
    split_slides(table, output, folds=3, replace=True)
    assert sorted(path.name for path in output.glob("[!.]*")) == ["fold0.csv", "fold1.csv", "fold2.csv", "split.json"]


@pytest.mark.parametrize("kept_bytes", [0, 20])
def test_a_truncated_record_of_a_split_is_noticed(tmp_path: Path, kept_bytes: int) -> None:
    table, record = write(tmp_path, rows_of()), tmp_path / "splits" / "split.json"
    split_slides(table, record.parent)
    record.write_bytes(record.read_bytes()[:kept_bytes])
    with pytest.raises(RequestError, match=r"split\.json: .*was changed,"):
        split_slides(table, record.parent)


def test_a_split_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    table, output = write(tmp_path, rows_of()), tmp_path / "splits"
    (path,) = split_slides(table, output)
    first = path.read_text()
    path.write_text(first.replace(",test", ",train"))
    edited = path.read_bytes()
    for replace in (False, True):
        with pytest.raises(RequestError, match=r"split\.csv: .*was changed,"):
            split_slides(table, output, replace=replace)
    assert path.read_bytes() == edited
    path.unlink()
    split_slides(table, output)
    assert path.read_text() == first


def test_as_a_stage(tmp_path: Path) -> None:
    table = write(tmp_path, rows_of())
    run_config("split.yaml", run_id="splitting", slides=table, output_dir=tmp_path / "splits", folds=2)
    assert (tmp_path / "splits" / "fold1.csv").is_file()
    with pytest.raises(RuntimeError) as caught:
        run_config("split.yaml", run_id="splitting", output_dir=tmp_path / "none")
    assert "expected a CSV with the columns slide and label" in str(caught.value.__cause__)


def of_sizes(**sizes: int) -> list[SlideRow]:
    """So many slides of each class, one per patient."""
    return [
        SlideRow(f"{name}{i}", Path(f"{name}{i}.tif"), label=name, patient=f"{name}{i}")
        for name, count in sizes.items()
        for i in range(count)
    ]


def counted(rows: list[SlideRow], split_of: list[str]) -> dict[str, dict[str | None, int]]:
    return {
        split: dict(Counter(row.label for row, own in zip(rows, split_of, strict=True) if own == split))
        for split in ("train", "val", "test")
    }


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_does_not_round_the_share_of_the_others(seed: int) -> None:
    rows = of_sizes(neg=20, pos=3)
    (split_of,) = assign_splits(rows, Division(seed=seed))
    assert counted(rows, split_of) == {
        "train": {"neg": 12, "pos": 1},
        "val": {"neg": 4, "pos": 1},
        "test": {"neg": 4, "pos": 1},
    }
    for split_of in assign_splits(rows, Division(folds=3, seed=seed)):
        counts = counted(rows, split_of)
        assert [counts[split]["pos"] for split in counts] == [1, 1, 1]
        assert counts["val"]["neg"] in (3, 4, 5) and counts["test"]["neg"] in (6, 7)


def test_several_rare_classes_and_a_patient_of_two() -> None:
    rows = of_sizes(neg=40, a=3, b=4)
    rows += [
        SlideRow("a0_b", Path("a0_b.tif"), label="b", patient="a0"),
        SlideRow("a0_n", Path("a0_n.tif"), "neg", "a0"),
    ]
    for seed in range(5):
        (split_of,) = assign_splits(rows, Division(seed=seed))
        counts = counted(rows, split_of)
        assert all(set(of_split) == {"neg", "a", "b"} for of_split in counts.values())
        assert [counts[split]["neg"] for split in counts] == pytest.approx([24.6, 8.2, 8.2], abs=1.5)
        assert len({split_of[i] for i, row in enumerate(rows) if row.patient == "a0"}) == 1


def test_the_share_that_came_out_is_held_against_the_one_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    table = write(tmp_path, [*of_sizes(neg=20, pos=3), SlideRow("u", Path("u.tif"))])
    split_slides(table, tmp_path / "splits")
    card = json.loads((tmp_path / "splits" / "split.json").read_text())
    val = card["splits"]["split.csv"]["val"]
    assert (val["slides"], val["asked"], val["share"]) == (5, 0.2, pytest.approx(5 / 23))
    assert val["class_shares"] == {"neg": 0.2, "pos": pytest.approx(1 / 3)}
    assert "train holds 33% of class pos, asked 60%" in card["deviations"]["split.csv"]
    assert "shares that whole patients cannot meet: train holds 33% of class pos, asked 60%; val" in caplog.text
    assert "split.csv: train 13 (57%, asked 60%), val 5 (22%, asked 20%), test 5 (22%, asked 20%)" in caplog.text
    assert "1 of 24 slides have no label and are in no split" in caplog.text


@pytest.mark.parametrize(
    ("patients", "told", "warned"),
    [
        ([None] * 12, "splitting: 12 slides of 12 patients (no slide names a patient, so each counts as one", None),
        (
            ["a", None, None, "b", None, None] * 2,
            "splitting: 12 slides of 10 patients",
            "8 of 12 slides name no patient",
        ),
        (
            [f"{i + 341:05d}" for i in range(9)] + ["341", "0341", "342"],
            "splitting: 12 slides of 9 patients",
            "the numbers of 2 patients are written with and without leading zeros",
        ),
        ([f"p{i}" for i in range(12)], "splitting: 12 slides of 12 patients", None),
    ],
)
def test_who_the_patients_are_is_told(
    patients: list[str | None], told: str, warned: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    rows = [
        SlideRow(f"s{i}", Path(f"s{i}.tif"), str(i // 3 % 2), patient if patient else None)
        for i, patient in enumerate(patients)
    ]
    split_slides(write(tmp_path, rows), tmp_path / "splits", val_share=0.25, test_share=0.25)
    assert any(message.startswith(told) for message in caplog.messages)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    found = [message for message in warnings if "name no patient" in message or "as one" in message]
    assert [message[: len(warned or "")] for message in found] == ([warned] if warned else [])


def test_patients_are_named_in_the_debug_log_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    patients = ["00341", "341", *(f"p{i}" for i in range(10))]
    rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), str(i % 2), patient) for i, patient in enumerate(patients)]
    table = write(tmp_path, rows)
    split_slides(table, tmp_path / "splits", val_share=0.25, test_share=0.25)
    naming = [record for record in caplog.records if "341" in record.getMessage().replace(str(tmp_path), "")]
    assert [(record.levelname, record.getMessage()) for record in naming] == [("DEBUG", "one patient: 00341, 341")]
    assert f"sort {table} by the number in its column patient" in caplog.text


def test_shares_that_are_met_are_said_without_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING")
    rows = [SlideRow(f"s{i}", Path(f"s{i}.tif"), str(i % 2), f"p{i}", "test" if i < 20 else None) for i in range(60)]
    table = write(tmp_path, rows)
    with open(table) as file:
        lines = list(csv.reader(file))
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows(
            [[*lines[0], "split"], *([*line, row.split or ""] for line, row in zip(lines[1:], rows, strict=True))]
        )
    split_slides(table, tmp_path / "splits", keep_test=True, val_share=0.25)
    card = json.loads((tmp_path / "splits" / "split.json").read_text())
    assert card["splits"]["split.csv"]["test"] == {
        "slides": 20, "patients": 20, "classes": {"0": 10, "1": 10}, "asked": None, "share": None, "class_shares": None,
    }  # fmt: skip
    assert card["splits"]["split.csv"]["val"]["share"] == 0.25
    assert card["deviations"] == {"split.csv": []} and not caplog.records
    split_slides(table, tmp_path / "anew", val_share=0.25)
    (warned,) = caplog.messages  # of the second request alone
    assert (
        warned.startswith(f"20 slides of {table} are in a split, which is drawn anew: ")
        and "--keep_test true" in warned
    )


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, "60 slides"),
        ({"folds": 2}, "60 slides"),
        ({"keep_test": True, "val_share": 0.25}, None),
    ],
)
def test_official_splits_that_are_drawn_anew_are_said(
    options: dict[str, Any], warned: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of Camelyon16, all of whose slides are to train or to test; one more has no label."""
    lines = ["slide,label,patient,split", "u.tif,,pu,train"]
    lines += [f"s{i}.tif,{'ab'[i % 2]},p{i},{'test' if i < 20 else 'train'}" for i in range(60)]
    table = tmp_path / "slides.csv"
    table.write_text("\n".join(lines) + "\n")
    split_slides(table, tmp_path / "splits", **options)
    found = [message for message in caplog.messages if "drawn anew" in message]
    assert [message[:9] for message in found] == ([warned] if warned else [])
    assert all(("--keep_test" in message) is ("folds" not in options) for message in found)
