import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from inference.heat_map_views import view_of
from localisation.mapped_slides import Cohort, mapped, spot
from monai.metrics import compute_froc_curve_data, compute_froc_score
from PIL import Image
from report.report_files import card_of
from tiny_flow import read_rows, run_config
from training.embedding_files import STEP_PX

from scripts.common.errors import RequestError, SlideError
from scripts.common.journal import Journal, digests_of
from scripts.evaluation.score_interval import wilson
from scripts.inference.exports import write_nifti, write_observed
from scripts.inference.record import SlideOrigin, write_run
from scripts.localisation.localisation_run import localise, summarise
from scripts.localisation.scores import Calls, score_slide

SHAPE = (8, 9)
LESION = spot(SHAPE, (1, 1), side=2)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    """Three positives (hit; missed; hit but not called) and a negative."""
    made = Cohort(tmp_path)
    made.add("hit", heat=spot(SHAPE, (2, 2)), lesion=LESION, label=1, probability=0.9)
    made.add("missed", heat=spot(SHAPE, (6, 6)) + 0.8 * spot(SHAPE, (1, 1)), lesion=LESION, label=1, probability=0.8)
    made.add("not_called", heat=spot(SHAPE, (1, 2)), lesion=LESION, label=1, probability=0.2)
    made.add("negative", heat=spot(SHAPE, (4, 4)), lesion=None, label=0, probability=0.3)
    return made


def run(options: dict[str, Any], output: Path, **more: Any) -> dict[str, Any]:
    return localise(output_dir=output, resamples=50, **options, **more)


def test_figures_that_can_be_counted_by_hand(cohort: Cohort, tmp_path: Path) -> None:
    report = run(cohort.finish(), tmp_path / "out")
    assert report == json.loads((tmp_path / "out" / "localisation.json").read_text())
    assert [report[name] for name in ("slides", "positive", "correctly_called", "lesions")] == [4, 3, 2, 3]
    assert report["hit_rate"]["value"] == 0.5
    assert report["hit_rate"]["slides"] == 2
    assert report["hit_rate"]["chance"] == pytest.approx(4 / 72)
    assert report["hit_rate_all_positives"]["value"] == pytest.approx(2 / 3)
    # scores: hit .9; missed .8 beside, .64 in the lesion; not called .2; negative .3
    assert report["lesion_hit_rate"]["value"] == pytest.approx(2 / 3)
    assert report["lesion_hit_rate"]["false_positives_a_slide"] == 0.25
    # 2/3 of the lesions from 1/4 a slide on; the challenge's code never counts the detection of lowest score, here the third
    expected = {"0.25": 2 / 3, **dict.fromkeys(["0.5", "1", "2", "4", "8"], 1.0)}
    assert report["froc"]["sensitivity"] == pytest.approx(expected)
    assert report["dice_pooled"]["value"] == pytest.approx(2 * 2 / (3 + 12))
    drawn = report["bootstrap"]
    assert (drawn["resamples"], drawn["unit"], drawn["units"]) == (50, "patient", 4)
    assert report["hit_rate"]["ci95"] == [None, None]
    assert drawn["no_interval"]["hit_rate"] == "4 patients, expected 10 or more"
    assert set(drawn["used"]) == set(drawn["no_interval"]) and drawn["used"]["dice_pooled"] == 50


def test_the_table_and_the_picture(cohort: Cohort, tmp_path: Path) -> None:
    run(cohort.finish(), tmp_path / "out")
    rows = {row["slide_id"]: row for row in read_rows(tmp_path / "out" / "localisation.csv")}
    assert [rows[name]["hit"] for name in ("hit", "missed", "not_called", "negative")] == ["1", "0", "1", ""]
    assert [rows[name]["called"] for name in ("hit", "not_called")] == ["1", "0"]
    assert (rows["missed"]["lesions"], rows["missed"]["lesions_hit"], rows["missed"]["false_detections"]) == (
        "1",
        "1",
        "1",
    )
    with Image.open(tmp_path / "out" / "froc.png") as image:
        assert image.size[0] > 300
    names = sorted(path.name for path in (tmp_path / "out").glob("[!.]*"))
    assert names == ["froc.png", "localisation.csv", "localisation.json"]


