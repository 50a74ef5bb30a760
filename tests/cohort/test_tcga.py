from collections import Counter
from pathlib import Path

import pytest
from cohort.empty_files import tcga_name, touch, write_tcga

from scripts.cohort.tcga import list_tcga
from scripts.common.errors import RequestError

UUID = "1838afb1-9eee-4a70-9ae3-50e3ab45e242"


def test_frozen_sections(tmp_path: Path) -> None:
    cohort = list_tcga(write_tcga(tmp_path))
    assert Counter((row.label, row.extra["section"]) for row in cohort.rows) == {
        ("tumor", "frozen top"): 40,
        ("normal", "frozen top"): 20,
        ("tumor", "frozen bottom"): 8,
    }
    assert Counter(why for _, why in cohort.left_out) == {"diagnostic section": 40}
    row = next(row for row in cohort.rows if row.extra["barcode"] == "TCGA-23-0001-11A-01-TS1")
    assert (row.patient, row.split) == ("TCGA-23-0001", None)
    assert row.extra == {
        "section": "frozen top", "sample_type": "11", "site": "23", "barcode": "TCGA-23-0001-11A-01-TS1",
    }  # fmt: skip


def test_diagnostic_and_any(tmp_path: Path) -> None:
    write_tcga(tmp_path)
    assert {row.label for row in list_tcga(tmp_path, section="diagnostic").rows} == {"tumor"}
    assert len(list_tcga(tmp_path, section="any").rows) == 108


@pytest.mark.parametrize(
    ("name", "barcode", "label", "section"),
    [
        (f"TCGA-CV-7242-11A-01-TS1.{UUID}.svs", "TCGA-CV-7242-11A-01-TS1", "normal", "frozen top"),
        ("tcga-cr-7395-01a-01-ts1.svs", "TCGA-CR-7395-01A-01-TS1", "tumor", "frozen top"),
        (f"TCGA-A1-A0SJ-01A-01-BSA.{UUID}.svs", "TCGA-A1-A0SJ-01A-01-BSA", "tumor", "frozen bottom"),
        (f"TCGA-33-4533-01A-02-MSB.{UUID}.svs", "TCGA-33-4533-01A-02-MSB", "tumor", "frozen middle"),
        (f"TCGA-22-5473-01Z-00-DX1.{UUID}.svs", "TCGA-22-5473-01Z-00-DX1", "tumor", "diagnostic"),
    ],
)
def test_names(tmp_path: Path, name: str, barcode: str, label: str, section: str) -> None:
    (row,) = list_tcga(touch(tmp_path, [name]), section="any").rows
    assert (row.extra["barcode"], row.label, row.extra["section"]) == (barcode, label, section)
    assert row.patient == barcode[:12]


def test_what_is_left_out(tmp_path: Path) -> None:
    """Recurrences and metastases, a second file of one barcode, and whatever has another name."""
    names = [tcga_name(1), tcga_name(1, copy=1), tcga_name(2, "02A"), tcga_name(3, "06A"), "x/CMU-1.svs"]
    cohort = list_tcga(touch(tmp_path, [*names, "y/TCGA-22-0001-01A-01-TS1.svs.partial"]))
    assert [row.path.relative_to(tmp_path).as_posix() for row in cohort.rows] == [names[0]]
    assert sorted(why for _, why in cohort.left_out) == [
        "name is no TCGA slide barcode",
        "sample type 02, neither 01 nor 11",
        "sample type 06, neither 01 nor 11",
        "second file of one barcode",
    ]


def test_requests_that_are_wrong(tmp_path: Path) -> None:
    touch(tmp_path, [tcga_name(1, "01Z", "DX1")])
    with pytest.raises(RequestError, match="no frozen slide of TCGA, expected files such as TCGA-22-0944"):
        list_tcga(tmp_path)
    with pytest.raises(RequestError, match="section 'ffpe': expected one of frozen, diagnostic, any"):
        list_tcga(tmp_path, section="ffpe")
