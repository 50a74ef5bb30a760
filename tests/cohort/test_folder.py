from pathlib import Path

import pytest
from cohort.empty_files import touch, write_lines

from scripts.cohort.folder import list_folder, list_table
from scripts.common.errors import RequestError
from scripts.slides.table import with_ids


def test_a_folder_a_class(tmp_path: Path) -> None:
    cohort = list_folder(
        touch(tmp_path, ["grade1/p1_a.svs", "grade1/deep/p1_b.svs", "grade2/p2_a.svs", "grade2/notes.txt"])
    )
    assert [(row.path.stem, row.label, row.patient, row.split) for row in cohort.rows] == [
        ("p1_b", "grade1", None, None),
        ("p1_a", "grade1", None, None),
        ("p2_a", "grade2", None, None),
    ]


def test_patients_and_splits_from_names(tmp_path: Path) -> None:
    cohort = list_folder(touch(tmp_path, ["train/a/p1-1.svs", "val/b/p2-1.svs"]), patient_pattern=r"^(p\d+)-")
    assert [(row.label, row.patient, row.split) for row in cohort.rows] == [("a", "p1", "train"), ("b", "p2", "val")]


@pytest.mark.parametrize("name", ["p1.svs", "train/p1.svs"])
def test_a_slide_without_class(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match=r"p1\.svs: lies in no class's folder"):
        list_folder(touch(tmp_path, [name]))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "not a regular expression"),
        ("q", "is not found in its name"),
        (r"q(\d)|p\d", "finds no patient in its name .its first group holds None.*expected one for every slide"),
        (r"p1(\d*)", "finds no patient in its name .its first group holds ''"),
    ],
)
def test_patterns_that_do_not_serve(tmp_path: Path, pattern: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        list_folder(touch(tmp_path, ["a/p1.svs"]), patient_pattern=pattern)


def test_a_table_with_other_columns(tmp_path: Path) -> None:
    """As CLAM writes it: case_id, slide_id without suffix, label; the files lie anywhere below a folder."""
    touch(tmp_path / "slides", ["x/s1.svs", "y/s2.ndpi"])
    table = write_lines(
        tmp_path / "tables" / "clam.csv", ["case_id,slide_id,label,age", "p1,s1,tumor,50", "p1,s2,normal,"]
    )
    columns = {"slide": "slide_id", "patient": "case_id"}
    rows = list_table(table, columns=columns, slide_folder=tmp_path / "slides").rows
    assert [row.path for row in rows] == [tmp_path / "slides" / "x" / "s1.svs", tmp_path / "slides" / "y" / "s2.ndpi"]
    assert [row.slide_id for row in with_ids(rows)] == ["s1", "s2"]
    assert [(row.label, row.patient, row.extra["age"]) for row in rows] == [("tumor", "p1", "50"), ("normal", "p1", "")]


def test_slides_are_found_by_name_without_all_of_their_suffix_and_whatever_the_unicode_form(tmp_path: Path) -> None:
    touch(tmp_path / "slides", ["c1.ome.tif", "Mu\u0308ller.svs"])
    table = write_lines(tmp_path / "t.csv", ["slide,label", "c1,a", "M\u00fcller,b"])
    rows = list_table(table, slide_folder=tmp_path / "slides").rows
    assert [row.path.name for row in rows] == ["c1.ome.tif", "Mu\u0308ller.svs"]


def test_slides_are_found_by_the_end_of_a_windows_path(tmp_path: Path) -> None:
    touch(tmp_path / "slides", ["x/int.svs", r"a\b.svs", "b.svs"])
    table = write_lines(tmp_path / "t.csv", ["slide", r"D:\scans\int.svs", r"\\server\scans\int", r"a\b.svs"])
    rows = list_table(table, slide_folder=tmp_path / "slides").rows
    assert [row.path.name for row in rows] == ["int.svs", "int.svs", r"a\b.svs"]


def test_paths_relative_to_the_table(tmp_path: Path) -> None:
    table = write_lines(tmp_path / "t.csv", ["slide,split,mpp", "sub/s1.svs,val,0.5"])
    (row,) = list_table(table).rows
    assert (row.path, row.split, row.mpp, row.patient, row.label) == (
        tmp_path / "sub" / "s1.svs",
        "val",
        0.5,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (["file", "s1.svs"], None, r"no column slide \(it has file\).*--columns"),
        (["slide", "s1.svs"], {"label": "dx"}, r"no column dx \(it has slide\)"),
        (["slide", "s1.svs"], {"slides": "slide"}, "columns name slides, expected any of slide, slide_id, label"),
        (["slide,dx,label", "s1.svs,a,b"], {"label": "dx"}, "columns dx and label would both be label"),
        (["slide,label", "s1.svs"], None, "slide 1: 1 cells, expected 2"),
        (["slide,split", "s1.svs,dev"], None, "slide 1: split 'dev', expected one of train, val, test"),
        (
            ["slide,case_id", "s1.svs,p"],
            None,
            r"column case_id, expected patient.*--columns \"\{'patient': 'case_id'\}\" takes it as it is",
        ),
        (["slide,label,label", "s1.svs,a,b"], None, "column label is there 2 times"),
        (["slide;label", "s1.svs;a"], None, "separated by semicolons, expected commas"),
    ],
)
def test_tables_that_do_not_serve(
    tmp_path: Path, lines: list[str], columns: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        list_table(write_lines(tmp_path / "t.csv", lines), columns=columns)


def test_a_table_in_another_encoding_is_to_be_saved_anew(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_bytes("slide,label\ns1.svs,Dysplasie mäßig\n".encode("cp1252"))
    with pytest.raises(RequestError, match=r"t\.csv: not a CSV in UTF-8 .*: save it as comma-separated UTF-8 text"):
        list_table(table)


def test_slides_of_a_table_that_cannot_be_placed(tmp_path: Path) -> None:
    slides = touch(tmp_path / "slides", ["a/s1.svs", "b/s1.svs"])
    for name, count in (("s1.svs", 2), ("s2", 0)):
        table = write_lines(tmp_path / "t.csv", ["slide", name])
        with pytest.raises(RequestError, match=f"{count} files for slide {name}, expected one"):
            list_table(table, slide_folder=slides)
    with pytest.raises(RequestError, match=r"gone\.csv: no such file"):
        list_table(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Train/a/p1.svs", "folder Train would be a class, expected a split to be called train"),
        ("validation/a/p1.svs", "folder validation would be a class, expected a split to be called val"),
        ("NA/p1.svs", "the folder's name 'NA' stands for a missing label"),
    ],
)
def test_folders_that_are_no_classes(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        list_folder(touch(tmp_path, [name]))
