from pathlib import Path

import pytest

from scripts.common.errors import RequestError
from scripts.evaluation.predictions import Prediction, PredictionTable, read_predictions, write_predictions
from scripts.evaluation.same_slides import aligned, patients_of, require_same_slides


def table(folder: Path, name: str, rows: list[tuple[str, int, float]]) -> PredictionTable:
    predictions = [Prediction(slide_id, label, (1 - p, p), None) for slide_id, label, p in rows]
    write_predictions(folder / name, predictions, class_names=("0", "1"), threshold=0.5)
    return read_predictions(folder / name)


def test_the_order_is_that_of_the_reference_and_labels_must_agree(tmp_path: Path) -> None:
    first = table(tmp_path, "a.csv", [("x", 0, 0.25), ("y", 1, 0.75)])
    second = table(tmp_path, "b.csv", [("y", 1, 0.5), ("x", 0, 0.125)])
    require_same_slides("a.csv", first, "b.csv", second)
    assert aligned(second, ["x", "y"]).probabilities[:, 1].tolist() == [0.125, 0.5]
    for rows, said in (
        ([("x", 0, 0.5)], r"b\.csv: lacks 1 slides that the other file has \(the first is y\)"),
        ([("x", 1, 0.5), ("y", 1, 0.5)], r"b\.csv: slide x has the label 1, in a\.csv 0"),
    ):
        with pytest.raises(RequestError, match=said):
            require_same_slides("a.csv", first, "b.csv", table(tmp_path, "b.csv", rows))


def test_patients_come_from_the_table_of_the_slides(tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_text("slide,patient\nx.tif,p1\ny.tif,\n")
    assert patients_of(tmp_path / "slides.csv", ["y", "x"]) == [None, "p1"]
    with pytest.raises(RequestError, match=r"does not list 1 of the 2 predicted slides \(the first is z\)"):
        patients_of(tmp_path / "slides.csv", ["x", "z"])