def test_froc_is_monais_on_all_slides() -> None:
    """Against MONAI's functions fed by hand, and slides that count twice as slides that are there twice."""
    rng = np.random.default_rng(0)
    slides = [mapped(rng.random(SHAPE), rng.random(SHAPE) < (0.05 if index % 2 else 0)) for index in range(12)]
    scores = [score_slide(one, kind="probability", calls=Calls(nms_cells=3)) for one in slides]
    summary = summarise(scores, resamples=20, seed=0)
    report = summary.to_json()
    false, true = (np.concatenate([one.detections[part] for one in scores]) for part in (0, 1))
    expected = compute_froc_curve_data(np.append(false, 0.0), true, len(true), 12)
    for found, wanted in zip(summary.curve, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert report["froc"]["value"] == pytest.approx(compute_froc_score(*expected))
    assert np.mean(list(report["froc"]["sensitivity"].values())) == pytest.approx(report["froc"]["value"])
    doubled = summarise(scores * 2, resamples=20, seed=0)
    assert doubled.figures["froc"].value == pytest.approx(report["froc"]["value"])
    low, high = report["froc"]["ci95"]
    assert low < report["froc"]["value"] < high


def test_froc_of_a_map_that_finds_all_and_nothing_else_is_1() -> None:
    slides = [mapped(heat, heat > 0) for heat in (spot(SHAPE, (1, 1)), np.zeros(SHAPE)) for _ in range(8)]
    scores = [score_slide(one, kind="probability", calls=Calls()) for one in slides]
    froc = summarise(scores, resamples=20, seed=0).figures["froc"]
    assert (froc.value, froc.ci95) == (1, (1, 1))


def test_the_same_seed_gives_the_same_intervals(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    first, again, other = (run(options, tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first == again
    assert first["froc"]["value"] == other["froc"]["value"]


def test_a_segmentations_scores_are_its_map(cohort: Cohort, tmp_path: Path) -> None:
    report = run(cohort.finish(), tmp_path / "out", kind="probability")
    assert report["lesion_hit_rate"]["value"] == 1
    assert report["lesion_hit_rate"]["false_positives_a_slide"] == 0.5


def test_only_the_split_and_only_what_can_be_scored(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cohort.add("other_split", heat=spot(SHAPE, (1, 1)), lesion=LESION, label=1, probability=0.9, split="val")
    cohort.add("no_mask", heat=spot(SHAPE, (1, 1)), lesion=None, label=1, probability=0.9)
    cohort.add("no_label", heat=spot(SHAPE, (1, 1)), lesion=LESION, label=None, probability=0.9)
    options = cohort.finish()
    assert run(options, tmp_path / "all")["slides"] == 5
    assert "1 slides without a label, 1 positive ones without a mask" in caplog.text
    assert run(options, tmp_path / "test", split="test")["slides"] == 4
    assert run(options, tmp_path / "val", split="val")["hit_rate"]["value"] == 1


def test_masks_without_a_lesion_cell_are_told(cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort.add("empty", heat=spot(SHAPE, (1, 1)), lesion=np.zeros_like(LESION), label=1, probability=0.9)
    assert run(cohort.finish(), tmp_path / "out")["positive"] == 4
    assert "1 of 4 positive slides have a mask without a lesion cell" in caplog.text


def test_lesions_that_were_not_observed_are_missed(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One in the box of V, one beyond it, and one of which a cell was observed."""
    options = cohort.finish()
    before = run(options, tmp_path / "before")
    lesion = np.zeros((12, 15))
    lesion[6:8, 6:8] = lesion[10:12, 12:15] = lesion[1:3, 1:3] = 1
    observed = np.ones(SHAPE, dtype=bool)
    observed[6:8, 6:8] = observed[1, 1:3] = observed[2, 1] = False
    cohort.add("lost", heat=spot(SHAPE, (2, 2)), lesion=lesion, label=1, probability=0.9, observed=observed)
    after = run(cohort.finish(), tmp_path / "after")
    assert [before[name] for name in ("lesions", "unobserved_lesions")] == [3, 0]
    assert [after[name] for name in ("lesions", "unobserved_lesions")] == [6, 2]
    assert before["lesion_hit_rate"]["value"] == pytest.approx(2 / 3)
    assert after["lesion_hit_rate"]["value"] == pytest.approx(3 / 6)
    assert max(after["froc"]["sensitivity"].values()) == pytest.approx(4 / 6)
    rows = {row["slide_id"]: row for row in read_rows(tmp_path / "after" / "localisation.csv")}
    assert [rows["lost"][name] for name in ("lesions", "unobserved_lesions", "lesions_hit", "lesion_cells", "dice")] == [
        "3", "2", "1", "1", "1",
    ]  # fmt: skip
    assert "2 lesions of 1 slides have no observed patch and count as missed" in caplog.text


def test_a_cohort_of_which_no_lesion_was_observed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lost = Cohort(tmp_path)
    observed = LESION == 0
    lost.add("lost", heat=np.zeros(SHAPE), lesion=LESION, label=1, probability=0.9, observed=observed)
    report = run(lost.finish(), tmp_path / "out")
    assert [report[name]["value"] for name in ("froc", "lesion_hit_rate", "hit_rate")] == [0, 0, 0]
    assert [report[name]["value"] for name in ("cell_auc", "dice", "dice_pooled")] == [None, None, None]
    assert report["best_threshold"]["dice_pooled"] == 0
    assert "1 lesions of 1 slides" in caplog.text and "without a lesion cell" not in caplog.text


def test_hit_rates_have_wilsons_interval() -> None:
    """All 24 lesions of 12 slides are found: of slides that are all alike it is not known how much theirs have in common."""
    lesion = spot(SHAPE, (1, 1), (5, 6))
    scores = [score_slide(mapped(lesion, lesion), kind="probability", calls=Calls(nms_cells=1)) for _ in range(12)]
    found = summarise(scores, resamples=20, seed=0).figures
    for name in ("hit_rate", "hit_rate_all_positives", "lesion_hit_rate"):
        assert (found[name].value, found[name].ci95) == (1, pytest.approx(wilson(1, 12)))


def test_the_stage(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    run_config("localise.yaml", run_id="localising", output_dir=tmp_path / "out", resamples=50, **options)
    assert json.loads((tmp_path / "out" / "localisation.json").read_text()) == run(options, tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "heat"}, "map 'heat': expected one of cam, probability"),
        ({"split": "tset"}, "split 'tset': expected one of"),
        (
            {"split": "train"},
            r"none of its 4 slides \(hit, .*\) is in .*slides\.csv in split 'train'; .*their split with --split",
        ),
        ({"lesion_from": 256}, "none of 4 slides has a lesion cell.*--masks"),
    ],
)
def test_a_wrong_request(cohort: Cohort, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        run(cohort.finish(), tmp_path / "out", **change)
    assert not (tmp_path / "out").exists()


def test_a_threshold_that_is_none() -> None:
    with pytest.raises(RequestError, match=r"threshold 1\.7: expected a number from 0 to 1"):
        Calls(threshold=1.7)
    with pytest.raises(RequestError, match=r"threshold 0\.1 is under lowest 0\.2, .* correct --threshold or --lowest"):
        Calls(threshold=0.1, lowest=0.2)


def test_no_detection_hits_no_lesion_whatever_the_threshold(cohort: Cohort, tmp_path: Path) -> None:
    report = run(cohort.finish(), tmp_path / "out", calls=Calls(threshold=0.0, lowest=0.0))
    assert report["lesion_hit_rate"]["value"] == 1  # all three have one
    cold = Cohort(tmp_path / "cold")
    cold.add("cold", heat=np.zeros(SHAPE), lesion=LESION, label=1, probability=0.9)
    report = run(cold.finish(), tmp_path / "none", calls=Calls(threshold=0.0, lowest=0.0))
    assert report["lesion_hit_rate"]["value"] == 0
    assert read_rows(tmp_path / "none" / "localisation.csv")[0]["lesions_hit"] == "0"


def test_predictions_that_changed_since_inference_wrote_them(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    path = cohort.predictions / "predictions.csv"
    journal = Journal(path.parent / ".inference.outputs.jsonl", "inference", {}, {path.name: digests_of(path)})
    journal.start()
    journal.finish()
    path.write_text(path.read_text().replace("0.9", "0.8"))
    with pytest.raises(RequestError, match=r"predictions\.csv: changed since it was written, expected what inference"):
        run(options, tmp_path / "out")


def test_a_heat_map_of_another_grid_or_none(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    maps = cohort.predictions
    kept = (maps / "hit" / "cam.nii.gz").read_bytes()
    (maps / "hit" / "cam.nii.gz").write_bytes(b"junk")
    with pytest.raises(SlideError, match="not a readable heat map"):
        run(options, tmp_path / "out")
    (maps / "hit" / "cam.nii.gz").unlink()
    with pytest.raises(
        SlideError, match=r"1 slides cannot be scored: .*hit/cam\.nii\.gz: no such file.*manifest\.csv says why"
    ):
        run(options, tmp_path / "out")
    (maps / "hit" / "cam.nii.gz").write_bytes(kept)
    Cohort(tmp_path / "b").add("hit", heat=np.ones((3, 4)), lesion=None, label=1, probability=0.9)
    (maps / "hit" / "observed.png").write_bytes((tmp_path / "b" / "predictions" / "hit" / "observed.png").read_bytes())
    with pytest.raises(SlideError, match="8 x 9 cells or a place that are not the embedding's"):
        run(options, tmp_path / "out")


@pytest.mark.parametrize(
    ("mpp", "origin_xy_px", "fits"), [(0.5, (0, 0), True), (0.5, (STEP_PX, 0), False), (None, (0, 9), False)]
)
def test_a_heat_map_in_mm_of_an_embedding_without_resolution(
    cohort: Cohort, tmp_path: Path, mpp: float | None, origin_xy_px: tuple[int, int], fits: bool
) -> None:
    """Inference took it from table or slide; the place in pixels is that of the embedding all the same."""
    mpp_xy = None if mpp is None else (mpp, mpp)
    view = view_of(np.ones(SHAPE, dtype=np.float32), origin_xy_px=origin_xy_px, patch_px_level0=STEP_PX, mpp_xy=mpp_xy)
    write_nifti(cohort.predictions / "hit" / "cam.nii.gz", view)
    with nullcontext() if fits else pytest.raises(SlideError, match="or a place that are not the embedding's"):
        assert run(cohort.finish(), tmp_path / "out")["slides"] == 4


def test_predictions_without_any_heat_map(cohort: Cohort, tmp_path: Path) -> None:
    for path in cohort.predictions.glob("*/cam.nii.gz"):
        path.unlink()
    with pytest.raises(RequestError, match=r"none of 4 slides has a heat map.*run inference with --heat_maps true"):
        run(cohort.finish(), tmp_path / "out")


def say(cohort: Cohort, heat_map: str, class_shown: str = "1", *, of: str = "*") -> None:
    """Say what the maps are, as inference does beside them."""
    said = {"format": "dsnet-scores/1", "class_shown": class_shown, "heat_map": heat_map}
    for folder in cohort.predictions.glob(of):
        (folder / "scores.json").write_text(json.dumps(said))


@pytest.mark.parametrize(
    ("heat_map", "kind"),
    [
        ("Patch map", "probability"),
        ("Lesion map", "probability"),
        ("Grad-CAM", "cam"),
        ("LayerCAM", "cam"),
        ("Attention", "cam"),
    ],
)
def test_maps_are_scored_as_what_they_are(cohort: Cohort, tmp_path: Path, heat_map: str, kind: str) -> None:
    say(cohort, heat_map, of="missed")
    options, other = cohort.finish(), "cam" if kind == "probability" else "probability"
    assert run(options, tmp_path / "out", kind=kind)["map"] == kind
    assert run(options, tmp_path / "found")["map"] == kind
    with pytest.raises(
        RequestError, match=rf"missed/scores\.json: .* a {heat_map}, expected .* --map {other}: give --map {kind}$"
    ):
        run(options, tmp_path / "other", kind=other)
    assert not (tmp_path / "other").exists()


def test_maps_of_the_class_without_lesions_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    say(cohort, "Grad-CAM")
    run(cohort.finish(), tmp_path / "out")
    say(cohort, "Grad-CAM", "0", of="not_called")
    with pytest.raises(
        RequestError, match=r"not_called/scores\.json: the heat map is of class 0, expected 1, .*#target_class$"
    ):
        run(cohort.finish(), tmp_path / "other")


def test_a_table_that_inference_does_not_write(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    table = (cohort.dataset / "slides.csv").rename(tmp_path / "table.csv")
    with pytest.raises(RequestError, match=r"slides\.csv: no such file, .*inference does not: name it with --slides$"):
        run(options, tmp_path / "out")
    assert run(options, tmp_path / "out", slides=table)["slides"] == 4


def test_predicted_slides_that_are_not_in_the_table(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options, table = cohort.finish(), tmp_path / "table.csv"
    lines = (cohort.dataset / "slides.csv").read_text().splitlines()
    table.write_text("\n".join(lines[:3]))
    assert run(options, tmp_path / "out", slides=table)["slides"] == 2
    assert "2 of 4 predicted slides that are not in" in caplog.text and "not_called" not in caplog.text
    table.write_text(f"{lines[0]}\nelse.tif,1,test,p\n")
    with pytest.raises(
        RequestError, match=r"none of its 4 slides \(hit, missed, .*\) is in .*table\.csv; .*name it with --slides$"
    ):
        run(options, tmp_path / "other", slides=table)


def write_record(cohort: Cohort, origins: dict[str, SlideOrigin], *, mapped: set[str]) -> None:
    """Write what inference records of its slides."""
    path = cohort.predictions / "inference.json"
    write_run(path, card=card_of("0", "1"), threshold=0.5, settings={}, slides=origins, mapped=mapped)


def test_maps_of_an_earlier_run_are_not_scored(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    origins = dict.fromkeys(("hit", "missed", "not_called", "negative"), SlideOrigin(None, None))
    write_record(cohort, origins, mapped={"hit", "negative"})
    with pytest.raises(
        SlideError, match=r"2 slides cannot be scored: .*missed: no heat map of the run that wrote .*not_called"
    ):
        run(options, tmp_path / "out")


def test_slides_that_the_model_met_are_told_and_counted(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = cohort.finish()
    assert run(options, tmp_path / "unknown")["seen_in_training"] is None
    splits = {"hit": "train", "missed": None, "not_called": "val", "negative": None}
    for met, number in ((splits, 2), (dict.fromkeys(splits), 0)):
        caplog.clear()
        origins = {name: SlideOrigin(None, split) for name, split in met.items()}
        write_record(cohort, origins, mapped=set(origins))
        assert run(options, tmp_path / f"out{number}")["seen_in_training"] == number
        told = [one for one in caplog.messages if "when the model was trained" in one]
        assert [one.partition(" were")[0] for one in told] == ["2 of 4 slides"] * (number > 0)


def test_slides_with_salted_ids_are_refused(cohort: Cohort, tmp_path: Path) -> None:
    options, said = cohort.finish(), cohort.predictions / "inference.json"
    said.write_text(json.dumps({"settings": {"anonymise": False}, "slides": {}}))
    run(options, tmp_path / "out")
    said.write_text(json.dumps({"settings": {"anonymise": True}}))
    with pytest.raises(
        RequestError, match=r"inference\.json: slides have salted ids.*run inference without --anonymise"
    ):
        run(options, tmp_path / "other")


def test_slides_are_called_as_their_embeddings(cohort: Cohort, tmp_path: Path) -> None:
    """A slide whose id took the name of its folder, in a table that has no slide of that name besides."""
    cohort.add("b_hit", heat=spot(SHAPE, (2, 2)), lesion=LESION, label=1, probability=0.9)
    options, table = cohort.finish(), tmp_path / "table.csv"
    (cohort.dataset / "manifest.csv").write_text(f"slide_id,slide\nb_hit,{tmp_path / 'b' / 'hit.tif'}\n")
    table.write_text("slide,label\nb/hit.tif,1\n")
    run(options, tmp_path / "out", slides=table)
    assert [row["slide_id"] for row in read_rows(tmp_path / "out" / "localisation.csv")] == ["b_hit"]


def test_a_heat_map_that_is_not_finite(cohort: Cohort, tmp_path: Path) -> None:
    cohort.add("nan", heat=spot(SHAPE, (2, 2)), lesion=LESION, label=1, probability=0.9)
    path = cohort.predictions / "nan" / "cam.nii.gz"
    volume = nibabel.load(path)
    heat = volume.get_fdata(dtype=np.float32)
    heat[4, 4] = np.nan
    nibabel.save(nibabel.Nifti1Image(heat, volume.affine), path)
    with pytest.raises(SlideError, match=r"nan/cam\.nii\.gz: NaN or infinite where patches were observed"):
        run(cohort.finish(), tmp_path / "out")


@pytest.mark.parametrize("heat_there", [np.nan, 5.0])
def test_where_no_patch_was_observed_the_map_does_not_count(cohort: Cohort, tmp_path: Path, heat_there: float) -> None:
    options = cohort.finish()
    expected = run(options, tmp_path / "whole")
    observed = np.ones(SHAPE, dtype=bool)
    observed[7, 8] = False
    write_observed(cohort.predictions / "hit" / "observed.png", observed)
    path = cohort.predictions / "hit" / "cam.nii.gz"
    volume = nibabel.load(path)
    heat = volume.get_fdata(dtype=np.float32)
    heat[8, 7] = heat_there
    nibabel.save(nibabel.Nifti1Image(heat, volume.affine), path)
    found = run(options, tmp_path / "part")
    for name in ("hit_rate_all_positives", "lesion_hit_rate", "froc", "dice_pooled"):
        assert found[name].get("value") == expected[name].get("value") and found[name].get("sensitivity") == expected[
            name
        ].get("sensitivity"), name


def test_all_slides_that_cannot_be_scored_are_named(cohort: Cohort, tmp_path: Path) -> None:
    options = cohort.finish()
    (cohort.dataset / "hit.h5").write_text("text")
    (cohort.predictions / "missed" / "observed.png").write_text("text")
    with pytest.raises(SlideError, match=r"2 slides cannot be scored: .*hit\.h5: .*missed/cam\.nii\.gz: ") as error:
        run(options, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()
