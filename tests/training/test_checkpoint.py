"""A training that was stopped anywhere and resumed ends with the same bits as one that was not."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.inferers import SimpleInferer
from monai.utils import set_determinism
from tiny_flow import ON_CPU, cause_of, workflow
from torch import Tensor
from training.embedding_files import write_dataset

from scripts.common.errors import RequestError, TrainingError
from scripts.patches.draw import SlideSample
from scripts.patches.patch_file import patch_writer
from scripts.training import checkpoint
from scripts.training.checkpoint import TrainingState
from scripts.training.training_outputs import TrainingOutputs


class KillError(Exception):
    """Stands in for a kill."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_patches(tmp_path_factory.mktemp("patches"), seed=0)


def write_patches(folder: Path, *, seed: int) -> Path:
    """Eight patches of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 112, 112, 3)).astype(np.uint8)
    with patch_writer(folder / "patches.h5", {"seed": 0}) as append:
        append("slide", SlideSample(pixels, np.zeros((8, 2), int), np.ones(8, bool), 9, ""))
    return folder


def train(config: str, dataset: Path, output: Path, *, stop_at: int | None = None, **options: Any) -> ConfigWorkflow:
    """Run a training, to the ``stop_at``-th step of the optimizer if that is given, and return its workflow."""
    weights = {"train.yaml": "model", "train_scae.yaml": "encoder"}[config]
    folders = {"dataset_dir": dataset, "output_dir": output / "log", weights: output / "model.pt"}
    recipe = {"max_epochs": 4, "batch_size": 2, "learning_rate": 1e-3, **ON_CPU}
    stage = workflow(config, run_id="training", **folders, **recipe | options)

    def kill(engine: Any) -> None:
        raise KillError

    try:
        stage.initialize()
        if stop_at is not None:
            trainer = stage.parser.get_parsed_content("train#trainer")
            trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop_at), kill)
        stage.run()
        stage.finalize()
    finally:
        set_determinism(seed=None)
    return stage


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Compare two states bit by bit."""
    assert type(found) is type(expected), where
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected), where
    elif isinstance(expected, dict):
        assert list(found) == list(expected), where
        for name, value in expected.items():
            assert_same(found[name], value, f"{where}.{name}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, f"{where}.{index}")
    else:
        assert found == expected, where


def assert_same_outputs(found: Path, expected: Path) -> None:
    for name in ("log/last.pt", "model.pt"):
        contents = [torch.load(folder / name, weights_only=True) for folder in (found, expected)]
        assert_same(*contents, where=name)  # type: ignore[arg-type]
    cards = [folder / "model.json" for folder in (found, expected)]
    assert cards[0].is_file() == cards[1].is_file()
    if cards[1].is_file():
        assert cards[0].read_text() == cards[1].read_text()


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    train("train.yaml", dataset, output)
    return output


@pytest.mark.parametrize("num_workers", [0, 2])
def test_dsnet_goes_on_bit_by_bit(dataset: Path, undisturbed: Path, tmp_path: Path, num_workers: int) -> None:
    """Stopped in the middle of epoch 3, of a training that was to end after it, and resumed to a fourth.

    With worker processes the transforms draw from other seeds than without, hence an undisturbed run of its own.
    """
    if num_workers:
        undisturbed = tmp_path / "undisturbed"
        train("train.yaml", dataset, undisturbed, num_workers=num_workers)
    with pytest.raises(RuntimeError):
        train("train.yaml", dataset, tmp_path, stop_at=5, max_epochs=3, num_workers=num_workers)
    assert torch.load(tmp_path / "log" / "last.pt", weights_only=True)["epoch"] == 2
    train("train.yaml", dataset, tmp_path, resume=True, num_workers=num_workers)
    assert_same_outputs(tmp_path, undisturbed)


@pytest.mark.parametrize(("objective", "learning_rate"), [("paper", 0.03), ("extended", 0.003)])
def test_scae_goes_on_bit_by_bit(patches: Path, tmp_path: Path, objective: str, learning_rate: float) -> None:
    """Of the extended objective the loss has weights of its own, which go on too."""
    options = {"max_epochs": 2, "batch_size": 4, "learning_rate": learning_rate, "objective": objective}
    train("train_scae.yaml", patches, tmp_path / "undisturbed", **options)
    with pytest.raises(RuntimeError):
        train("train_scae.yaml", patches, tmp_path / "stopped", stop_at=3, **options)
    assert not (tmp_path / "stopped" / "model.pt").exists(), "weights of half a training"
    train("train_scae.yaml", patches, tmp_path / "stopped", resume=True, **options)
    assert_same_outputs(tmp_path / "stopped", tmp_path / "undisturbed")


@pytest.mark.parametrize("writes", [3, 4, 5])
def test_a_kill_between_the_two_files(
    dataset: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """Best weights and ``last.pt`` are two writes; whichever of them is the last that is made, the same training comes out."""
    done = 0
    write = checkpoint.atomic_path

    def killing(path: Path) -> Any:
        nonlocal done
        done += 1
        if done == writes:
            raise KillError
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "atomic_path", killing)
        with pytest.raises(RuntimeError):
            train("train.yaml", dataset, tmp_path)
    train("train.yaml", dataset, tmp_path, resume=True)
    assert_same_outputs(tmp_path, undisturbed)


def test_other_settings_are_refused(dataset: Path, undisturbed: Path) -> None:
    with pytest.raises(RuntimeError) as caught:
        train("train.yaml", dataset, undisturbed, resume=True, learning_rate=1e-4, batch_size=4)
    message = str(cause_of(caught.value))
    assert "another request (batch_size was 2, now 4; learning_rate was 0.001, now 0.0001" in message
    with pytest.raises(RuntimeError) as caught:
        train("train.yaml", dataset, undisturbed, resume=True, **{"network_def#multi_scale": False})
    assert "network_def#multi_scale was true, now false" in str(cause_of(caught.value))
    with pytest.raises(RuntimeError) as caught:
        train("train.yaml", dataset, undisturbed, resume=True, **{"train#random_transforms#0#prob": 0.1})
    assert "(train#random_transforms#0#prob was 0.5, now 0.1); expected" in str(cause_of(caught.value))
    with pytest.raises(RuntimeError) as caught:
        train("train.yaml", dataset, undisturbed, resume=True, classes=["1", "0"], val_interval=2)
    message = str(cause_of(caught.value))
    assert "classes was \"['0', '1']\", now \"['1', '0']\"; val_interval was 1, now 2" in message


def test_another_recipe_or_other_patches_are_refused(patches: Path, tmp_path: Path) -> None:
    train("train_scae.yaml", patches, tmp_path, max_epochs=1, batch_size=8)
    others = write_patches(tmp_path, seed=1)  # as many, of the same places
    changes = {"optimizers#paper#momentum": 0.9, "optimizers#paper#weight_decay": 0.0, "recipe#views#blur": 2.0}
    with pytest.raises(RuntimeError) as caught:
        train("train_scae.yaml", others, tmp_path, max_epochs=2, batch_size=8, resume=True, **changes)
    message = str(cause_of(caught.value))
    for expected in (
        "momentum was 0.8, now 0.9",
        "patches was",
        "views#blur was 1.0, now 2.0",
        "weight_decay was 1e-05, now 0.0",
    ):
        assert expected in message
    assert "training_patches" not in message


def small_state(folder: Path, **options: Any) -> TrainingState:
    return TrainingState(TrainingOutputs(folder, folder / "model.pt", {}, max_epochs=4, **options))


def small_engine(scaler: Any = None) -> Any:
    """A trainer of one weight that has seen three epochs."""
    network = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    state = SimpleNamespace(epoch=3, iteration=0, epoch_length=5, max_epochs=4)
    loss = torch.nn.MSELoss()
    return SimpleNamespace(network=network, optimizer=optimizer, loss_function=loss, scaler=scaler, state=state)


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_state_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(RequestError, match=r"last\.pt: not a checkpoint of tensors.*expected the state of a training"):
        small_state(tmp_path, resume=True)._start(small_engine())


def test_no_state_yet(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small_state(tmp_path, resume=True)._start(small_engine())
    assert "no state of a stopped training: it begins anew" in caplog.text
    assert (tmp_path / "last.pt").is_file()


def test_a_state_of_another_version(tmp_path: Path) -> None:
    torch.save({"epoch": 1}, tmp_path / "last.pt")
    with pytest.raises(RequestError, match="format None, expected 'dsnet-training/3'"):
        small_state(tmp_path, resume=True)._start(small_engine())


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("network", {"weight": torch.zeros(1, 1)}, "does not fit Linear"),
        ("network", {"weight": torch.zeros(1, 1, dtype=torch.float64), "bias": torch.zeros(1)}, "does not fit Linear"),
        ("network", [1], "damaged .*network is list"),
        ("settings", None, "damaged .*settings is NoneType"),
        ("settings", 3, "damaged"),
        ("best", [], "damaged"),
        ("best", {}, "damaged .*best weights of epoch None"),
        ("best_metric", "0.9", "damaged"),
        ("best_metric_epoch", 3, "damaged .*best weights of epoch 3"),
        ("scaler", 3, "damaged"),
        ("optimizer", {"state": {}}, "not the state of this training"),
        ("optimizer", None, "not the state of this training"),
        ("epoch", "3", "damaged .*epoch is str"),
        ("epoch", -1, "damaged"),
    ],
)
def test_a_state_of_which_a_part_is_wrong(tmp_path: Path, entry: str, value: object, said: str) -> None:
    small_state(tmp_path)._save(small_engine())
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    torch.save(state | {entry: value}, tmp_path / "last.pt")
    with pytest.raises(RequestError, match=rf"last\.pt: {said}"):
        small_state(tmp_path, resume=True)._start(small_engine())


