import json
import shutil
from pathlib import Path

import pytest
from report.report_files import card_of, predictions_of, write_inference

from scripts.common.errors import RequestError
from scripts.common.journal import Journal, digests_of
from scripts.report.results import read_inference


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("left")
    return write_inference(folder, card_of("normal", "tumour"), predictions_of(3), failed="broken")


@pytest.fixture
def written(left: Path, tmp_path: Path) -> Path:
    """What inference left, for a test to change."""
    return shutil.copytree(left, tmp_path, dirs_exist_ok=True)


def test_what_inference_left(written: Path) -> None:
    inference = read_inference(written)
    assert [slide.slide_id for slide in inference.slides] == ["slide_00", "slide_01", "slide_02"]
    assert inference.others == (("broken", "failed", "damaged"),)
    first = inference.slides[0]
    assert first.predicted == int(first.prediction.probabilities[1] >= 0.4) and first.threshold == 0.4
    assert first.tissue["patches"] == 6 * 8 - 1 and (first.patient, first.seen_in) == ("p0", None)
    assert inference.card.weights_sha256 == "c0ffee"


def test_without_heat_maps_whose_a_slide_is_and_where_it_was_seen_are_known(tmp_path: Path) -> None:
    write_inference(tmp_path, card_of("normal", "tumour"), predictions_of(2), heat_maps=False, seen_in="val")
    slide = read_inference(tmp_path).slides[0]
    assert (slide.scores, slide.tissue, slide.patient, slide.seen_in) == (None, {}, "p0", "val")


@pytest.mark.parametrize("origin", [None, {}, {"patient": "p1"}, {"patient": 3, "seen_in": None}])
def test_a_slide_whose_origin_is_not_told(written: Path, origin: object) -> None:
    """As in what an earlier version wrote of all slides."""
    run = json.loads((written / "inference.json").read_text())
    run["slides"] = {"slide_00": run["slides"]["slide_00"], "slide_02": run["slides"]["slide_02"]}
    run["slides"] |= {} if origin is None else {"slide_01": origin}
    (written / "inference.json").write_text(json.dumps(run))
    with pytest.raises(RequestError, match=r"inference\.json, slide slide_01: .*run it anew with this version"):
        read_inference(written)
    del run["slides"]
    (written / "inference.json").write_text(json.dumps(run))
    with pytest.raises(RequestError, match=r"inference\.json: has no slides, .*run it anew with this version"):
        read_inference(written)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("predictions.csv", None, r"predictions\.csv: no such file.*run the evaluation or inference first"),
        ("inference.json", None, r"inference\.json: no such file.*expected what inference writes"),
        ("inference.json", "{", r"inference\.json: not JSON"),
        ("inference.json", "[]", r"inference\.json: a list, expected"),
        (
            "inference.json",
            '{"format": "other"}',
            r"format 'other', expected 'dsnet-inference/1', what inference writes",
        ),
        ("inference.json", '{"format": "dsnet-inference/1"}', r"inference\.json: has no threshold"),
        ("slide_01/scores.json", '{"format": "x"}', r"slide_01/scores\.json: format 'x'"),
        ("slide_01/scores.json", '{"format": "dsnet-scores/1", "slide": 3}', r"slide_01/scores\.json: slide is '3'"),
        ("slide_01/scores.json", "[" * 100_000, r"slide_01/scores\.json: not JSON \(RecursionError"),
    ],
)
def test_a_file_that_is_missing_or_wrong(written: Path, name: str, content: str | None, message: str) -> None:
    (written / name).unlink(missing_ok=True)
    if content is not None:
        (written / name).write_text(content)
    with pytest.raises(RequestError, match=message):
        read_inference(written)


@pytest.mark.parametrize("name", ["inference.json", "predictions.csv", "slide_01/scores.json"])
def test_a_file_that_changed_since_it_was_written(written: Path, name: str) -> None:
    path = written / name
    journal = Journal(written / ".inference.outputs.jsonl", "inference", {}, {name: digests_of(path)})
    journal.start()
    journal.finish()
    read_inference(written)
    path.write_text(path.read_text() + "\n")
    with pytest.raises(RequestError, match=rf"{name}: changed since it was written, expected what inference writes"):
        read_inference(written)
    path.rename(path.with_name("elsewhere"))
    if name.endswith("scores.json"):  # which a report can be without
        with pytest.raises(RequestError, match=rf"{name}: gone since it was written, expected what inference writes"):
            read_inference(written)
    path.with_name("elsewhere").rename(path)
    journal.path.unlink()
    assert len(read_inference(written).slides) == 3, "without the record of the stage a file is taken as it is"


@pytest.mark.parametrize("name", ["inference.json", "predictions.csv", "slide_01/scores.json"])
def test_a_run_that_was_stopped_or_is_at_work(written: Path, name: str) -> None:
    journal = Journal(written / ".inference.outputs.jsonl", "inference", {}, {name: digests_of(written / name)})
    journal.start()
    with pytest.raises(RequestError, match=rf"{name}: inference was stopped or is still at work here.*run it anew"):
        read_inference(written)
    journal.finish()
    assert len(read_inference(written).slides) == 3


def test_heat_maps_of_an_earlier_run_are_none_of_this_one(written: Path) -> None:
    """Nor are they looked at: those of before may have been edited, or be gone."""
    assert all(slide.scores for slide in read_inference(written).slides)
    names = ("slide_00/scores.json", "slide_01/scores.json")
    journal = Journal(written / ".inference.outputs.jsonl", "inference", {}, dict.fromkeys(names, ("0",)))
    journal.start()
    journal.finish()
    (written / "slide_01" / "scores.json").unlink()
    write_inference(written, card_of("normal", "tumour"), predictions_of(3), heat_maps=False)
    assert [slide.scores for slide in read_inference(written).slides] == [None] * 3


@pytest.mark.parametrize("found", [None, [], {}, {"status": "failed"}, {"status": "failed", "error": 3}])
def test_a_slide_of_which_it_is_not_told_why_it_was_not_predicted(written: Path, found: object) -> None:
    run = json.loads((written / "inference.json").read_text())
    (written / "inference.json").write_text(json.dumps(run | {"not_predicted": {"broken": found}}))
    with pytest.raises(RequestError, match=r"inference\.json, slide broken: .*run it anew with this version"):
        read_inference(written)


def test_files_of_two_runs(written: Path) -> None:
    run = json.loads((written / "inference.json").read_text())
    run["card"]["class_names"] = ["tumour", "normal"]
    (written / "inference.json").write_text(json.dumps(run))
    with pytest.raises(
        RequestError, match=r"predictions\.csv has the classes normal, tumour, inference\.json tumour, normal"
    ):
        read_inference(written)


def test_no_folder_given() -> None:
    with pytest.raises(RequestError, match="--predictions_dir"):
        read_inference(None)
