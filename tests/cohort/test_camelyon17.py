from collections import Counter
from pathlib import Path

import pytest
from cohort.empty_files import touch, write_camelyon17, write_lines

from scripts.cohort.camelyon17 import list_camelyon17
from scripts.common.errors import RequestError


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_camelyon17(tmp_path_factory.mktemp("camelyon17"))


def test_two_classes(slides: Path) -> None:
    """Of a patient with odd number the nodes are twice negative, itc, micro and macro."""
    cohort = list_camelyon17(slides)
    assert Counter(row.label for row in cohort.rows) == {"normal": 350, "tumor": 150}
    assert {row.split for row in cohort.rows} == {None}
    row = next(row for row in cohort.rows if row.path.stem == "patient_041_node_2")
    assert (row.patient, row.label) == ("patient_041", "tumor")
    assert row.extra == {"centre": "2", "stage": "itc", "pn_stage": "pN1"}
    assert Counter(why for _, why in cohort.left_out) == {"no label: test set": 2, "not named as a slide of the set": 1}


def test_isolated_tumour_cells(slides: Path) -> None:
    normal, dropped = (list_camelyon17(slides, itc=itc) for itc in ("normal", "drop"))
    assert Counter(row.label for row in normal.rows) == {"normal": 400, "tumor": 100}
    assert Counter(row.label for row in dropped.rows) == {"normal": 350, "tumor": 100}
    assert ("isolated tumour cells alone") in [why for _, why in dropped.left_out]


def test_four_classes(slides: Path) -> None:
    labels = Counter(row.label for row in list_camelyon17(slides, labels="stages").rows)
    assert labels == {"negative": 350, "itc": 50, "micro": 50, "macro": 50}


def test_the_buckets_table(tmp_path: Path) -> None:
    """stages.csv, with a column for the centre."""
    touch(tmp_path, ["images/patient_099_node_4.tif", "copy/patient_099_node_4.tif"])
    write_lines(tmp_path / "stages.csv", ["patient,stage,center", "patient_099_node_4.tif,macro,4"])
    cohort = list_camelyon17(tmp_path)
    assert cohort.rows[0].extra == {"centre": "4", "stage": "macro", "pn_stage": ""}
    assert [why for _, why in cohort.left_out] == ["second file of one slide"]


def test_requests_that_are_wrong(tmp_path: Path) -> None:
    touch(tmp_path, ["patient_000_node_0.tif"])
    with pytest.raises(RequestError, match=r"no stage_labels\.csv in it"):
        list_camelyon17(tmp_path)
    write_lines(tmp_path / "stage_labels.csv", ["patient_000_node_0.tif,large"])
    with pytest.raises(RequestError, match=r"stage 'large' of patient_000_node_0, expected one of negative"):
        list_camelyon17(tmp_path)
    write_lines(tmp_path / "stage_labels.csv", ["patient_001_node_0.tif,macro"])
    with pytest.raises(RequestError, match="no labelled slide of Camelyon17"):
        list_camelyon17(tmp_path)
    with pytest.raises(RequestError, match="itc 'lost': expected one of tumor, normal, drop"):
        list_camelyon17(tmp_path, itc="lost")