@pytest.mark.parametrize(
    ("entry", "value"), [("best_metric", None), ("best_metric", 3), ("best_metric_epoch", 4), ("epoch", 2)]
)
def test_best_weights_of_which_a_part_is_wrong(tmp_path: Path, entry: str, value: object) -> None:
    small_state(tmp_path)._save(small_engine())
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    best = {"best": state["network"], "best_metric": 0.9, "best_metric_epoch": 3}
    torch.save(state | best, tmp_path / "last.pt")
    small_state(tmp_path, resume=True)._start(small_engine())
    torch.save(state | best | {entry: value}, tmp_path / "last.pt")
    with pytest.raises(RequestError, match=r"last\.pt: damaged .*best weights of epoch"):
        small_state(tmp_path, resume=True)._start(small_engine())


def test_the_scaler_of_mixed_precision_goes_on(tmp_path: Path) -> None:
    """It exists on CUDA alone; the trainer makes it anew at every run."""

    def engine(scale: float) -> Any:
        loaded: dict[str, float] = {}
        return small_engine(
            SimpleNamespace(state_dict=lambda: {"scale": scale}, load_state_dict=loaded.update, loaded=loaded)
        )

    small_state(tmp_path)._save(engine(1024.0))
    resumed = engine(65536.0)
    small_state(tmp_path, resume=True)._start(resumed)
    assert resumed.scaler.loaded == {"scale": 1024.0}
    assert resumed.state.iteration == 15


