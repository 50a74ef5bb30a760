from pathlib import Path

import pytest

from scripts.common.errors import RequestError
from scripts.slides.table import SlideRow, class_names, copy_table, label_index, read_slides


def write_table(folder: Path, text: str) -> Path:
    table = folder / "slides.csv"
    table.write_text(text, encoding="utf-8")
    return table


def rows_of(*labels: str | None) -> list[SlideRow]:
    return [SlideRow(slide_id=str(k), path=Path(f"{k}.svs"), label=label) for k, label in enumerate(labels)]


def test_a_single_slide(tmp_path):
    slide = tmp_path / "a.b.svs"
    slide.touch()
    assert read_slides(slide) == [SlideRow(slide_id="a.b", path=slide)]


def test_a_folder_is_searched_in_depth_and_sorted(tmp_path):
    for name in ("z.svs", "a/y.NDPI", "a/x.tif", "notes.txt", "mask.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [row.slide_id for row in read_slides(tmp_path)] == ["x", "y", "z"]


def test_a_table_is_read_whole(tmp_path):
    table = write_table(
        tmp_path,
        "\ufeffslide, label,patient,split,mpp,site\nsub/a.svs,tumour,p1,train,0.25,north\n\nb.svs,,,,,\n",
    )
    first, second = read_slides(table)
    assert first == SlideRow(
        slide_id="a", path=tmp_path / "sub/a.svs", label="tumour", patient="p1", split="train", mpp=0.25,
        extra={"site": "north"},
    )  # fmt: skip
    assert second == SlideRow(slide_id="b", path=tmp_path / "b.svs", extra={"site": ""})


def test_absolute_paths_stay(tmp_path):
    assert read_slides(write_table(tmp_path, "slide\n/elsewhere/a.svs\n"))[0].path == Path("/elsewhere/a.svs")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns none, expected slide"),
        ("file,label\na.svs,1\n", "line 1: columns file, label, expected slide"),
        ("slide\n", "no slides"),
        ("slide,mpp\na.svs,0.5\nb.svs,fine\n", "line 3: mpp 'fine'"),
        ("slide,mpp\na.svs,-0.5\n", "line 2: mpp '-0.5'"),
        ("slide,mpp\na.svs,nan\n", "line 2: mpp 'nan'"),
        ("slide,split\na.svs,valid\n", "line 2: split 'valid', expected one of train, val, test"),
        ("slide\na.svs\nb.svs\nx/../a.svs\n", "line 4: slide .*a.svs stands in line 2"),
        (
            "slide,patient,split\na.svs,p9,train\nb.svs,p9,test\n",
            r"patient p9 is in split train with .*a\.svs and in test with .*b\.svs, which leaks",
        ),
        ("slide,label\n,1\n", "line 2: the column slide is empty"),
        ("slide,label\na.svs\n", "line 2: more or fewer cells"),
        ("slide,label\na.svs,1,2\n", "line 2: more or fewer cells"),
        ("slide,Patient\na.svs,p\n", "line 1: column Patient, expected patient, the name that is read"),
        ("slide,label,label\na.svs,1,2\n", "line 1: column label is there 2 times"),
        ("slide;label\na.svs;1\n", "line 1: separated by semicolons, expected commas"),
        (
            "slide,label\na.svs,Tumor\nb.svs, tumor\n",
            "column label has 'Tumor' and 'tumor', which differ in spelling alone",
        ),
        ("slide,patient\na.svs,P1\nb.svs,p1\n", "column patient has 'P1' and 'p1'"),
    ],
)
def test_wrong_tables_name_file_line_and_fault(text, message, tmp_path):
    with pytest.raises(RequestError, match=rf"slides\.csv.*{message}"):
        read_slides(write_table(tmp_path, text))


def test_table_that_is_not_utf8(tmp_path):
    (tmp_path / "slides.csv").write_bytes(b"slide,label\na.svs,T\xfcmor\n")
    with pytest.raises(RequestError, match="UTF-8"):
        read_slides(tmp_path / "slides.csv")


