from pathlib import Path

import numpy as np
import pytest

from scripts.common.errors import RequestError, SlideError
from scripts.evaluation.bootstrap import evaluate
from scripts.evaluation.predictions import (
    Prediction,
    PredictionTable,
    read_predictions,
    require_finite,
    write_predictions,
)

NAMES = ("normal", "tumour, any")


def some() -> tuple[Prediction, ...]:
    third = float(np.float32(1 / 3))
    return (
        Prediction("a", 1, (1 - third, third), 0.123456789012345),
        Prediction("b", 0, (0.9, 0.1), None),
        Prediction("c", None, (1e-9, 1 - 1e-9), 1.0),
    )


def write(path: Path) -> Path:
    write_predictions(path, some(), class_names=NAMES, threshold=0.3)
    return path


def test_header_and_decisions(tmp_path: Path) -> None:
    lines = write(tmp_path / "predictions.csv").read_text().splitlines()
    assert lines[0] == 'slide_id,label,predicted,p_normal,"p_tumour, any",stream_score,threshold'
    assert lines[1].startswith('a,"tumour, any","tumour, any",')
    assert lines[2] == "b,normal,normal,0.9,0.1,,0.3"
    assert lines[3].startswith('c,,"tumour, any",1e-09,')


def test_every_digit_comes_back(tmp_path: Path) -> None:
    assert read_predictions(write(tmp_path / "p.csv")) == PredictionTable(some(), NAMES, (0.3, 0.3, 0.3))


def test_more_classes_have_no_threshold(tmp_path: Path) -> None:
    rows = (Prediction("a", 2, (0.2, 0.5, 0.3), 0.5),)
    write_predictions(tmp_path / "p.csv", rows, class_names="012", threshold=None)
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == "a,2,1,0.2,0.5,0.3,0.5,"
    assert read_predictions(tmp_path / "p.csv") == PredictionTable(rows, ("0", "1", "2"), None)


def test_every_slide_may_have_its_own_threshold(tmp_path: Path) -> None:
    write_predictions(tmp_path / "p.csv", some(), class_names=NAMES, threshold=[0.3, 0.05, 0.5])
    table = read_predictions(tmp_path / "p.csv")
    assert table.thresholds == (0.3, 0.05, 0.5)
    assert (tmp_path / "p.csv").read_text().splitlines()[2] == 'b,normal,"tumour, any",0.9,0.1,,0.05'


def test_a_label_that_is_no_class_is_kept_where_it_may_be_one(tmp_path: Path) -> None:
    rows = (Prediction("a", None, (0.9, 0.1), 0.5, other_label="Normal"), Prediction("b", None, (0.9, 0.1), 0.5))
    write_predictions(tmp_path / "p.csv", rows, class_names=("normal", "tumour"), threshold=0.5)
    assert (tmp_path / "p.csv").read_text().splitlines()[1] == "a,Normal,normal,0.9,0.1,0.5,0.5"
    assert read_predictions(tmp_path / "p.csv", other_labels=True).predictions == rows
    with pytest.raises(RequestError, match=r"line 2: label 'Normal'; expected .*normal, tumour"):
        read_predictions(tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text()
    (tmp_path / "p.csv").write_text(text.replace("Normal", "Nor\0al"))
    with pytest.raises(RequestError, match=r"line 2: label 'Nor\\x00al'"):
        read_predictions(tmp_path / "p.csv", other_labels=True)


def test_a_table_saved_by_a_spreadsheet(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv")
    text = path.read_text()
    path.write_text(text, encoding="utf-8-sig")
    assert len(read_predictions(path).predictions) == 3
    path.write_text(text.replace(",", ";"))
    with pytest.raises(RequestError, match=r"p\.csv: separated by semicolons, expected commas"):
        read_predictions(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no such file"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("p_normal", "normal", "columns are .*expected slide_id"),
        ("stream_score,", "", "columns are"),
        ('"p_tumour, any"', "p_normal", "column p_normal is there 2 times"),
        ("b,normal", "b,healthy", "line 3: .*normal, tumour, any"),
        (",0.9,", ",high,", "line 3: .*high"),
        ("0.9,0.1,,0.3", "0.9", "line 3: "),
        ("\nb,", "\na,", "line 3: slide a a second time"),
        ("0.1,,0.3", "0.1,,", "2 of 3 slides have a threshold, expected 3"),
    ],
)
def test_damaged_table_is_refused_by_name(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = write(tmp_path / "p.csv")
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(RequestError, match=message) as error:
        read_predictions(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("number", ["nan", "inf", "-0.1", "1.5"])
def test_a_probability_that_is_none(tmp_path: Path, number: str) -> None:
    path = write(tmp_path / "predictions.csv")
    path.write_text(path.read_text().replace("0.9,", f"{number},"))
    with pytest.raises(RequestError, match=r"predictions\.csv, line 3: probabilities that are NaN or beyond 0 to 1"):
        read_predictions(path)


def test_a_probability_beyond_1_by_rounding_is_1(tmp_path: Path) -> None:
    path = write(tmp_path / "predictions.csv")
    path.write_text(path.read_text().replace("0.9,0.1", "1.0000005,0.0"))
    table = read_predictions(path)
    assert table.predictions[1].probabilities == (1.0, 0.0)
    labelled = [one for one in table.predictions if one.label is not None]
    evaluate(
        [one.label for one in labelled], [one.probabilities for one in labelled], threshold=0.3, threshold_from=None
    )


@pytest.mark.parametrize("name", ["../b", "/etc/b", "..", "", "a\\b"])
def test_a_name_that_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / "predictions.csv")
    path.write_text(path.read_text().replace("\nb,", f"\n{name},"))
    with pytest.raises(RequestError, match=r"predictions\.csv, line 3: slide_id"):
        read_predictions(path)


def test_nan_is_not_counted() -> None:
    bad = Prediction("x", 0, (float("nan"), float("nan")), 0.5)
    with pytest.raises(SlideError, match=r"1 of 4 slides have the probability NaN \(x\)"):
        require_finite([*some(), bad])