class FrozenNorms(SimpleInferer):
    """Normalises by the running statistics, so that a batch's size is all that accumulation could change."""

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(inputs, network.eval(), *args, **kwargs)


def test_accumulated_batches_make_one_step(dataset: Path, tmp_path: Path) -> None:
    """Two batches of two slides give the step and the gradients of one batch of four."""
    gradients = []
    for batch_size, accumulate in ((2, 2), (4, 1)):
        options = {
            "max_epochs": 1,
            "batch_size": batch_size,
            "train#trainer#accumulation_steps": accumulate,
            "train#inferer": FrozenNorms(),
        }
        stage = train("train.yaml", dataset, tmp_path / str(batch_size), **options)
        state = torch.load(tmp_path / str(batch_size) / "log" / "last.pt", weights_only=True)
        assert state["optimizer"]["state"][0]["step"] == 1
        network = stage.parser.get_parsed_content("network")
        gradients.append({name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None})
    assert max(float(value.abs().max()) for value in gradients[1].values()) > 1e-3
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_a_training_that_diverges_ends_and_keeps_what_was_good(dataset: Path, tmp_path: Path) -> None:
    """The weights turn NaN in the second epoch."""
    stage = workflow(
        "train.yaml",
        run_id="training",
        dataset_dir=dataset,
        output_dir=tmp_path / "log",
        model=tmp_path / "model.pt",
        max_epochs=3,
        batch_size=4,
        **ON_CPU,
    )

    def diverge(engine: Any) -> None:
        if engine.state.epoch == 2:
            next(engine.network.parameters()).data.fill_(float("nan"))

    try:
        stage.initialize()
        trainer = stage.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.ITERATION_STARTED, diverge)
        with pytest.raises(RuntimeError) as caught:
            stage.run()
    finally:
        set_determinism(seed=None)
    causes = [error for error in (caught.value, caught.value.__cause__) if isinstance(error, TrainingError)]
    assert causes, caught.value
    message = str(causes[0])
    assert "epoch 2: the weights are NaN or infinite" in message and "smaller --learning_rate" in message
    state = torch.load(tmp_path / "log" / "last.pt", weights_only=True)
    assert state["epoch"] == 1
    for weights in (state["network"], torch.load(tmp_path / "model.pt", weights_only=True)):
        assert all(torch.isfinite(value).all() for value in weights.values())
    assert not (tmp_path / "model.json").exists()
    state["network"][next(iter(state["network"]))].fill_(float("inf"))
    torch.save(state, tmp_path / "log" / "last.pt")
    with pytest.raises(RequestError, match=r"last\.pt: weights that are NaN or infinite"):
        small_state(tmp_path / "log", resume=True)._start(small_engine())
