import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from opened_files import count_opens
from tiny_flow import BUNDLE, ON_CPU, SMALL_NETWORK, cause_of, last_weights, read_rows, run_config
from training.embedding_files import CHANNELS, write_dataset, write_embedding, write_foreign, write_table
from training.event_log import read_log

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.evaluation.calibration import calibrated, fit_temperature
from scripts.evaluation.metrics import choose_threshold
from scripts.training.card import load_model, read_card
from scripts.training.predicting import PredictionCollector


def train(dataset: Path, output: Path, **options: Any) -> ConfigWorkflow:
    defaults = {"max_epochs": 2, "batch_size": 2, "learning_rate": 1e-3, **ON_CPU}
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "model.pt"}
    return run_config("train.yaml", run_id="training", **folders, **defaults | options)


def evaluate(dataset: Path, output: Path, **options: Any) -> dict[str, Any]:
    folders = {"dataset_dir": dataset, "output_dir": output / "eval", "model": output / "model.pt"}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", **folders, **ON_CPU, **options)
    return json.loads((output / "eval" / "metrics.json").read_text())


def infer(dataset: Path, output: Path) -> None:
    folders = {"dataset_dir": dataset, "output_dir": output / "out", "model": output / "model.pt"}
    run_config("inference.yaml", run_id="inference", **folders, **ON_CPU)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of two epochs with seed 0."""
    output = tmp_path_factory.mktemp("trained")
    train(dataset, output)
    return output


def test_the_same_seed_gives_the_same_weights(dataset: Path, trained: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path / "again", seed=0)
    train(dataset, tmp_path / "other", seed=1)
    first, again, other = (last_weights(output) for output in (trained, tmp_path / "again", tmp_path / "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    changed = [name for name in first if first[name].dim() > 1 and not torch.equal(first[name], other[name])]
    assert len(changed) > 10


@pytest.mark.parametrize("root", [".", "~/bundle"])
def test_the_same_seed_gives_the_same_weights_from_another_folder(
    root: str, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(BUNDLE.parent))
    for name in ("first", "again"):
        train(dataset, tmp_path / name, bundle_root=root, max_epochs=1, **SMALL_NETWORK)
    first, again = (last_weights(tmp_path / name) for name in ("first", "again"))
    assert all(torch.equal(first[name], again[name]) for name in first)


OF_LISTS = ("train#handlers#3", "train#handlers#5", "validate#handlers#0")
"""Count of masks, picture of a slide, TensorBoard's figures of the validation."""


def test_a_handler_may_be_disabled(dataset: Path, tmp_path: Path) -> None:
    """By an overlay, with MONAI's ``_disabled_``."""
    handlers = ["checkpointing", "standardise", "early_stopping", *OF_LISTS]
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("".join(f"{handler}#_disabled_: true\n" for handler in handlers), encoding="utf-8")
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "log", "model": tmp_path / "model.pt", "max_epochs": 1}
    run_config("train.yaml", str(overlay), run_id="training", **options, **SMALL_NETWORK, **ON_CPU)
    log = read_log(tmp_path / "log")
    assert "train_loss" in log.Tags()["scalars"]
    assert "val_auc" not in log.Tags()["scalars"] and log.Tags()["images"] == []


