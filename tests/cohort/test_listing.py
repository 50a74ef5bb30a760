import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cohort.empty_files import tcga_name, touch, write_camelyon16, write_camelyon17, write_lines, write_tcga
from tiny_flow import read_rows, run_command, run_config

from scripts.cohort.camelyon16 import list_camelyon16
from scripts.cohort.camelyon17 import list_camelyon17
from scripts.cohort.folder import list_folder, list_table
from scripts.cohort.found import Cohort
from scripts.cohort.listing import draw_slides, write_listing
from scripts.cohort.splits import split_slides
from scripts.cohort.tcga import list_tcga
from scripts.common.errors import RequestError
from scripts.slides.table import SlideRow, read_slides

BUILDERS: dict[str, Callable[[Any], Cohort]] = {
    "camelyon16": list_camelyon16, "camelyon17": list_camelyon17, "tcga_lusc": list_tcga, "folder": list_folder,
    "table": list_table,
}  # fmt: skip


def listed(cohort: str, slides: Path, output_dir: Path, **options: Any) -> list[dict[str, str]]:
    write_listing(cohort, slides, output_dir, builders=BUILDERS, **options)
    return read_rows(output_dir / "slides.csv")


def test_a_table_that_the_other_stages_read(tmp_path: Path) -> None:
    rows = listed("tcga_lusc", write_tcga(tmp_path / "slides"), tmp_path / "out")
    assert list(rows[0]) == ["slide", "label", "patient", "split", "section", "sample_type", "site", "barcode"]
    read = read_slides(tmp_path / "out" / "slides.csv")
    assert len(read) == len(rows) == 68
    assert all(row.path.is_file() for row in read)
    assert {row.split for row in read} == {None}
    left_out = read_rows(tmp_path / "out" / "left_out.csv")
    assert Counter(row["reason"] for row in left_out) == {"diagnostic section": 40}
    assert (tmp_path / "out" / left_out[0]["slide"]).is_file()


def test_what_a_table_says_of_its_slides_still_holds_in_the_listing(tmp_path: Path) -> None:
    touch(tmp_path / "in", ["s/a.svs", "s/b.svs"])
    lines = ["slide,label,mpp,mask,note", "s/a.svs,0,0.5,,x", "s/b.svs,1,,m/b.png,"]
    listed("table", write_lines(tmp_path / "in" / "t.csv", lines), tmp_path / "out")
    rows = read_slides(tmp_path / "out" / "slides.csv")
    assert [(row.mpp, row.mask and row.mask.resolve(), row.extra) for row in rows] == [
        (0.5, None, {"note": "x"}), (None, (tmp_path / "in" / "m" / "b.png").resolve(), {"note": ""})
    ]  # fmt: skip


