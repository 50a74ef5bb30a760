import math

import pytest
import torch
from dsnet.random_matrices import random_image

from scripts.baselines import patchwise
from scripts.baselines.patchwise import (
    DiscriminativeLoss,
    DiscriminativePatches,
    RectifiedLoss,
    RectifiedPatches,
)


def images() -> torch.Tensor:
    return torch.stack([random_image(6, 7, seed=seed, embedding_channels=8) for seed in range(2)])


def output(taught: torch.Tensor, o: torch.Tensor, classes: int = 2) -> torch.Tensor:
    """What a network returns in training: patches that know nothing, and a teacher's logits of the last class."""
    maps = torch.zeros(len(o), 2 * classes, *o.shape[2:])
    maps[:, -1:] = taught
    return torch.cat([maps, torch.zeros(len(o), classes, *o.shape[2:]), o], dim=1).requires_grad_()


def test_patches_weigh_by_their_rank() -> None:
    """Of ten patches, the first two weigh 1, the next fall to 0 at six tenths; only these have a gradient."""
    taught = torch.arange(10.0, 0, -1).view(1, 1, 1, 10)
    found = output(taught, torch.ones(1, 1, 1, 10))
    loss = RectifiedLoss(2, hard_share=0.1, soft_share=0.6)(found, torch.tensor([1]))
    assert float(loss.detach()) == pytest.approx(math.log(2))
    loss.backward()
    assert found.grad is not None
    weight = -found.grad[0, 1, 0] / -found.grad[0, 1, 0, 0]
    torch.testing.assert_close(weight, torch.tensor([1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0]).float())


def test_every_patch_of_a_slide_without_lesions_learns() -> None:
    found = output(torch.arange(10.0).view(1, 1, 1, 10), torch.tensor([1.0] * 8 + [0] * 2).view(1, 1, 1, 10))
    RectifiedLoss(2, transition=0.0)(found, torch.tensor([0])).backward()
    assert found.grad is not None
    torch.testing.assert_close(found.grad[0, 0, 0], torch.tensor([-0.5 / 8] * 8 + [0] * 2))


def test_no_patch_belongs_to_a_class_above_its_slides() -> None:
    found = output(torch.zeros(1, 1, 1, 10), torch.ones(1, 1, 1, 10), classes=3)
    found = found.detach()
    without, with_it = (RectifiedLoss(3, transition=weight)(found, torch.tensor([1])) for weight in (0.0, 1.0))
    assert float(with_it - without) == pytest.approx(-math.log(2 / 3), rel=1e-5)
    assert float(RectifiedLoss(3)(found, torch.tensor([2]))) == pytest.approx(math.log(3))


def test_the_teacher_follows() -> None:
    torch.manual_seed(0)
    network = RectifiedPatches(2, momentum=0.5, embedding_channels=8).train()
    with torch.no_grad():
        network.classifier[0].weight.zero_()
    before = network.teacher[0].weight.clone()
    network(images())
    torch.testing.assert_close(network.teacher[0].weight, before / 2)
    assert not any(weight.requires_grad for weight in network.teacher.parameters())


def test_rounds() -> None:
    """All patches are kept until the teacher is, for the first time, what the classifier was."""
    torch.manual_seed(0)
    network, loss = DiscriminativePatches(2, round_slides=4, embedding_channels=8).train(), DiscriminativeLoss(2)
    labels = torch.tensor([0, 1])
    kept = []
    for _ in range(3):
        found = network(images()).detach().requires_grad_()
        loss(found, labels).backward()
        assert found.grad is not None
        kept.append(int((found.grad[:, :2].abs().sum(dim=1) > 1e-9).sum()))
    observed = int(network.patches(images())[1].sum())
    assert kept[0] == observed and 0 < kept[1] < 0.5 * observed
    assert int(network.seen) == 6


def test_the_slides_of_all_processes_make_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patchwise, "world_size", lambda: 2)
    network = DiscriminativePatches(2, round_slides=8, embedding_channels=8)
    moved = []
    for _ in range(2):
        network.move_teacher(2)
        moved.append(torch.equal(network.teacher[0].weight, network.classifier[0].weight))
    assert moved == [False, True] and int(network.seen) == 8


def test_the_class_histogram_does_not_teach_the_patches() -> None:
    torch.manual_seed(0)
    network = DiscriminativePatches(2, dropout=0.0, embedding_channels=8).eval()
    logits = network(images())
    logits.sum().backward()
    assert network.fusion.weight.grad is not None and network.classifier[0].weight.grad is None
    o = network.patches(images())[1]
    histogram = torch.stack(
        [network.patch_logits(images())[index][:, o[index, 0] > 0].softmax(dim=0).mean(dim=1) for index in range(2)]
    )
    torch.testing.assert_close(logits, 10 * histogram)


@pytest.mark.parametrize("fusion", ["logistic", "svm"])
def test_both_fusions(fusion: str) -> None:
    found = output(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4))
    loss = DiscriminativeLoss(2, fusion=fusion)(found.detach(), torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(math.log(2) + (math.log(2) if fusion == "logistic" else 0.5), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_which_patches_are_discriminative_is_the_same_in_mixed_precision(classes: int) -> None:
    """A confident teacher, whose probabilities float16 could not tell apart."""
    generator = torch.Generator().manual_seed(0)
    taught = 9 + torch.randn(2, 1, 20, 20, generator=generator)
    o = (torch.rand(2, 1, 20, 20, generator=generator) < 0.7).float()
    labels, kept = torch.full((2,), classes - 1), []
    for mixed in (False, True):
        found = output(taught, o, classes)
        with torch.autocast("cpu", torch.float16, enabled=mixed):
            loss = DiscriminativeLoss(classes)(found, labels)
        loss.backward()
        assert found.grad is not None
        kept.append(found.grad[:, :classes].abs().sum(dim=1) > 0)
    assert torch.equal(*kept)
    assert int(kept[0].sum()) == pytest.approx(0.3 * int(o.sum()), abs=2)
