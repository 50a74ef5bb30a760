import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report.report_files import card_of, predictions_of, write_evaluated, write_inference

from scripts.common.errors import RequestError
from scripts.common.journal import Journal, digests_of
from scripts.common.pseudonyms import Names
from scripts.report.performance import is_part_of, of_cohort, of_evaluation
from scripts.report.results import Inference, read_inference, renamed

CARD = card_of("normal", "tumour")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluated(tmp_path_factory.mktemp("evaluation"), CARD, predictions_of(20))


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures come from tables and scores; to draw the heat maps takes longer than all the rest."""
    monkeypatch.setattr("report.report_files.write_heat_map", lambda folder, view: None)


def inference_of(folder: Path, **options: object) -> Inference:
    options = {"heat_maps": False, **options}
    return read_inference(write_inference(folder, CARD, predictions_of(8, seed=5), **options))  # type: ignore[arg-type]


def test_of_an_evaluation(tmp_path: Path, evaluated: Path) -> None:
    found = of_evaluation(evaluated, inference_of(tmp_path))
    metrics = json.loads((evaluated / "metrics.json").read_text())
    assert found.metrics.to_json() == metrics and len(found.predictions) == 20
    (pair,) = found.curves
    assert pair[0] == "tumour"
    area = np.trapezoid(pair[1].recall, pair[1].false_positive_rate)
    assert area == pytest.approx(metrics["auc"]["value"]), "the curve is that of the scores in predictions.csv"
    right = found.confusion.trace() / found.confusion.sum()
    assert right == pytest.approx(metrics["accuracy"]["value"])
    assert found.confusion[1].sum() == metrics["n_positive"], "rows are labels"
    assert sum(one.slides for one in found.bins) == 20
    assert not found.patients_drawn and found.metrics.bootstrap.drawn.unit == "patient"


def test_the_curve_ranks_slides_that_are_1_after_rounding_as_the_auc_does(tmp_path: Path) -> None:
    sure = [replace(one, probabilities=(10.0**-order, 1.0)) for order, one in enumerate(predictions_of(20), start=20)]
    found = of_evaluation(write_evaluated(tmp_path / "eval", CARD, sure), inference_of(tmp_path / "out"))
    curve = found.curves[0][1]
    assert found.metrics["auc"].value == pytest.approx(np.trapezoid(curve.recall, curve.false_positive_rate))
    assert found.metrics["auc"].value == pytest.approx(0.55), "each positive follows its negative"


def test_an_evaluation_of_the_validation_slides(tmp_path: Path) -> None:
    evaluated = write_evaluated(tmp_path / "eval", CARD, predictions_of(20))
    assert of_evaluation(evaluated, inference_of(tmp_path / "out")).slide_set == "test"
    calibration = json.loads((evaluated / "calibration.json").read_text())
    (evaluated / "calibration.json").write_text(json.dumps({**calibration, "split": "val"}))
    assert of_evaluation(evaluated, inference_of(tmp_path / "out")).slide_set == "validation"


@pytest.mark.parametrize("name", ["metrics.json", "calibration.json", "predictions.csv"])
def test_an_evaluation_that_changed_since_it_was_written(name: str, tmp_path: Path) -> None:
    path = write_evaluated(tmp_path / "eval", CARD, predictions_of(20)) / name
    journal = Journal(path.parent / ".evaluating.outputs.jsonl", "evaluating", {}, {name: digests_of(path)})
    journal.start()
    inference = inference_of(tmp_path / "out")
    with pytest.raises(RequestError, match=rf"{name}: evaluating was stopped or is still at work here"):
        of_evaluation(path.parent, inference)
    journal.finish()
    of_evaluation(path.parent, inference)
    path.write_text(path.read_text() + "\n")
    with pytest.raises(RequestError, match=rf"{name}: changed since it was written, expected what evaluating writes"):
        of_evaluation(path.parent, inference)


def test_an_evaluation_of_slides_without_labels_is_refused(tmp_path: Path) -> None:
    evaluated = write_evaluated(tmp_path / "eval", CARD, predictions_of(20))
    header, first, *others = (evaluated / "predictions.csv").read_text().splitlines()
    name, _, rest = first.split(",", 2)
    (evaluated / "predictions.csv").write_text("\n".join([header, f"{name},,{rest}", *others]) + "\n")
    with pytest.raises(
        RequestError, match=r"predictions\.csv: 1 of 20 slides have no label, expected what evaluating writes"
    ):
        of_evaluation(evaluated, inference_of(tmp_path / "out"))
    (evaluated / "predictions.csv").write_text(f"{header}\n")
    with pytest.raises(RequestError, match=r"0 of 0 slides have no label"):
        of_evaluation(evaluated, inference_of(tmp_path / "out"))


def test_bands_over_patients(tmp_path: Path, evaluated: Path) -> None:
    table = tmp_path / "slides.csv"
    lines = [f"slide_{index:02d}.tif,p{index // 2}" for index in range(20)]
    table.write_text("\n".join(["slide,patient", *lines]))
    assert of_evaluation(evaluated, inference_of(tmp_path / "out"), slides=table).patients_drawn
    table.write_text("slide,patient\nslide_00.tif,p0\n")
    with pytest.raises(RequestError, match="does not list 19 of the 20 predicted slides"):
        of_evaluation(evaluated, inference_of(tmp_path / "out"), slides=table)


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"temperature": 2.0}, "temperature 1.25, expected 2.0"), ({"threshold": 0.5}, "threshold 0.4, expected 0.5")],
)
def test_an_evaluation_of_another_model(
    tmp_path: Path, evaluated: Path, changed: dict[str, float], message: str
) -> None:
    card = card_of("normal", "tumour", **changed)
    inference = read_inference(write_inference(tmp_path, card, predictions_of(3), heat_maps=False))
    with pytest.raises(RequestError, match=f"{message}.*evaluate that model"):
        of_evaluation(evaluated, inference)


def test_an_evaluation_of_other_weights(tmp_path: Path) -> None:
    """Of three classes without a temperature nothing else tells two models apart."""
    plain = {"temperature": 1.0, "temperature_from": None}
    evaluated = write_evaluated(tmp_path / "eval", card_of("a", "b", "c", **plain), predictions_of(30, 3))
    inferences = {
        weights: read_inference(
            write_inference(
                tmp_path / str(weights),
                card_of("a", "b", "c", **plain, weights_sha256=weights),
                predictions_of(3, 3),
                heat_maps=False,
            )
        )
        for weights in ("c0ffee", "decaf", None)
    }
    with pytest.raises(RequestError, match=r"weights_sha256 c0ffee, expected decaf .*evaluate that model"):
        of_evaluation(evaluated, inferences["decaf"])
    for weights in ("c0ffee", None):
        assert of_evaluation(evaluated, inferences[weights]).slide_set == "test"
    calibration = json.loads((evaluated / "calibration.json").read_text())
    assert calibration.pop("weights_sha256") == "c0ffee"
    for older in (calibration, {**calibration, "weights_sha256": None}):
        (evaluated / "calibration.json").write_text(json.dumps(older))
        assert of_evaluation(evaluated, inferences["decaf"]).slide_set == "test"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["bootstrap", "resamples"], 10**12, "resamples 1000000000000: expected a whole number from 1 to 1000000"),
        (["bootstrap", "resamples"], 0, "resamples 0"),
        (["seed"], -1, "seed -1: expected a whole number from 0"),
    ],
)
def test_bands_that_cannot_be_drawn(path: list[str], value: int, said: str, tmp_path: Path) -> None:
    evaluation = write_evaluated(tmp_path / "evaluation", CARD, predictions_of(20))
    content = json.loads((evaluation / "metrics.json").read_text())
    part = content
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    (evaluation / "metrics.json").write_text(json.dumps(content))
    with pytest.raises(RequestError, match=rf"metrics\.json: not metrics .*{said}"):
        of_evaluation(evaluation, inference_of(tmp_path / "out"))


def test_no_evaluation_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"metrics\.json: no such file.*--evaluation_dir"):
        of_evaluation(tmp_path / "nothing", inference_of(tmp_path))


def test_of_a_labelled_cohort(tmp_path: Path) -> None:
    inference = inference_of(tmp_path)
    found = of_cohort(inference)
    assert found is not None
    assert found.metrics.bootstrap.drawn.unit == "patient" and found.patients_drawn, "inference.json knows the patients"
    assert (found.metrics.threshold, found.metrics.threshold_from) == (0.4, "val")
    assert found.confusion.sum() == 8


def test_a_threshold_of_the_command_line(tmp_path: Path) -> None:
    found = of_cohort(inference_of(tmp_path, threshold=0.0))
    assert found is not None
    assert found.metrics.threshold_from == "command line"
    assert found.confusion[:, 0].sum() == 0, "everything is called"


def test_slides_of_the_training_do_not_count(tmp_path: Path) -> None:
    assert of_cohort(inference_of(tmp_path, seen_in="train")) is None


def test_slides_of_patients_of_the_training_do_not_count(tmp_path: Path) -> None:
    """Slide 0 was seen: so slide 1, of its patient, is left out; slide 7 has no patient, as slide 6, which was seen, too."""
    patients = ["p", "p", "q", "q", "r", "r", None, None]
    found = of_cohort(inference_of(tmp_path, seen_in="train", seen=[0, 6], patients=patients))
    assert found is not None
    assert [one.slide_id for one in found.predictions] == [f"slide_{index:02d}" for index in (2, 3, 4, 5, 7)]


def test_labels_of_one_class_or_none(tmp_path: Path) -> None:
    alone = [one for one in predictions_of(6) if one.label == 1]
    assert of_cohort(read_inference(write_inference(tmp_path / "a", CARD, alone, heat_maps=False))) is None
    unlabelled = predictions_of(6, labelled=False)
    assert of_cohort(read_inference(write_inference(tmp_path / "b", CARD, unlabelled, heat_maps=False))) is None


def test_a_cohort_of_slides_of_the_evaluation(tmp_path: Path) -> None:
    same = write_evaluated(tmp_path / "eval", card_of("normal", "tumour", temperature=1.0), predictions_of(20))
    card = card_of("normal", "tumour", temperature=1.0)
    part = read_inference(write_inference(tmp_path / "part", card, predictions_of(20)[:6], heat_maps=False))
    other = read_inference(write_inference(tmp_path / "other", card, predictions_of(6, seed=5), heat_maps=False))
    evaluation = of_evaluation(same, part)
    mine, theirs = of_cohort(part), of_cohort(other)
    assert mine and theirs
    assert is_part_of(mine, evaluation)
    assert not is_part_of(theirs, evaluation), "the names agree, the probabilities do not"


def test_slides_of_the_evaluation_are_found_under_their_salted_ids(tmp_path: Path) -> None:
    card = card_of("normal", "tumour", temperature=1.0)
    same = write_evaluated(tmp_path / "eval", card, predictions_of(20))
    inference = read_inference(write_inference(tmp_path / "part", card, predictions_of(20)[:6], heat_maps=False))
    names, others = (Names(True, tmp_path / f"{name}.key") for name in ("study", "other"))
    salted = renamed(inference, names)
    assert [slide.patient for slide in salted.slides] == [names.patient(f"p{index}") for index in range(6)]
    evaluation, cohort = of_evaluation(same, inference), of_cohort(salted)
    assert cohort and is_part_of(cohort, evaluation, names)
    assert not is_part_of(cohort, evaluation, others) and not is_part_of(cohort, evaluation)


def test_three_classes(tmp_path: Path) -> None:
    found = of_cohort(
        read_inference(write_inference(tmp_path, card_of("a", "b", "c"), predictions_of(9, 3), heat_maps=False))
    )
    assert found is not None
    assert [name for name, _ in found.curves] == ["a", "b", "c"] and found.confusion.shape == (3, 3)


def test_an_evaluation_of_few_slides_has_reasons_and_no_bands(tmp_path: Path) -> None:
    few = write_evaluated(tmp_path / "eval", CARD, predictions_of(4))
    found = of_evaluation(few, inference_of(tmp_path / "out"))
    assert found.auc.endswith("(no interval: 2 patients, expected 10 or more)")
    assert found.curves[0][1].band is None
