"""The averaged weights of a training, and the recommended recipe that uses them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_flow import ON_CPU, read_rows, run_config
from torch import nn
from training.embedding_files import write_dataset

from scripts.common.errors import RequestError
from scripts.dsnet.sparse import SparseBatchNorm2d
from scripts.training.averaging import averaged_network
from scripts.training.card import read_card

RECOMMENDED = ("train.yaml", "recommended.yaml")


def train(dataset: Path, output: Path, *files: str, **options: Any) -> None:
    folders = {"dataset_dir": dataset, "output_dir": output / "log", "model": output / "model.pt"}
    defaults = {"max_epochs": 2, "batch_size": 2, **ON_CPU}
    run_config(*(files or RECOMMENDED), run_id="training", **folders, **defaults | options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained")
    train(dataset, output)
    return output


def test_weights_and_statistics_follow_every_step() -> None:
    torch.manual_seed(0)
    network = nn.ModuleList([nn.Conv2d(3, 2, 1), SparseBatchNorm2d(2)]).double()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    average = averaged_network(network, optimizer, share=0.1)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(3):
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(step)) + step
        network[1](network[0](x), torch.ones(2, 1, 4, 4, dtype=torch.float64)).square().mean().backward()
        optimizer.step()
        expected = {name: 0.9 * expected[name] + 0.1 * value for name, value in network.state_dict().items()}
    torch.testing.assert_close(dict(average.state_dict()), expected)
    assert not torch.equal(expected["1.running_mean"], network[1].running_mean)
    assert not any(weight.requires_grad for weight in average.parameters())


def test_without_a_share_the_network_itself_is_kept() -> None:
    network = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    assert averaged_network(network, optimizer, share=None) is network
    with pytest.raises(RequestError, match="expected a number over 0 and at most 1"):
        averaged_network(network, optimizer, share=1.5)


def test_what_is_kept_is_the_average(dataset: Path, tmp_path: Path) -> None:
    """Of one epoch, which is the best one and the last."""
    train(dataset, tmp_path, max_epochs=1)
    state, kept = (torch.load(tmp_path / name, weights_only=True) for name in ("log/last.pt", "model.pt"))
    assert all(torch.equal(kept[name], value) for name, value in state["averaged"].items())
    assert any(not torch.equal(kept[name], value) for name, value in state["network"].items())
    card = read_card(tmp_path / "model.pt")
    assert (card.architecture, card.network["head"]) == ("DSNet", "patch")


@pytest.mark.parametrize("options", [{}, {"checkpointing#enabled": True}], ids=str)
def test_resuming_gives_the_same_bits(dataset: Path, trained: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    train(dataset, tmp_path, max_epochs=1, **options)
    train(dataset, tmp_path, max_epochs=2, resume=True, **options)
    first, resumed = (torch.load(output / "log" / "last.pt", weights_only=True) for output in (trained, tmp_path))
    for part in ("network", "averaged"):
        assert all(torch.equal(first[part][name], value) for name, value in resumed[part].items()), part
    for name in ("model.pt", "model.json"):
        assert (trained / name).read_bytes() == (tmp_path / name).read_bytes()


def test_evaluation_and_inference_take_it_without_an_overlay(dataset: Path, trained: Path, tmp_path: Path) -> None:
    common = {"dataset_dir": dataset, "model": trained / "model.pt", **ON_CPU}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **common)
    run_config("inference.yaml", run_id="inference", output_dir=tmp_path / "out", split="test", **common)
    evaluated, inferred = (read_rows(tmp_path / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred and len(inferred) == 2
    for row in inferred:
        scores = json.loads((tmp_path / "out" / row["slide_id"] / "scores.json").read_text())
        assert scores["heat_map"] == "Patch map"


def test_attention_pooling_is_trained_and_used_alike(dataset: Path, tmp_path: Path) -> None:
    train(dataset, tmp_path, "train.yaml", "baselines/attention_pooling.yaml")
    card = read_card(tmp_path / "model.pt")
    assert card.architecture == "AttentionPooling"
    common = {"dataset_dir": dataset, "model": tmp_path / "model.pt", **ON_CPU}
    run_config("train.yaml", "evaluate.yaml", run_id="evaluating", output_dir=tmp_path / "eval", **common)
    run_config("inference.yaml", run_id="inference", output_dir=tmp_path / "out", split="test", **common)
    evaluated, inferred = (read_rows(tmp_path / name / "predictions.csv") for name in ("eval", "out"))
    assert evaluated == inferred
    assert {row["stream_score"] for row in inferred} == {"1.0"}