def test_missing_request_and_empty_folder(tmp_path):
    with pytest.raises(RequestError, match=r"gone\.csv: no such file"):
        read_slides(tmp_path / "gone.csv")
    with pytest.raises(RequestError, match="no slides"):
        read_slides(tmp_path)


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        ("007", "7", "patients 007 and 7 are in splits train and test, expected one split"),
        ("P1", "P1\u200b", "differ in spelling alone"),
        ("P-1", "P\u20111", "differ in spelling alone"),
    ],
)
def test_what_looks_like_one_patient_is_in_one_split(one, other, message, tmp_path):
    text = "slide,patient,split\na.svs,{},train\nb.svs,{},{}\n"
    with pytest.raises(RequestError, match=message):
        read_slides(write_table(tmp_path, text.format(one, other, "test")))
    if one.isdecimal():
        assert len(read_slides(write_table(tmp_path, text.format(one, other, "train")))) == 2


def test_same_patient_in_one_split_or_none_is_fine(tmp_path):
    text = "slide,patient,split\na.svs,p,train\nb.svs,p,train\nc.svs,p,\nd.svs,,val\ne.svs,,test\n"
    assert len(read_slides(write_table(tmp_path, text))) == 5


def test_shared_stems_get_distinct_ids(tmp_path):
    text = "slide\nn/x/s.svs\nm/x/s.svs\ny/s.svs\nalone.svs\ntwo/t.svs\ntwo/t.tif\nA.svs\na/a.svs\n"
    ids = [row.slide_id for row in read_slides(write_table(tmp_path, text))]
    assert ids[:6] == ["n_x_s", "m_x_s", "y_s", "alone", "t_svs", "t_tif"]
    assert ids[7] == "a_a"
    assert len({slide_id.casefold() for slide_id in ids}) == len(ids)


def test_ids_do_not_depend_on_the_order(tmp_path):
    lines = ["n/x/s.svs", "m/x/s.svs", "y/s.svs"]
    forth = {row.path: row.slide_id for row in read_slides(write_table(tmp_path, "\n".join(["slide", *lines])))}
    back = {row.path: row.slide_id for row in read_slides(write_table(tmp_path, "\n".join(["slide", *lines[::-1]])))}
    assert forth == back


def test_lines_that_hold_nothing_are_passed_over_and_a_nul_is_refused(tmp_path):
    table = write_table(tmp_path, "slide,label\n\na.svs,0\n   \nb.svs,1\n,\n , \n")
    assert [row.slide_id for row in read_slides(table)] == ["a", "b"]
    (tmp_path / "copy").mkdir()
    copy_table(table, tmp_path / "copy" / "slides.csv", {"split": ["train", "val"]})
    assert [row.split for row in read_slides(tmp_path / "copy" / "slides.csv")] == ["train", "val"]
    for column in ("slide", "label", "note"):
        line = ",".join("x\0" if name == column else name for name in ("slide", "label", "note"))
        with pytest.raises(RequestError, match=f"line 2: .*{column} holds a NUL|line contains NUL"):
            read_slides(write_table(tmp_path, f"slide,label,note\n{line}\n"))


def test_words_of_a_table(tmp_path):
    table = write_table(tmp_path, "slide,label,patient\na.svs,1.0,NA\nb.svs,nan,7.0\nc.svs, tumor ,p\n")
    assert [(row.label, row.patient) for row in read_slides(table)] == [("1", None), (None, "7"), ("tumor", "p")]


@pytest.mark.parametrize("suffix", [".tsv", ".TXT", ".xlsx"])
def test_a_table_that_is_no_csv(suffix, tmp_path):
    (tmp_path / f"slides{suffix}").write_text("slide\ta\n")
    with pytest.raises(RequestError, match="neither a slide nor a CSV, expected a table as comma-separated UTF-8 text"):
        read_slides(tmp_path / f"slides{suffix}")


def test_class_names_sort_integers_as_numbers_and_names_by_alphabet():
    assert class_names(rows_of("10", "2", None, "2")) == ["2", "10"]
    assert class_names(rows_of("tumour", "normal", "10")) == ["10", "normal", "tumour"]
    assert class_names(rows_of(None)) == []


def test_given_order_wins_and_unknown_labels_are_refused():
    assert class_names(rows_of("normal", "tumour"), ["tumour", "normal", "other"]) == ["tumour", "normal", "other"]
    with pytest.raises(RequestError, match=r"1\.svs: label 'tumor', expected one of normal, tumour"):
        class_names(rows_of("normal", "tumor"), ["normal", "tumour"])
    with pytest.raises(RequestError, match="named twice"):
        class_names(rows_of("a"), ["a", "a"])


