"""Three classes through every stage after encoding: splitting, k folds, comparison, inference."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tiny_flow import ON_CPU, cause_of, read_rows, run_command, run_config
from training.embedding_files import write_embedding, write_table

from scripts.common.errors import RequestError
from scripts.common.files import write_csv, write_json
from scripts.common.outputs import HeldOutputs
from scripts.common.request import options_meant
from scripts.evaluation.folds import FoldSummary, OverFolds
from scripts.studies import cross_validation

NAMES = ("benign", "in situ", "invasive")
NOTHING = {"auc": OverFolds(None, None)}
RECIPE = {"max_epochs": 1, "batch_size": 4, "learning_rate": 1e-3, "device": "cpu", "num_workers": 0}


def run_here(run_id: str, config_files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
    """Run a stage in this process: starting one takes longer than the tiny training."""
    run_config(*[Path(path).name for path in config_files], run_id=run_id, **options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients per class, the first of each with two slides."""
    folder = tmp_path_factory.mktemp("three")
    rows = []
    for index, label in enumerate(NAMES):
        for patient in range(8):
            for copy in range(2 if patient == 0 else 1):
                name = f"c{index}p{patient}s{copy}"
                write_embedding(folder / f"{name}.h5", mean=0.3 * index, seed=len(rows))
                rows.append({"slide": f"{name}.tif", "label": label, "patient": f"c{index}p{patient}"})
    return write_table(folder, rows)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output of two folds; splits lie in ``splits``."""
    root = tmp_path_factory.mktemp("kfold")
    run_config(
        "split.yaml",
        run_id="splitting",
        slides=dataset / "slides.csv",
        output_dir=root / "splits",
        folds=2,
        val_share=0.2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_validation, "run_command", run_here)
        cross_validate(dataset, root)
    return root


def cross_validate(dataset: Path, root: Path, **options: Any) -> None:
    arguments = {"folds": root / "splits", "dataset_dir": dataset, "output_dir": root / "out", **RECIPE, **options}
    run_config("kfold.yaml", run_id="cross_validating", **arguments)


def test_every_slide_is_predicted_by_a_network_that_never_saw_it(dataset: Path, run: Path) -> None:
    pooled = read_rows(run / "out" / "predictions.csv")
    labels = {Path(row["slide"]).stem: row["label"] for row in read_rows(dataset / "slides.csv")}
    assert {row["slide_id"]: row["label"] for row in pooled} == labels
    assert list(pooled[0]) == [
        "slide_id",
        "label",
        "predicted",
        *(f"p_{name}" for name in NAMES),
        "stream_score",
        "threshold",
    ]
    assert {row["threshold"] for row in pooled} == {""}
    for fold in ("fold0", "fold1"):
        tested = {
            Path(row["slide"]).stem for row in read_rows(run / "splits" / f"{fold}.csv") if row["split"] == "test"
        }
        assert {row["slide_id"] for row in read_rows(run / "out" / fold / "predictions.csv")} == tested
        card = json.loads((run / "out" / fold / "model.json").read_text())
        assert (card["class_names"], card["threshold"], card["threshold_from"]) == (list(NAMES), None, None)
        assert card["temperature"] > 0
        assert (run / "out" / fold / "reliability.png").is_file()
        assert "\nDecision: highest probability. Intervals" in (run / "out" / fold / "report.md").read_text()


def test_figures(run: Path) -> None:
    metrics = json.loads((run / "out" / "metrics.json").read_text())
    assert metrics["bootstrap"]["unit"] == "patient"
    assert (metrics["n_positive"], metrics["threshold"]) == (None, None)
    assert 0 <= metrics["auc"]["ci95"][0] <= metrics["auc"]["value"] <= metrics["auc"]["ci95"][1] <= 1
    folds = json.loads((run / "out" / "folds.json").read_text())
    assert len(folds["folds"]) == 2 and folds["auc"]["mean"] is not None


def test_comparison(dataset: Path, run: Path, tmp_path: Path) -> None:
    """Of the pooled predictions with a copy in another order, in which every second slide is right."""
    pooled = run / "out" / "predictions.csv"
    rows = read_rows(pooled)
    columns, before = list(rows[0]), auc_of(rows)
    for row in rows[::2]:
        row |= {"predicted": row["label"]} | {f"p_{name}": "0.8" if name == row["label"] else "0.1" for name in NAMES}
    better = tmp_path / "better.csv"
    write_csv(better, columns, reversed(rows))
    gain = auc_of(rows) - before
    assert gain > 0.1
    for first, second, sign in ((pooled, better, 1), (better, pooled, -1)):
        report = compared(dataset, first, second, tmp_path / f"{sign}")
        assert (report["slides"], report["patients"], report["delong"]) == (27, 24, None)
        difference = report["auc"]["difference"]
        assert difference["value"] == pytest.approx(sign * gain)
        assert difference["ci95"][0] < sign * gain < difference["ci95"][1]
        assert min(sign * end for end in difference["ci95"]) > 0 and difference["p"] < 0.05
    same = compared(dataset, pooled, pooled, tmp_path / "same")
    assert same["auc"]["difference"] == {"value": 0.0, "ci95": [0.0, 0.0], "p": 1.0}
    rows = [{"slide": row["slide"], "label": row["label"]} for row in read_rows(dataset / "slides.csv")]
    write_csv(tmp_path / "slides.csv", ["slide", "label"], rows)
    nobody = compared(tmp_path, pooled, pooled, tmp_path / "nobody")
    assert (nobody["slides"], nobody["patients"], nobody["bootstrap"]["unit"]) == (27, None, "slide")


def compared(dataset: Path, first: Path, second: Path, output: Path) -> dict[str, Any]:
    options = {"first": first, "second": second, "slides": dataset / "slides.csv", "output_dir": output}
    run_config("compare.yaml", run_id="comparing", **options)
    return json.loads((output / "comparison.json").read_text())


def auc_of(rows: Sequence[Mapping[str, str]]) -> float:
    """Mean of one class against the rest."""
    return float(np.mean([
        roc_auc_score([row["label"] == name for row in rows], [float(row[f"p_{name}"]) for row in rows]) for name in NAMES
    ]))  # fmt: skip


def test_inference(dataset: Path, run: Path, tmp_path: Path) -> None:
    model = run / "out" / "fold1" / "model.pt"
    options = {"dataset_dir": dataset, "output_dir": tmp_path, "model": model, "heat_maps": False, **ON_CPU}
    run_config("inference.yaml", run_id="inference", **options)
    inferred = {row["slide_id"]: row for row in read_rows(tmp_path / "predictions.csv")}
    assert len(inferred) == 27
    for row in read_rows(run / "out" / "fold1" / "predictions.csv"):
        assert inferred[row["slide_id"]] == row


def test_folds_that_are_done_are_kept(dataset: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(cross_validation, "run_command", lambda run_id, files, options: started.append(run_id))
    before = (run / "out" / "folds.json").read_bytes()
    cross_validate(dataset, run)
    assert started == []
    assert (run / "out" / "folds.json").read_bytes() == before


def test_another_request_is_refused(dataset: Path, run: Path) -> None:
    for options, what in (
        ({"max_epochs": 2}, "options#max_epochs"),
        ({"seed": 1}, "seed"),
        ({"more": {"loss#balance": True}}, "options#loss#balance"),
    ):
        with pytest.raises(RuntimeError) as caught:
            cross_validate(dataset, run, **options)
        assert f"{what} was " in str(cause_of(caught.value))


def test_a_stopped_fold_goes_on(dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was stopped in its first epoch, or before its evaluation: the training is resumed."""
    calls = []

    def stop(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
        calls.append((run_id, options.get("resume", False)))
        raise RequestError("stopped")

    monkeypatch.setattr(cross_validation, "run_command", stop)
    for expected in (False, True):
        with pytest.raises(RuntimeError):
            cross_validate(dataset, run, output_dir=tmp_path)
        assert calls[-1] == ("training", expected)
        with HeldOutputs(tmp_path / "fold0" / "log", "training", {}):
            write_json(tmp_path / "fold0" / "log" / "last.pt", {})


def test_folds_that_are_none(dataset: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        cross_validate(dataset, run, folds=tmp_path, output_dir=tmp_path / "out")
    assert "0 files fold<i>.csv, expected two or more" in str(cause_of(caught.value))
    for name in ("fold0.csv", "fold1.csv"):
        (tmp_path / name).write_bytes((run / "splits" / "fold0.csv").read_bytes())
    with pytest.raises(RuntimeError) as caught:
        cross_validate(dataset, run, folds=tmp_path, output_dir=tmp_path / "out")
    assert "fold1.csv: slide c0p" in str(cause_of(caught.value)) and "as in fold0.csv" in str(cause_of(caught.value))
    for second, message in (
        ("x.tif,benign,p,train\ny.tif,benign,,val\n", "slide y is tested in no fold"),
        (
            "x.tif,benign,p,train\n",
            "fold1.csv: slide y does not stand in it with the label and the patient of fold0.csv",
        ),
        (
            "x.tif,benign,q,train\ny.tif,benign,,val\n",
            "fold1.csv: slide x does not stand in it with the label and the patient",
        ),
    ):
        for name, lines in (("fold0.csv", "x.tif,benign,p,test\ny.tif,benign,,train\n"), ("fold1.csv", second)):
            (tmp_path / name).write_text("slide,label,patient,split\n" + lines)
        with pytest.raises(RuntimeError) as caught:
            cross_validate(dataset, run, folds=tmp_path, output_dir=tmp_path / "out")
        assert message in str(cause_of(caught.value))
    assert not (tmp_path / "out").exists()


def test_embeddings_made_anew_are_another_request(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_only(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
        with HeldOutputs(tmp_path / "out" / "fold0" / "log", "training", {}):
            write_json(tmp_path / "out" / "fold0" / "log" / "last.pt", {})
        raise RequestError("stopped")

    monkeypatch.setattr(cross_validation, "run_command", train_only)
    copied = shutil.copytree(dataset, tmp_path / "data")
    for expected in ("stopped", "another request (content#fold0.csv#dataset_sha256 was "):
        with pytest.raises(RuntimeError) as caught:
            cross_validate(copied, run, output_dir=tmp_path / "out")
        assert expected in str(cause_of(caught.value))
        write_embedding(copied / "c0p1s0.h5", seed=99)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"more": {"ballance": True}}, "unknown option --ballance, the nearest known one is --loss#balance"),
        ({"more": {"model": "mine.pt"}}, "option model: the study sets it for every run"),
        ({"overlays": ["recomended.yaml"]}, "overlays recomended.yaml: no such file"),
    ],
)
def test_what_no_fold_could_be_trained_with_is_refused_before_any(
    dataset: Path, run: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        cross_validate(dataset, run, output_dir=tmp_path / "out", **options)
    assert message in str(cause_of(caught.value))
    assert not (tmp_path / "out").exists()


def test_slides_without_embedding_are_refused_with_the_option_as_a_study_takes_it(
    dataset: Path, run: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(dataset, tmp_path / "data")
    (copied / "c0p1s0.h5").unlink()
    with pytest.raises(RuntimeError) as caught:
        cross_validate(copied, run, output_dir=tmp_path / "out")
    assert "1 of 27 slides have no embedding" in str(cause_of(caught.value))
    assert str(cause_of(caught.value)).endswith("; options of the training go into --more \"{'name': value}\"")


def test_a_refused_request_ends_in_one_line(dataset: Path, run: Path, tmp_path: Path) -> None:
    options = {
        "folds": run / "splits",
        "dataset_dir": dataset,
        "output_dir": tmp_path / "out",
        "overlays": "nosuch.yaml",
    }
    result = run_command("cross_validating", "kfold.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: overlays nosuch.yaml: no such file")


def test_each_command_is_given_the_options_that_it_takes(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is of the network alone goes to the training; ``more`` overrides the options of that name, and null is a value."""
    given: dict[str, dict[str, Any]] = {}

    def keep(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> int:
        options_meant([str(file) for file in files], {name: _typed(value) for name, value in options.items()})
        given[run_id] = {"files": [Path(file).name for file in files], **options}
        return run_id == "evaluating"

    monkeypatch.setattr(cross_validation, "run_command", keep)
    more = {"network_def#dropout": 0.1, "evaluated#share": None, "max_epochs": 5, "cache_memory#gib": 1}
    with pytest.raises(RuntimeError):
        cross_validate(dataset, run, output_dir=tmp_path / "out", more=more, overlays=["recommended.yaml"])
    training, evaluating = given["training"], given["evaluating"]
    assert (training["files"], training["max_epochs"]) == (["train.yaml", "recommended.yaml"], 5)
    assert training["network_def#dropout"] == 0.1 and training["evaluated#share"] is None
    assert not {"network_def#dropout", "evaluated#share"} & evaluating.keys()
    assert evaluating["cache_memory#gib"] == training["cache_memory#gib"] == 1
    assert evaluating["files"][-1] == "evaluate.yaml"


def _typed(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def test_slides_are_called_in_the_summary_as_in_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two folders have a slide of one name, so that their embeddings were called ``a_01`` and ``b_01``; a fold lists one of them."""
    for index, folder in enumerate(("a", "b")):
        for slide in range(2):
            write_embedding(tmp_path / "data" / f"{folder}_0{slide}.h5", seed=2 * index + slide)
    (tmp_path / "data" / "slides.csv").write_text("")
    for fold in range(2):
        rows = [
            f"{tmp_path}/a/0{slide}.tif,{slide},p{slide},{'test' if slide == fold else 'train'}" for slide in range(2)
        ]
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / f"fold{fold}.csv").write_text("\n".join(["slide,label,patient,split", *rows, ""]))
    manifest = [f"a_0{slide},{tmp_path}/a/0{slide}.tif,done" for slide in range(2)]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(["slide_id,slide,status", *manifest, ""]))
    patients: dict[str, str | None] = {}
    monkeypatch.setattr(cross_validation, "run_command", lambda run_id, files, options: 0)
    monkeypatch.setattr(
        cross_validation,
        "summarise_folds",
        lambda folders, output, *, patient_of, seed: patients.update(patient_of) or FoldSummary((), NOTHING),
    )
    cross_validate(tmp_path / "data", tmp_path)
    assert patients == {"a_00": "p0", "a_01": "p1"}


def test_a_refused_command_may_be_corrected(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one trained nothing, so its options bind nobody."""
    for options in ({"more": {"val_interval": 5}}, {}):

        def refuse(run_id: str, files: Sequence[str | Path], given: Mapping[str, Any]) -> None:
            raise RequestError(f"val_interval {given.get('val_interval')} in a fold")

        monkeypatch.setattr(cross_validation, "run_command", refuse)
        with pytest.raises(RuntimeError) as caught:
            cross_validate(dataset, run, output_dir=tmp_path / "out", **options)
        assert f"val_interval {options.get('more', {}).get('val_interval')} in a fold" in str(cause_of(caught.value))
    assert not list((tmp_path / "out").glob("[!.]*"))