def test_summary_names_no_slide(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        listed("camelyon16", write_camelyon16(tmp_path / "slides", layout="first"), tmp_path / "out")
    messages = [record.getMessage().strip() for record in caplog.records]
    assert messages == [
        "folder of slides: 400 found, passed over: 1 .csv",
        "listing: 399 slides of 399 patients",
        "train: normal 159, tumor 111",
        "test: normal 105, tumor 24",
        "listed with a note: 1 (holds tumour; released again as tumor_111)",
        "listed with a note: 21 (outlines not exhaustive)",
        "left out: 1 (duplicate of another slide)",
    ]


def test_official_test_slides_stay_apart(tmp_path: Path) -> None:
    rows = listed("camelyon16", write_camelyon16(tmp_path / "slides"), tmp_path / "out", seed=3)
    assert {Path(row["slide"]).stem.split("_")[0] for row in rows if row["split"] == "test"} == {"test"}
    assert "test" not in {Path(row["slide"]).stem.split("_")[0] for row in rows if row["split"] != "test"}


def test_the_official_test_set_outlives_splitting(tmp_path: Path) -> None:
    listed("camelyon16", write_camelyon16(tmp_path / "slides"), tmp_path / "out")
    (table,) = split_slides(tmp_path / "out" / "slides.csv", tmp_path / "splits", keep_test=True)
    rows = read_slides(table)
    assert {row.slide_id.split("_")[0] for row in rows if row.split == "test"} == {"test"}
    counts = Counter((row.label, row.split) for row in rows)
    assert counts["normal", "test"] + counts["tumor", "test"] == 129
    assert 40 < counts["normal", "val"] + counts["tumor", "val"] < 70


def test_the_papers_400_and_100(tmp_path: Path) -> None:
    """250 slides of each class (IV-A.b), of which ``splitting`` tests a fifth: whole patients, to within a few slides."""
    names = [tcga_name(p, "01A", section) for p in range(150) for section in ("TS1", "BS1")]
    names += [tcga_name(p, "11A", section) for p in range(150) for section in ("TS1", "BS1")]
    slides = touch(tmp_path / "slides", names)
    rows = listed("tcga_lusc", slides, tmp_path / "out", slides_per_class=250)
    assert Counter(row["label"] for row in rows) == {"tumor": 250, "normal": 250}
    (table,) = split_slides(tmp_path / "out" / "slides.csv", tmp_path / "splits", test_share=0.2, val_share=0.16)
    split = read_slides(table)
    counts = Counter((row.label, row.split) for row in split)
    assert all(abs(counts[label, "test"] - 50) <= 4 for label in ("tumor", "normal"))
    patients = {name: {row.patient for row in split if row.split == name} for name in ("train", "val", "test")}
    assert not patients["train"] & patients["test"] and not patients["val"] & patients["test"]


def test_slides_of_each_class_are_drawn() -> None:
    """Every third slide is of class b."""
    rows = [SlideRow(f"s{i:03d}", Path(f"s{i:03d}.svs"), "b" if i % 3 == 2 else "a") for i in range(60)]
    rows.insert(7, SlideRow("no_label", Path("no_label.svs")))
    drawn = draw_slides(rows, 15, seed=0)
    assert Counter(row.label for row in drawn) == {"a": 15, "b": 15}
    assert drawn == draw_slides(rows[::-1], 15, seed=0)[::-1] != draw_slides(rows, 15, seed=1)
    with pytest.raises(RequestError, match="slides_per_class is 21, and there are 20 slides of class b"):
        draw_slides(rows, 21, seed=0)


def test_same_seed_same_slides(tmp_path: Path) -> None:
    """Wherever the slides lie."""
    tables = []
    for index, seed in enumerate((0, 0, 1)):
        slides = write_tcga(tmp_path / f"s{index}")
        rows = listed("tcga_lusc", slides, tmp_path / f"o{index}", slides_per_class=10, seed=seed)
        tables.append([row["barcode"] for row in rows])
    assert tables[0] == tables[1] != tables[2]


def test_a_patient_in_two_splits_is_named(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.csv", ["slide,label,patient,split", "a.svs,0,p7,train", "b.svs,1,p7,test"])
    with pytest.raises(
        RequestError, match=r"patient p7 is in split train with .*a\.svs and in test with .*b\.svs, which leaks"
    ):
        listed("table", table, tmp_path / "out")
    slides = touch(tmp_path / "slides", ["train/x/p7_1.svs", "val/y/p7_2.svs"])
    with pytest.raises(RequestError, match="patient p7"):
        write_listing(
            "folder", slides, tmp_path / "out", builders={"folder": lambda root: list_folder(root, patient_pattern=r"^p\d+")},
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_slides_of_one_file_name_are_patients_of_their_own(tmp_path: Path) -> None:
    slides = touch(
        tmp_path / "slides", ["train/normal/1.tif", "test/tumor/1.tif", "test/tumor/b/1.dcm", "test/tumor/c/1.dcm"]
    )
    rows = listed("folder", slides, tmp_path / "folder")
    assert len({row["patient"] for row in rows}) == 4 and {row["patient"] for row in rows} == {
        row["slide_id"] for row in rows
    }
    table = write_lines(tmp_path / "t.csv", ["slide,patient", "a/1.tif,", "b/1.tif,NA", "c/1.tif,p1", "d/2.tif,p1"])
    assert [row["patient"] for row in listed("table", table, tmp_path / "table")] == ["", "", "p1", "p1"]


def test_patients_that_only_some_slides_name_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a spreadsheet with merged cells leaves them; and slide a is not of the patient a."""
    table = write_lines(tmp_path / "t.csv", ["slide,patient", "a.tif,", "b.tif,a"])
    assert [row["patient"] for row in listed("table", table, tmp_path / "out")] == ["", "a"]
    assert "1 of 2 slides name no patient" in caplog.text


def test_what_users_note_is_not_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    table = write_lines(tmp_path / "t.csv", ["slide,note", "a.tif,Erika Mustermann"])
    assert listed("table", table, tmp_path / "out")[0]["note"] == "Erika Mustermann"
    assert "Mustermann" not in caplog.text


def test_ids_that_as_patients_would_be_two_spellings(tmp_path: Path) -> None:
    slides = touch(tmp_path / "slides", ["a/x 1.tif", "b/x  1.tif"])
    assert [row["patient"] for row in listed("folder", slides, tmp_path / "out")] == ["", ""]
    assert len(read_slides(tmp_path / "out" / "slides.csv")) == 2


def test_requests_that_are_wrong(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.csv", ["slide,split", "a.svs,train", "b.svs,"])
    for cohort, slides, options, message in (
        ("camelyon", table, {}, "cohort 'camelyon': expected one of camelyon16, camelyon17, tcga_lusc, folder, table"),
        ("table", None, {}, "no slides given"),
        ("table", table, {}, "some slides have a split and some have none"),
        ("table", write_lines(tmp_path / "e.csv", ["slide"]), {}, "no slide is left to list"),
        (
            "camelyon16", write_camelyon16(tmp_path / "c"), {"slides_per_class": 5},
            "the data set has its own split, which is taken whole",
        ),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=message):
            write_listing(cohort, slides, tmp_path / "out", builders=BUILDERS, **options)
    assert not (tmp_path / "out").exists()


def test_a_table_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide\nmine.svs\n")
    with pytest.raises(RequestError, match=r"slides\.csv: is there already"):
        listed("tcga_lusc", write_tcga(tmp_path / "slides"), tmp_path)
    assert (tmp_path / "slides.csv").read_text() == "slide\nmine.svs\n"


@pytest.mark.parametrize(
    ("cohort", "write", "options", "labels"),
    [
        ("camelyon16", write_camelyon16, {}, {"normal": 264, "tumor": 135}),
        ("camelyon17", write_camelyon17, {}, {"normal": 350, "tumor": 150}),
        ("camelyon17", write_camelyon17, {"itc": "normal"}, {"normal": 400, "tumor": 100}),
        ("camelyon17", write_camelyon17, {"labels": "stages"}, {"negative": 350, "itc": 50, "micro": 50, "macro": 50}),
        ("tcga_lusc", write_tcga, {}, {"tumor": 48, "normal": 20}),
    ],
)
def test_the_config_lists(
    tmp_path: Path, cohort: str, write: Callable[[Path], Path], options: dict[str, str], labels: dict[str, int]
) -> None:
    slides = write(tmp_path / "slides")
    run_config("datalist.yaml", run_id="listing", cohort=cohort, slides=slides, output_dir=tmp_path / "out", **options)
    assert Counter(row["label"] for row in read_rows(tmp_path / "out" / "slides.csv")) == labels


def test_exit_codes(tmp_path: Path) -> None:
    touch(tmp_path / "slides", ["a/1.svs", "b/2.svs"])
    options = {"cohort": "folder", "slides": "slides", "output_dir": "out"}
    result = run_command("listing", "datalist.yaml", cwd=tmp_path, options={**options, "slides_per_class": 2})
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: slides_per_class is 2, and there are 1 slides of class a")
    result = run_command("listing", "datalist.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    assert "listing: 2 slides of 2 patients" in result.stdout
    assert (tmp_path / "out" / "slides.csv").read_text().splitlines()[1] == "../slides/a/1.svs,a,1,"