def test_label_index():
    first, second, third = rows_of("b", "c", None)
    assert label_index(first, ["a", "b"]) == 1
    with pytest.raises(RequestError, match="label 'c'"):
        label_index(second, ["a", "b"])
    with pytest.raises(RequestError, match="no label"):
        label_index(third, ["a", "b"])


def test_the_column_slide_id_decides(tmp_path):
    rows = read_slides(write_table(tmp_path, "slide,slide_id,site\nx/a.svs, case 7 ,n\ny/a.svs,,m\n"))
    assert [(row.slide_id, row.extra) for row in rows] == [("case 7", {"site": "n"}), ("a", {"site": "m"})]


@pytest.mark.parametrize("slide_id", ["../a", "/a", "a/b", "a\\b", ".", "..", "a" * 251])
def test_a_slide_id_that_names_no_file_is_refused(slide_id, tmp_path):
    with pytest.raises(RequestError, match=r"slides\.csv, line 2: slide_id .*, expected the name of a file"):
        read_slides(write_table(tmp_path, f"slide,slide_id\na.svs,{slide_id}\n"))


def test_a_slide_id_given_twice_is_refused(tmp_path):
    with pytest.raises(RequestError, match=r"b\.svs: slide_id 'X' is that of .*a\.svs too"):
        read_slides(write_table(tmp_path, "slide,slide_id\na.svs,x\nb.svs,X\n"))


def test_a_link_to_a_listed_slide_is_a_duplicate_and_a_loop_is_a_slide(tmp_path):
    (tmp_path / "a.tif").touch()
    (tmp_path / "latest.tif").symlink_to("a.tif")
    (tmp_path / "loop.tif").symlink_to("loop.tif")
    with pytest.raises(RequestError, match=r"line 3: slide .*latest\.tif stands in line 2 already"):
        read_slides(write_table(tmp_path, "slide\na.tif\nlatest.tif\n"))
    assert [row.slide_id for row in read_slides(write_table(tmp_path, "slide\nlatest.tif\nloop.tif\n"))] == [
        "latest",
        "loop",
    ]


def test_a_copy_of_a_table_keeps_ids(tmp_path):
    table = write_table(tmp_path, "slide,label\nx/a.svs,0\ny/a.svs,1\nb.svs,1\n")
    (tmp_path / "far" / "off").mkdir(parents=True)
    copy = tmp_path / "far" / "off" / "slides.csv"
    copy_table(table, copy)
    assert copy.read_text().splitlines()[0] == "slide,label,slide_id"
    lines = copy.read_text().splitlines()
    copy.write_text("\n".join([lines[0], lines[2]]) + "\n")  # whatever is dropped
    assert [row.slide_id for row in read_slides(copy)] == ["y_a"]
    given = write_table(tmp_path, "slide,slide_id\nc.svs,seven\nd.svs,\n")
    copy_table(given, copy, {"split": ["train", "test"]})
    assert [row.slide_id for row in read_slides(copy)] == ["seven", "d"]


def test_a_copy_of_a_table_leads_to_the_same_masks(tmp_path):
    table = write_table(tmp_path, f"slide,mask\nx/a.svs, m/a.png\nx/b.svs,\nx/c.svs,NA\nx/d.svs,{tmp_path / 'd.png'}\n")
    (tmp_path / "copy").mkdir()
    copy_table(table, tmp_path / "copy" / "slides.csv")
    rows = read_slides(tmp_path / "copy" / "slides.csv")
    assert [row.mask and row.mask.resolve() for row in rows] == [
        (tmp_path / "m" / "a.png").resolve(), None, None, (tmp_path / "d.png").resolve()
    ]  # fmt: skip


def test_a_copy_of_a_table_with_plain_names_has_no_more_columns(tmp_path):
    (tmp_path / "copy").mkdir()
    copy_table(write_table(tmp_path, "slide,note\nx/a.svs,n\n"), tmp_path / "copy" / "slides.csv")
    assert (tmp_path / "copy" / "slides.csv").read_text().splitlines() == ["slide,note", "../x/a.svs,n"]
