from collections import Counter
from pathlib import Path

import pytest
from cohort.empty_files import CAMELYON16_TEST_TUMOUR, touch, write_camelyon16, write_lines

from scripts.cohort.camelyon16 import list_camelyon16
from scripts.cohort.found import Cohort
from scripts.common.errors import RequestError

POSITIVE = len(CAMELYON16_TEST_TUMOUR)


def by_patient(cohort: Cohort) -> dict[str, tuple[str | None, str | None, str]]:
    return {str(row.patient): (row.label, row.split, row.extra["note"]) for row in cohort.rows}


def counts(cohort: Cohort) -> Counter:
    return Counter((row.split, row.label) for row in cohort.rows)


@pytest.mark.parametrize("layout", ["gigadb", "bucket"])
def test_the_set_as_it_is_handed_out(tmp_path: Path, layout: str) -> None:
    """159 normal and 111 tumour slides to train, 129 to test; masks are no slides."""
    cohort = list_camelyon16(write_camelyon16(tmp_path, layout=layout))
    assert counts(cohort) == {
        ("train", "normal"): 159, ("train", "tumor"): 111, ("test", "tumor"): POSITIVE, ("test", "normal"): 129 - POSITIVE,
    }  # fmt: skip
    assert [why for _, why in cohort.left_out] == ["not named as a slide of the set"] * 2
    listed = by_patient(cohort)
    assert len(listed) == 399
    assert listed["test_114"] == ("normal", "test", "outlines not exhaustive")
    assert listed["tumor_010"] == ("tumor", "train", "outlines not exhaustive")
    assert listed["tumor_011"] == listed["tumor_111"] == ("tumor", "train", "")


def test_the_first_release(tmp_path: Path) -> None:
    """Normal_086 is relabelled, Test_049 left out; names with a capital letter."""
    cohort = list_camelyon16(write_camelyon16(tmp_path, layout="first"))
    listed = by_patient(cohort)
    assert listed["normal_086"] == ("tumor", "train", "holds tumour; released again as tumor_111")
    assert [(path.name, why) for path, why in cohort.left_out] == [("Test_049.tif", "duplicate of another slide")]
    assert counts(cohort)["train", "tumor"] == 111
    assert listed["test_001"][0] == "tumor"


def test_the_numbers_of_the_paper(tmp_path: Path) -> None:
    """270 training slides, 110 of them positive, and 130 for validation (IV-A.a)."""
    slides = write_camelyon16(tmp_path, layout="first")
    cohort = list_camelyon16(slides, normal_086="keep", test_049="keep")
    assert counts(cohort)["train", "normal"] == 160
    assert counts(cohort)["train", "tumor"] == 110
    assert sum(row.split == "test" for row in cohort.rows) == 130
    assert by_patient(cohort)["normal_086"] == ("normal", "train", "holds tumour, label of the first release kept")
    assert by_patient(cohort)["test_049"][2] == "duplicate of another slide"


def test_traps_may_be_dropped(tmp_path: Path) -> None:
    cohort = list_camelyon16(write_camelyon16(tmp_path, layout="first"), normal_086="drop", test_114="drop")
    assert not {"normal_086", "test_049", "test_114"} & set(by_patient(cohort))
    assert len(cohort.left_out) == 3


def test_one_slide_under_both_of_its_names(tmp_path: Path) -> None:
    """normal_086 beside tumor_111 would stand twice, on whichever side of a split."""
    slides = touch(write_camelyon16(tmp_path), ["training/normal/normal_086.tif"])
    cohort = list_camelyon16(slides)
    assert "normal_086" not in by_patient(cohort)
    assert "holds tumour; released again as tumor_111" in [why for _, why in cohort.left_out]


def test_second_files_and_short_numbers(tmp_path: Path) -> None:
    slides = touch(tmp_path, ["a/normal_86.tif", "b/normal_086.tif", "b/Tumor_001.tif", "b/.tumor_002.tif"])
    cohort = list_camelyon16(slides)
    assert sorted(by_patient(cohort)) == ["normal_086", "tumor_001"]
    assert [why for _, why in cohort.left_out] == ["second file of one slide"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["test_002,Normal"], r"test_001\.tif: no label.*--reference"),
        (["test_001,Normal,IDC,Macro"], r"reference\.csv: says normal and tumor of test_001"),
        (["test_001,what"], r"says nothing of test_001"),
        (["image,class"], r"no test slide in it, expected lines such as test_001,Tumor"),
    ],
)
def test_labels_that_do_not_serve(tmp_path: Path, lines: list[str], message: str) -> None:
    write_lines(touch(tmp_path, ["test_001.tif"]) / "reference.csv", lines)
    with pytest.raises(RequestError, match=message):
        list_camelyon16(tmp_path)


def test_where_the_labels_are(tmp_path: Path) -> None:
    slides = touch(tmp_path / "slides", ["test_001.tif"])
    with pytest.raises(RequestError, match=r"test_001\.tif: no label, expected a line in reference\.csv: put"):
        list_camelyon16(slides)
    elsewhere = write_lines(tmp_path / "labels" / "mine.csv", ["test_001,Tumor"])
    assert by_patient(list_camelyon16(slides, reference=elsewhere))["test_001"][0] == "tumor"
    with pytest.raises(RequestError, match=r"gone\.csv: no such file.*correct --reference"):
        list_camelyon16(slides, reference=tmp_path / "gone.csv")
    for folder in ("a", "b"):
        write_lines(slides / folder / "reference.csv", ["test_001,Tumor"])
    with pytest.raises(RequestError, match=r"2 tables of labels.*name it with --reference"):
        list_camelyon16(slides)


def test_requests_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such folder"):
        list_camelyon16(tmp_path / "gone")
    with pytest.raises(RequestError, match="no slides, expected files that end in"):
        list_camelyon16(tmp_path)
    touch(tmp_path, ["slide.svs"])
    with pytest.raises(RequestError, match=r"no slide of Camelyon16, expected files such as normal_001\.tif"):
        list_camelyon16(tmp_path)
    with pytest.raises(RequestError, match="test_049 'remove': expected one of drop, keep"):
        list_camelyon16(tmp_path, test_049="remove")
