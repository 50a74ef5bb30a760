from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tiny_flow import ON_CPU, run_config
from training.embedding_files import write_dataset

from scripts.training.balance import BalancedCrossEntropy, classification_loss

LABELS = [0, 0, 0, 0, 0, 1, 2, 2]


def test_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    loss = BalancedCrossEntropy(LABELS, 3)
    torch.testing.assert_close(loss.weight, torch.tensor(expected, dtype=torch.float32))
    assert loss.weight[LABELS].mean().item() == pytest.approx(1)


def test_batches_of_one_slide_add_up() -> None:
    """The mean over slides, however they are cut into batches; every class has the same share in it."""
    loss, logits, labels = BalancedCrossEntropy(LABELS, 3), torch.randn(8, 3), torch.tensor(LABELS)
    single = torch.stack([loss(logits[i : i + 1], labels[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(single.mean(), loss(logits, labels))
    plain = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    of_class = torch.stack([plain[labels == index].mean() for index in range(3)])
    torch.testing.assert_close(loss(logits, labels), of_class.mean())


def test_off_is_the_papers_loss() -> None:
    assert isinstance(classification_loss([{"label": 0}], 2, balance=False), torch.nn.CrossEntropyLoss)


def test_the_option(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data", train=3)
    stage = run_config(
        "train.yaml",
        run_id="training",
        dataset_dir=dataset,
        output_dir=tmp_path / "log",
        model=tmp_path / "model.pt",
        max_epochs=1,
        **ON_CPU,
        **{"loss#balance": True},
    )
    weights = stage.parser.get_parsed_content("train#trainer").loss_function.weight
    assert weights.tolist() == pytest.approx([3 / 4, 3 / 2])
