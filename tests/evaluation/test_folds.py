import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scripts.common.errors import RequestError
from scripts.common.files import write_json
from scripts.evaluation.bootstrap import evaluate
from scripts.evaluation.folds import summarise_folds
from scripts.evaluation.predictions import Prediction, read_predictions, write_predictions


def write_folds(
    root: Path,
    *,
    folds: int = 3,
    slides: int = 20,
    classes: int = 2,
    default: tuple[int, ...] = (),
    fitted: bool = True,
) -> list[Path]:
    rng = np.random.default_rng(0)
    folders = []
    for fold in range(folds):
        labels = np.arange(slides) % classes
        logits = np.eye(classes)[labels] + rng.normal(size=(slides, classes))
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        threshold = (0.5 if fold in default else 0.3 + 0.1 * fold) if classes == 2 else None
        rows = [Prediction(f"f{fold}s{i}", int(labels[i]), tuple(map(float, p[i])), 0.5) for i in range(slides)]
        folder = root / f"fold{fold}"
        names = [str(index) for index in range(classes)]
        write_predictions(folder / "predictions.csv", rows, class_names=names, threshold=threshold)
        write_json(
            folder / "metrics.json",
            evaluate(
                labels,
                p,
                threshold=threshold,
                threshold_from=None if classes > 2 else "default" if fold in default else "val",
                resamples=10,
            ).to_json(),
        )
        fitted_on = "val" if fitted and fold not in default else None
        write_json(folder / "calibration.json", {"temperature": 1.0, "fitted_on": fitted_on})
        folders.append(folder)
    return folders


def patients(folds: int = 3, slides: int = 20) -> dict[str, str | None]:
    return {f"f{fold}s{i}": f"p{fold}-{i // 2}" for fold in range(folds) for i in range(slides)}


@pytest.mark.parametrize("classes", [2, 3])
def test_summary(tmp_path: Path, classes: int) -> None:
    folders = write_folds(tmp_path, classes=classes)
    report = summarise_folds(folders, tmp_path, patient_of=patients(), seed=4).to_json()
    aucs = [json.loads((folder / "metrics.json").read_text())["auc"]["value"] for folder in folders]
    assert [fold["auc"] for fold in report["folds"]] == aucs
    assert report["auc"] == {"mean": pytest.approx(np.mean(aucs)), "sd": pytest.approx(np.std(aucs, ddof=1))}
    assert report == json.loads((tmp_path / "folds.json").read_text())

    table = read_predictions(tmp_path / "predictions.csv")
    assert len(table.predictions) == 60
    labels = [prediction.label for prediction in table.predictions]
    scores = np.array([prediction.probabilities for prediction in table.predictions])
    pooled = json.loads((tmp_path / "metrics.json").read_text())
    expected = roc_auc_score(labels, scores[:, 1] if classes == 2 else scores, multi_class="ovr")
    assert pooled["auc"]["value"] == pytest.approx(expected)
    assert (pooled["bootstrap"]["unit"], pooled["seed"]) == ("patient", 4)
    # every fold is decided by its own threshold, so the pooled accuracy is the mean of theirs
    assert pooled["accuracy"]["value"] == pytest.approx(report["accuracy"]["mean"])
    if classes == 2:
        assert table.thresholds == tuple(np.repeat([0.3, 0.4, 0.5], 20))
        assert pooled["threshold"] is None
    assert pooled["threshold_from"] == ("val of each fold" if classes == 2 else None)
    assert [fold["threshold_from"] for fold in report["folds"]] == ["val" if classes == 2 else None] * 3
    text = (tmp_path / "report.md").read_text()
    assert "default" not in text and "No temperature" not in text
    assert [fold["temperature_from"] for fold in report["folds"]] == ["val"] * 3
    assert f"| auc | {aucs[0]:.3f} |" in text and "over patients" in text
    assert ("each decided by its fold's threshold" in text, "Epoch and temperature of each" in text) == (
        classes == 2,
        classes == 3,
    )


@pytest.mark.parametrize(
    ("default", "pooled", "said"),
    [
        ((1,), "val or default of each fold", "the validation slides of fold1 better than chance"),
        ((0, 2), "val or default of each fold", "the validation slides of fold0, fold2 better than chance"),
        ((0, 1, 2), "default of each fold", "the validation slides of fold0, fold1, fold2 better than chance"),
    ],
)
def test_folds_at_the_default_threshold(tmp_path: Path, default: tuple[int, ...], pooled: str, said: str) -> None:
    report = summarise_folds(write_folds(tmp_path, default=default), tmp_path, patient_of=patients()).to_json()
    expected = ["default" if fold in default else "val" for fold in range(3)]
    assert [fold["threshold_from"] for fold in report["folds"]] == expected
    assert json.loads((tmp_path / "metrics.json").read_text())["threshold_from"] == pooled
    text = (tmp_path / "report.md").read_text()
    assert f"No threshold parted {said}: there the threshold is the default, 0.500." in text
    names = ", ".join(f"fold{fold}" for fold in default)
    assert f"No temperature was fitted in {names}: probabilities there are not calibrated." in text
    assert ("Epoch and threshold of each fold come from" in text) == (default == (0, 1, 2))
    assert ("Epoch, temperature and threshold of each fold come from" in text) == (default != (0, 1, 2))


def test_folds_of_three_classes_without_a_temperature(tmp_path: Path) -> None:
    summarise_folds(write_folds(tmp_path, classes=3, fitted=False), tmp_path, patient_of=patients())
    text = (tmp_path / "report.md").read_text()
    assert "Epoch of each fold comes from its own validation slides. No temperature was fitted in fold0, fold1" in text


def test_an_undefined_figure_has_no_mean(tmp_path: Path) -> None:
    folders = write_folds(tmp_path)
    figures = json.loads((folders[1] / "metrics.json").read_text())
    write_json(folders[1] / "metrics.json", {**figures, "precision": {"value": None, "ci95": [None, None]}})
    report = summarise_folds(folders, tmp_path, patient_of=patients()).to_json()
    assert report["precision"] == {"mean": None, "sd": None}
    assert "| precision |" in (tmp_path / "report.md").read_text()


def test_a_slide_tested_twice_is_refused(tmp_path: Path) -> None:
    folders = write_folds(tmp_path)
    with pytest.raises(RequestError, match="slide f0s0 was tested in two folds"):
        summarise_folds([*folders, folders[0]], tmp_path, patient_of=patients())


def test_folds_of_few_patients(tmp_path: Path) -> None:
    folders = write_folds(tmp_path, folds=2, slides=8)
    summarise_folds(folders, tmp_path, patient_of=patients(2, 8))
    text = (tmp_path / "report.md").read_text()
    assert "(no interval) | 1," in text or "(no interval) | 2,000 |" in text
    assert "(8 patients, expected 10 or more)." in text
