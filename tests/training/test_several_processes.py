"""Two processes on the CPU under torchrun equal one with twice the batch."""

import json
import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from command_server import command_server
from ignite.engine import Events
from monai.utils import set_determinism
from PIL import Image
from tiny_flow import BUNDLE, CONFIGS, ON_CPU, read_rows, run_config, workflow
from training.embedding_files import STEP_PX, write_dataset

from scripts.baselines.convolutional import NaiveThumbnail
from scripts.baselines.patchwise import RectifiedPatches
from scripts.common import ranks
from scripts.common.config_files import merged
from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.training import several_processes

SAME_ORDER = {
    "max_epochs": 3,
    "learning_rate": 2e-3,
    "warmup#total_iters": 0,
    "network_def#head": "patch",
    "evaluated#share": 0.2,
    # Adam would turn the rounding of a gradient that is zero into a step
    "optimizer#_target_": "torch.optim.SGD",
    "train#preprocessing#transforms": "@train#deterministic_transforms",
    **ON_CPU,
}


def torchrun(run_id: str, *files: str, processes: int, cwd: Path, **options: Any) -> None:
    """Run a stage as a user with several devices does."""
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    words += ["-m", "monai.bundle", "run", run_id, "--bundle_root", str(BUNDLE)]
    words += ["--config_file", str([str(CONFIGS / name) for name in files])]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    result = command_server().run(*words, cwd=cwd, OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr[-4000:]


def folders(dataset: Path, output: Path) -> dict[str, Path]:
    return {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "model.pt"}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slides of different size; the validation and test slides cannot be dealt out evenly."""
    return write_dataset(tmp_path_factory.mktemp("dataset"), train=8, val=5, test=3, gap=0.1)


@pytest.fixture(scope="module")
def pair(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained, with blocks computed twice, and evaluated by two processes."""
    output = tmp_path_factory.mktemp("pair")
    both = ("train.yaml", "multi_gpu_train.yaml")
    given = folders(dataset, output)
    torchrun(
        "training",
        *both,
        processes=2,
        cwd=output,
        batch_size=2,
        **given,
        **SAME_ORDER,
        **{"checkpointing#enabled": True},
    )
    given["output_dir"] = output / "eval"
    torchrun("evaluating", *both, "evaluate.yaml", processes=2, cwd=output, **given, **ON_CPU)
    return output


def test_two_processes_equal_one_with_twice_the_batch(dataset: Path, pair: Path, tmp_path: Path) -> None:
    """Weights, running statistics and the metric of every epoch; slides of different size weigh by their patches."""
    sampler = {
        "_target_": "DistributedSampler",
        "dataset": "@train#dataset",
        "num_replicas": 1,
        "rank": 0,
        "shuffle": True,
        "seed": "@seed",
    }
    alone = {"train#dataloader#sampler": sampler, "train#dataloader#shuffle": False, "batch_size": 4}
    run_config("train.yaml", run_id="training", **folders(dataset, tmp_path), **SAME_ORDER, **alone)
    two, one = (torch.load(folder / "log" / "last.pt", weights_only=True) for folder in (pair, tmp_path))
    # float32, maxima of nearly equal values; tests/dsnet/test_norm_over_ranks.py compares in float64
    torch.testing.assert_close(two["network"], one["network"], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(two["averaged"], one["averaged"], rtol=1e-3, atol=1e-4)
    assert any(not torch.equal(two["averaged"][name], value) for name, value in two["network"].items())
    for name in ("best_metric", "best_metric_epoch", "epoch"):
        assert two[name] == one[name], name
    cards = [json.loads((folder / "model.json").read_text()) for folder in (pair, tmp_path)]
    assert cards[0]["validation"] == cards[1]["validation"]
    assert cards[0]["validation"]["slides"] == 5


def test_one_process_goes_on_where_two_stopped(dataset: Path, pair: Path, tmp_path: Path) -> None:
    """Its first epoch, their fourth, begins with their weights."""
    shutil.copytree(pair / "log", tmp_path / "log")
    given = {**SAME_ORDER, "max_epochs": 4, "batch_size": 2, "checkpointing#enabled": True, "resume": True}
    stage = workflow("train.yaml", run_id="training", **given, **folders(dataset, tmp_path))
    began: list[dict[str, torch.Tensor]] = []
    try:
        stage.initialize()
        network, trainer = (stage.parser.get_parsed_content(name) for name in ("network", "train#trainer"))
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: began.append(deepcopy(network.state_dict())))
        stage.run()
    finally:
        set_determinism(seed=None)
    before, after = (torch.load(folder / "log" / "last.pt", weights_only=True) for folder in (pair, tmp_path))
    assert (before["epoch"], after["epoch"], len(began)) == (3, 4, 1)
    torch.testing.assert_close(began[0], before["network"], rtol=0, atol=0)
    assert any(not torch.equal(after["network"][name], value) for name, value in before["network"].items())


def test_every_test_slide_is_predicted_once(dataset: Path, pair: Path, tmp_path: Path) -> None:
    given = {**folders(dataset, pair), "output_dir": tmp_path}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", **given, **ON_CPU)
    assert read_rows(pair / "eval" / "predictions.csv") == read_rows(tmp_path / "predictions.csv")
    two, one = (json.loads((folder / "metrics.json").read_text()) for folder in (pair / "eval", tmp_path))
    assert two == one


def test_one_set_of_outputs(pair: Path) -> None:
    files = (path for path in pair.rglob("[!.]*") if path.is_file() and path.parent.name != "eval")
    found = sorted(path.relative_to(pair).as_posix() for path in files)
    assert found[0].startswith("log/events.out")
    assert found[1:] == ["log/last.pt", "model.json", "model.pt"]


@pytest.mark.parametrize("items", [1, 2, 3, 7])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_come_back_in_order(monkeypatch: pytest.MonkeyPatch, items: int, processes: int) -> None:
    """Also where there are fewer slides than processes: those without one take the first, which is then there twice."""
    monkeypatch.setattr(ranks, "world_size", lambda: processes)
    shares = []
    for rank in range(processes):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        shares.append(ranks.share(range(items)))
    assert all(shares)

    def gather(parts: list[list[int]], own: list[int]) -> None:
        parts[:] = shares

    monkeypatch.setattr(dist, "all_gather_object", gather)
    assert list(dict.fromkeys(ranks.join_shares(shares[0]))) == list(range(items))


@pytest.mark.parametrize(
    ("device", "processes", "taken"),
    [("cpu", 4, []), ("cuda", 4, [2]), (torch.device("cuda", 2), 4, [2]), ("cuda:0", 4, None), ("cuda:3", 1, [3])],
)
def test_each_process_takes_a_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device | str, processes: int, taken: list[int] | None
) -> None:
    """The third of four; None: refused."""
    found: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", found.append)
    monkeypatch.setenv("LOCAL_RANK", "2" if processes > 1 else "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    if taken is None:
        with pytest.raises(RequestError, match=r"^--device cuda:0 is one card for 4 processes; .*leave --device out"):
            several_processes.require_own_card(device)
        return
    several_processes.require_own_card(device)
    monkeypatch.chdir(tmp_path)
    for root in (str(BUNDLE), "."):  # "." is the default: the code does not lie there
        stage = workflow("train.yaml", "multi_gpu_train.yaml", run_id="training", bundle_root=root, device=device)
        (step,) = (index for index, step in enumerate(stage.parser["initialize"]) if "set_device" in str(step))
        stage.parser.get_parsed_content(f"initialize::{step}")
        assert found == taken
        found.clear()


def test_batch_norm_of_one_process_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its running statistics would differ between the processes, of which each validates some of the slides."""
    networks = [NaiveThumbnail(depth=18), RectifiedPatches(embedding_channels=3 * 32**2, patch_network="resnet18")]
    for network in networks:
        assert several_processes.require_shared_norms(network) is network
    monkeypatch.setattr(several_processes, "world_size", lambda: 2)
    for network in networks:
        with pytest.raises(RequestError, match=rf"{type(network).__name__} has batch norm .*as one process"):
            several_processes.require_shared_norms(network)
    for network in (DSNet(), DSNet(head="patch"), RectifiedPatches(), torch.nn.SyncBatchNorm(2)):
        assert several_processes.require_shared_norms(network) is network


@pytest.mark.parametrize(
    "overlays",
    [
        ("recommended.yaml", "masks.yaml", "multi_gpu_train.yaml"),
        ("recommended.yaml", "multi_gpu_train.yaml", "masks.yaml"),
        ("segment_train.yaml", "multi_gpu_train.yaml"),
        ("multi_gpu_train.yaml", "segment_train.yaml"),
    ],
    ids=" ".join,
)
def test_overlays_with_masks_in_either_order(dataset: Path, tmp_path: Path, overlays: tuple[str, ...]) -> None:
    """The processes share the gradients of the network that learns from masks, and the slides that have a target."""
    config = merged([str(CONFIGS / name) for name in ("train.yaml", *overlays)])
    assert config["train#trainer#network#_target_"] == "torch.nn.parallel.DistributedDataParallel"
    assert config["validate#dataset#data#_target_"] == "scripts.common.ranks.share"
    if overlays.index("multi_gpu_train.yaml") < len(overlays) - 1:
        last = [name for name in overlays if name != "multi_gpu_train.yaml"]
        other = merged([str(CONFIGS / name) for name in ("train.yaml", *last, "multi_gpu_train.yaml")])
        for name in ("train", "validate", "network", "network_def", "loss", "outputs"):
            assert config[name] == other[name], f"{name} differs by the order, of which one is run"
        return
    for split, count in (("train", 8), ("val", 5)):
        for index in range(1, count, 2):
            Image.fromarray(np.ones((6, 5 + index), dtype=np.uint8)).save(tmp_path / f"{split}_{index}.png")
    options = {"max_epochs": 1, "batch_size": 2, "masks": tmp_path, "mask_px": STEP_PX, "dataset_dir": dataset}
    torchrun(
        "training", "train.yaml", *overlays, processes=2, cwd=tmp_path, output_dir=tmp_path / "out", **options, **ON_CPU
    )
    (card,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json"))
    assert card["validation"]["slides"] == 5