def test_the_card_comes_from_the_validation_slides_alone(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """The card can be made again by hand from the saved weights and the validation slides."""
    card = read_card(trained / "model.pt")
    stage = run_config(
        "train.yaml",
        "evaluate.yaml",
        run_id="evaluating",
        dataset_dir=dataset,
        model=trained / "model.pt",
        output_dir=tmp_path,
        **{"validate#split": "val"},
        **ON_CPU,
    )
    predictions = stage.parser.get_parsed_content("validate#collector").predictions
    labels = [prediction.label for prediction in predictions]
    assert labels == [0, 1, 0, 1]
    raw = [prediction.probabilities for prediction in predictions]
    assert card.temperature == fit_temperature(labels, raw)
    assert card.threshold == choose_threshold(labels, calibrated(raw, card.temperature)[:, 1])
    assert card.threshold_from in ("val", "default")  # four slides: whether it separates them is chance
    assert card.validation["slides"] == 4
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert card.validation["auc"] == metrics["auc"]
    assert json.loads((tmp_path / "calibration.json").read_text())["split"] == "val"
    report = (tmp_path / "report.md").read_text()
    assert "on 4 slides of the split val" in report and "are no estimate for new slides" in report


def test_labels_of_the_test_slides_change_nothing_but_their_figures(trained: Path, tmp_path: Path) -> None:
    """Training again with the test labels turned round gives the same card and weights; the test AUC turns round."""
    flipped = write_dataset(tmp_path / "flipped", flip_test=True)
    train(flipped, tmp_path)
    first, second = (json.loads((folder / "model.json").read_text()) for folder in (trained, tmp_path))
    assert first == second
    unflipped = write_dataset(tmp_path / "unflipped")
    turned, straight = (evaluate(folder, tmp_path, replace=True) for folder in (flipped, unflipped))
    assert turned["auc"]["value"] + straight["auc"]["value"] == pytest.approx(1)
    assert turned["threshold"] == first["threshold"]


def test_resume_goes_on_where_it_stopped(
    dataset: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two more epochs after two: the state is that of epoch 4, with the rate of the schedule and the optimizer's moments."""
    train(dataset, tmp_path)
    before = torch.load(tmp_path / "log" / "last.pt", weights_only=True)
    assert before["epoch"] == 2
    with caplog.at_level(logging.INFO):
        stage = train(dataset, tmp_path, max_epochs=4, resume=True)
    assert "resumed after epoch 2" in caplog.text
    after = torch.load(tmp_path / "log" / "last.pt", weights_only=True)
    assert after["epoch"] == 4
    assert [part["last_epoch"] for part in after["lr_scheduler"]["_schedulers"]] == [4, 4]
    steps = [state["optimizer"]["state"][0]["step"].item() for state in (before, after)]
    assert steps == [4, 8]
    rate = stage.parser.get_parsed_content("optimizer").param_groups[0]["lr"]
    assert rate == pytest.approx(1e-6 + 0.8 * (1e-3 - 1e-6))


def test_resume_with_nothing_left_to_do_keeps_the_weights(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And a training says how it goes, and what it leaves, without the name of a slide."""
    caplog.set_level(logging.INFO, logger="scripts")
    train(dataset, tmp_path)
    said = [message for message in caplog.messages if message.startswith("epoch ")]
    assert [re.sub(r"\d+\.?\d*(e-\d+)?", "#", message.replace(" (best so far)", "")) for message in said] == [
        "epoch # of #: loss #, val_auc #, took #:#:#, #:#:# left",
        "epoch # of #: loss #, val_auc #, took #:#:#",
    ]
    assert caplog.messages[-1].startswith(f"trained: {tmp_path / 'model.pt'} and its card")
    assert "train_0" not in caplog.text and "val_0" not in caplog.text
    before = last_weights(tmp_path)
    train(dataset, tmp_path, resume=True, max_epochs=1)
    assert all(torch.equal(before[name], value) for name, value in last_weights(tmp_path).items())
    assert "last.pt holds 2 epochs, and --max_epochs is 1; to train on, give more" in caplog.text
    assert read_card(tmp_path / "model.pt").training["epochs"] == 2


def test_resume_keeps_the_best_epoch_of_before(tmp_path: Path) -> None:
    """The classes are far apart (AUC 1); the state is then spoilt, so that the epoch after the stop is worse."""
    dataset = write_dataset(tmp_path / "data", gap=30.0)
    train(dataset, tmp_path, max_epochs=4)
    best = torch.load(tmp_path / "model.pt", weights_only=True)
    assert read_card(tmp_path / "model.pt").validation["auc"]["value"] == 1
    last = tmp_path / "log" / "last.pt"
    state = torch.load(last, weights_only=True)
    for part in ("weight", "bias"):
        state["network"][f"classifier.2.{part}"].neg_()
    torch.save(state, last)
    train(dataset, tmp_path, max_epochs=5, resume=True)
    assert torch.load(last, weights_only=True)["epoch"] == 5
    after = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(best[name], after[name]) for name in best)


class TiedCollector(PredictionCollector):
    """Every epoch is as good as any other."""

    def _report(self, engine: Engine, name: str) -> None:
        engine.state.metrics[name] = 0.5


def test_of_equal_epochs_the_later_is_kept(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, **{"validate#collector": TiedCollector()})
    state = torch.load(tmp_path / "log" / "last.pt", weights_only=True)
    assert (state["best_metric"], state["best_metric_epoch"]) == (0.5, 2)
    kept = torch.load(tmp_path / "model.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in state["network"].items())


def test_without_memory_for_the_slides_each_is_read_once_an_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once more to be checked; those of the validation for the chosen epoch, too, and one of them for its picture."""
    opened = count_opens(monkeypatch, tmp_path / "opened.txt")
    train(write_dataset(tmp_path / "data", test=0), tmp_path, max_epochs=3, **{"cache_memory#gib": 0})
    counts = opened()
    assert {counts[f"train_{index}.h5"] for index in range(4)} == {1 + 3}
    assert sorted(counts[f"val_{index}.h5"] for index in range(4)) == [1 + 3 + 1] * 3 + [1 + 3 + 1 + 1]


def test_an_embedding_is_opened_at_most_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To be checked and to be cached, however many epochs follow; in inference for its header, and for prediction and heat map."""
    dataset = write_dataset(tmp_path / "data")
    names = {
        split: {f"{split}_{index}.h5" for index in range(count)}
        for split, count in (("train", 4), ("val", 4), ("test", 2))
    }
    opened = count_opens(monkeypatch, tmp_path / "training.txt")
    train(dataset, tmp_path, max_epochs=3)
    assert opened() == {name: 1 if name in names["test"] else 2 for name in set().union(*names.values())}
    shutil.copytree(dataset, tmp_path / "copy")
    opened = count_opens(monkeypatch, tmp_path / "inference.txt")
    infer(tmp_path / "copy", tmp_path)
    assert opened() == dict.fromkeys(set().union(*names.values()), 2)
    assert (tmp_path / "out" / "test_0" / "cam.png").is_file()


def test_resume_without_a_checkpoint_begins(dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One command serves for a job and for its restarts."""
    train(dataset, tmp_path, resume=True)
    assert "no state of a stopped training: it begins anew" in caplog.text
    assert torch.load(tmp_path / "log" / "last.pt", weights_only=True)["epoch"] == 2


def test_one_stream_where_there_is_no_thumbnail(tmp_path: Path) -> None:
    """Feature files of another tool and no slides: trained, evaluated and classified on V alone."""
    dataset = write_dataset(tmp_path / "data")
    for seed, path in enumerate(dataset.glob("*.h5")):
        write_foreign(path, np.argwhere(np.ones((5, 4), dtype=bool)), seed=seed)
    train(dataset, tmp_path)
    card = read_card(tmp_path / "model.pt")
    assert card.network["thumbnail_stream"] is False
    assert card.encoder == "unknown"
    evaluate(dataset, tmp_path)
    assert {row["stream_score"] for row in read_rows(tmp_path / "eval" / "predictions.csv")} == {"1.0"}
    infer(dataset, tmp_path)
    assert len(read_rows(tmp_path / "out" / "predictions.csv")) == 10
    assert (tmp_path / "out" / "test_0" / "cam.png").is_file()


def test_selection_never_reads_the_test_slides(trained: Path, tmp_path: Path) -> None:
    """Their embeddings gone, or noise: byte for byte the same weights and card, so the same epoch, threshold and temperature."""
    gone, noise = write_dataset(tmp_path / "gone"), write_dataset(tmp_path / "noise")
    for index in range(2):
        (gone / f"test_{index}.h5").unlink()
        write_embedding(noise / f"test_{index}.h5", shape_yx=(9, 9), mean=1e6, seed=100 + index)
    train(gone, tmp_path / "a", **{"table#allow_missing": True})
    train(noise, tmp_path / "b")
    for output in (tmp_path / "a", tmp_path / "b"):
        for name in ("model.pt", "model.json"):
            assert (output / name).read_bytes() == (trained / name).read_bytes(), (output, name)


def test_a_model_is_not_tested_on_slides_of_its_training(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Another split of the same slides, as another fold would be."""
    rows = read_rows(dataset / "slides.csv")
    turned = {"train": "test", "test": "train", "val": "val"}
    table = write_table(
        tmp_path, [{**row, "slide": dataset / row["slide"], "split": turned[row["split"]]} for row in rows]
    )
    with pytest.raises(RuntimeError) as caught:
        run_config(
            "train.yaml",
            "evaluate.yaml",
            run_id="evaluating",
            dataset_dir=dataset,
            slides=table / "slides.csv",
            model=trained / "model.pt",
            output_dir=tmp_path / "eval",
            **ON_CPU,
        )
    assert "slide train_0 is in split test, but was in train" in str(cause_of(caught.value))
    assert not (tmp_path / "eval").exists()


def test_one_slide_under_two_names_is_not_trained_on(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    shutil.copy(dataset / "train_1.h5", dataset / "test_1.h5")
    with pytest.raises(RuntimeError) as caught:
        train(dataset, tmp_path / "out")
    assert "slides train_1 (split train) and test_1 (split test) have the same embedding" in str(cause_of(caught.value))
    assert not (tmp_path / "out").exists()


def test_what_an_evaluation_leaves(dataset: Path, trained: Path, tmp_path: Path) -> None:
    """Predictions are the calibrated ones, on whose scale the threshold is; the calibration stands beside them."""
    shutil.copytree(trained, tmp_path / "model")
    card_file = tmp_path / "model" / "model.json"
    plain = json.loads(card_file.read_text()) | {"temperature": 1.0, "threshold": 0.5, "threshold_from": "default"}
    figures, tables = [], []
    for temperature in (1.0, 0.5):
        card_file.write_text(json.dumps(plain | {"temperature": temperature}))
        figures.append(evaluate(dataset, tmp_path / "model"))
        out = tmp_path / "model" / "eval"
        tables.append([float(row["p_1"]) for row in read_rows(out / "predictions.csv")])
        calibration = json.loads((out / "calibration.json").read_text())
        assert calibration["temperature"] == temperature
        assert calibration["weights_sha256"] == plain["weights_sha256"]
        assert calibration["after"]["brier"] == figures[-1]["brier"]
        assert calibration["before"]["brier"] == figures[0]["brier"]
        assert sum(part["slides"] for part in calibration["after"]["bins"]) == 2
        report = (out / "report.md").read_text()
        assert f"temperature {temperature:.3f}" in report
        assert "Decision: P(1) >= 0.500, the default, because no threshold parted the validation slides" in report
    names = ["calibration.json", "metrics.json", "predictions.csv", "reliability.png", "report.md"]
    assert sorted(path.name for path in out.glob("[!.]*")) == names
    raw, sharper = (np.array(values) for values in tables)
    np.testing.assert_allclose(sharper, raw**2 / (raw**2 + (1 - raw) ** 2), rtol=1e-6)
    assert figures[0]["auc"] == figures[1]["auc"]


def test_inference_reports_the_same_probabilities(dataset: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "model")
    card_file = tmp_path / "model" / "model.json"
    card_file.write_text(json.dumps(json.loads(card_file.read_text()) | {"temperature": 0.5}))
    evaluate(dataset, tmp_path / "model")
    run_config(
        "inference.yaml",
        run_id="inference",
        dataset_dir=dataset,
        output_dir=tmp_path / "out",
        model=tmp_path / "model" / "model.pt",
        heat_maps=False,
        **ON_CPU,
    )
    inferred = {row["slide_id"]: row for row in read_rows(tmp_path / "out" / "predictions.csv")}
    for row in read_rows(tmp_path / "model" / "eval" / "predictions.csv"):
        assert {**inferred[row["slide_id"]], "label": row["label"]} == row


def test_fewer_levels_and_channels_from_training_to_inference(tmp_path: Path) -> None:
    """Files of five levels and eight channels, a model on one level and five channels: the card tells the later stages."""
    dataset = write_dataset(tmp_path / "data")
    for index, path in enumerate(sorted(dataset.glob("*.h5"))):
        write_embedding(path, levels=5, seed=index)
    train(dataset, tmp_path, **{"table#levels": 1, "table#channel_range": [2, 7]})
    card = read_card(tmp_path / "model.pt")
    assert (card.network["embedding_channels"], card.network["thumbnail_levels"]) == (5, 1)
    assert card.channel_range == (2, 7)
    evaluate(dataset, tmp_path)
    options = {"dataset_dir": dataset, "output_dir": tmp_path / "out", "model": tmp_path / "model.pt", **ON_CPU}
    run_config("inference.yaml", run_id="inference", heat_maps=False, **options)
    evaluated, inferred = (
        {row["slide_id"]: row["p_1"] for row in read_rows(tmp_path / folder / "predictions.csv")}
        for folder in ("eval", "out")
    )
    assert len(evaluated) == 2
    assert evaluated == {name: inferred[name] for name in evaluated}


def test_a_wrong_dataset_writes_nothing(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", val=1)
    with pytest.raises(RuntimeError) as caught:
        train(dataset, tmp_path / "out")
    assert "split 'val' holds no slide of class 1" in str(cause_of(caught.value))
    assert not (tmp_path / "out").exists()


def test_weights_of_another_encoder_are_refused(dataset: Path, trained: Path, tmp_path: Path) -> None:
    other = write_dataset(tmp_path)
    for path in other.glob("*.h5"):
        write_embedding(path, encoder="Other sha256:1")
    network = DSNet(embedding_channels=CHANNELS)
    card = read_card(trained / "model.pt")
    load_model(network, trained / "model.pt", card, encoder="Random sha256:0")
    load_model(network, trained / "model.pt", card, encoder="unknown")
    with pytest.raises(
        RequestError, match=r"model\.pt: trained on embeddings of Random sha256:0, but these are of Other"
    ):
        load_model(network, trained / "model.pt", card, encoder="Other sha256:1")
    with pytest.raises(RuntimeError) as caught:
        run_config(
            "train.yaml",
            "evaluate.yaml",
            run_id="evaluating",
            dataset_dir=other,
            model=trained / "model.pt",
            output_dir=tmp_path / "eval",
            **ON_CPU,
        )
    assert "name the model that belongs to it with --model" in str(cause_of(caught.value))
    assert not (tmp_path / "eval").exists()


def test_another_order_of_the_classes_is_refused(dataset: Path, trained: Path) -> None:
    """It would turn the figures round: labels by the one order, probabilities by the other."""
    evaluate(dataset, trained, classes=["0", "1"], replace=True)
    before = (trained / "eval" / "metrics.json").read_bytes()
    with pytest.raises(RuntimeError) as caught:
        evaluate(dataset, trained, classes=["1", "0"], replace=True)
    told = str(cause_of(caught.value))
    assert "model.pt: its classes are 0, 1, in this order, but --classes says 1, 0" in told
    assert told.endswith("leave --classes out")
    assert (trained / "eval" / "metrics.json").read_bytes() == before


def test_a_card_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(RequestError, match=r"model\.json: not JSON"):
        read_card(tmp_path / "model.pt")
    (tmp_path / "model.json").write_text('{"format": "other/2"}')
    with pytest.raises(RequestError, match=r"format 'other/2', expected 'dsnet-model/1'"):
        read_card(tmp_path / "model.pt")


def test_a_bundle_without_weights_has_the_network_of_the_paper(tmp_path: Path) -> None:
    card = read_card(tmp_path / "model.pt", optional=True)
    assert card.class_names == ("0", "1")
    assert card.network["embedding_channels"] == 128
    with pytest.raises(RequestError, match=r"model\.pt: no such file; expected the weights that train\.yaml writes"):
        read_card(tmp_path / "model.pt")
    (tmp_path / "model.pt").touch()
    with pytest.raises(RequestError, match=r"model\.json: no such file beside model\.pt; expected the model card"):
        read_card(tmp_path / "model.pt")
