import re

import pytest

from scripts.common.errors import RequestError
from scripts.slides.columns import near_misses, require_header, require_slide_columns


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("Patient", "patient"),
        ("PATIENT ID", "patient"),
        ("patient_id", "patient"),
        ("PatientID", "patient"),
        ("case_id", "patient"),
        ("subject", "patient"),
        ("pateint", "patient"),
        ("patients", "patient"),
        ("Label", "label"),
        ("labels", "label"),
        ("lable", "label"),
        ("Pat-Nr", "patient"),
        ("Patientennummer", "patient"),
        ("MRN", "patient"),
        ("record_id", "patient"),
        ("study_id", "patient"),
        ("pt_id", "patient"),
        ("Pt. No.", "patient"),
        ("subject_no", "patient"),
        ("subject_nr", "patient"),
        ("case_nr", "patient"),
        ("NHS number", "patient"),
        ("hospital_number", "patient"),
        ("Patient ID (pseudonym)", "patient"),
        ("Patient (pseudonym)", "patient"),
        ("pateint [pseudonym]", "patient"),
        ("Label (tumour/normal)", "label"),
        ("pixel size (µm)", "mpp"),
        ("class", "label"),
        ("Split", "split"),
        ("spilt", "split"),
        ("subset", "split"),
        ("MPP", "mpp"),
        ("mpp_x", "mpp"),
        ("um/px", "mpp"),
        ("µm/px", "mpp"),
        ("pixel size", "mpp"),
        ("Slide", "slide"),
        ("Slide ID", "slide_id"),
        ("slideid", "slide_id"),
        ("Mask", "mask"),
    ],
)
def test_a_near_miss_is_refused_with_the_right_name(name: str, ours: str) -> None:
    assert near_misses(["slide", name]) == [(name, ours)]
    with pytest.raises(
        RequestError, match=rf"^t\.csv: column {re.escape(name)}, expected {ours}, the name that is read: rename it"
    ):
        require_slide_columns(["slide", name], "t.csv")


@pytest.mark.parametrize(
    "name",
    [
        "stain", "site", "side", "stage", "section", "centre", "note", "barcode", "sample_type", "patient_age", "patient_sex", "age", "lab",
        "level", "scanner", "magnification", "labelled_by", "label_source", "dataset", "fold", "diagnosis", "", "pn_stage",
        "plate", "shape", "study", "site_id", "hospital_id", "(pseudonym)", "stain (patient)",
    ],
)  # fmt: skip
def test_another_column_is_harmless(name: str) -> None:
    require_slide_columns(["slide", name], "t.csv")


@pytest.mark.parametrize("name", ["patient_id", "case_id", "pateint", "study_id", "Patient (old)"])
def test_a_synonym_beside_ours_is_kept_but_another_spelling_of_ours_is_not(name: str) -> None:
    require_slide_columns(["slide", "patient", name], "t.csv")
    with pytest.raises(RequestError, match="column Patient, expected patient"):
        require_slide_columns(["slide", "patient", "Patient"], "t.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["path", "label"], "columns path, label, expected slide among them: rename path to slide"),
        (["Slide", "Label"], "columns Slide, Label, expected slide among them: rename Slide to slide"),
        (["case_id", "slide_id", "label"], "expected slide among them: rename slide_id to slide"),
        (["# made by hand"], "columns # made by hand, expected slide among them: add a header with the column slide"),
        (["Cohort 2024", "", ""], "columns Cohort 2024, expected slide among them: add a header"),
        (["slide", "label", "label"], "column label is there 2 times, expected each name once"),
        (["slide", "note", "note"], "column note is there 2 times"),
        (["slide", "label", "", ""], "2 columns have no name, expected each name once"),
        (["slide;label"], "separated by semicolons, expected commas"),
        (["sep=;"], "separated by semicolons, expected commas"),
        (["slide\tlabel"], "separated by tabs, expected commas"),
        (["slide|label"], "separated by bars, expected commas"),
    ],
)
def test_a_header_that_does_not_serve(header: list[str], message: str) -> None:
    with pytest.raises(RequestError, match=f"^t.csv: .*{message}"):
        require_slide_columns(header, "t.csv")


def test_an_empty_header_has_no_column_twice() -> None:
    require_header([], "t.csv")
