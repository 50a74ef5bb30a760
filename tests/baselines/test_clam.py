import math

import pytest
import torch
from dsnet.random_matrices import random_image
from torch.nn import CrossEntropyLoss
from torch.nn.functional import cross_entropy

from scripts.baselines.attention_pooling import AttentionPooling
from scripts.baselines.clam import ClamSB, InstanceLoss


def image() -> torch.Tensor:
    return torch.stack([random_image(6, 7, seed=seed, embedding_channels=8) for seed in range(2)])


def test_the_slide_is_judged_as_by_attention_pooling() -> None:
    torch.manual_seed(0)
    clam = ClamSB(2, width=16, hidden=8, dropout=0.0, embedding_channels=8).eval()
    pooling = AttentionPooling(2, width=16, hidden=8, embedding_channels=8).eval()
    weights = clam.state_dict()
    for name in ("attention.classifier.weight", "attention.classifier.bias"):
        weights[name] = weights[name][:2]
    pooling.load_state_dict(weights)
    torch.testing.assert_close(clam(image()), pooling(image()))


@pytest.mark.parametrize("classes", [2, 3])
def test_the_loss_of_zero_logits(classes: int) -> None:
    """Every cross-entropy is the logarithm of the number of classes; of three, three classifiers are averaged."""
    loss = InstanceLoss(CrossEntropyLoss(), classes)
    found = loss(torch.zeros(4, classes + classes * 2 * 16), torch.tensor([0, 1, classes - 1, 0]))
    assert float(found) == pytest.approx(0.7 * math.log(classes) + 0.3 * math.log(2))


@pytest.mark.parametrize("samples", [3, 40])
def test_patches_of_highest_and_lowest_attention_are_taught(samples: int) -> None:
    torch.manual_seed(0)
    network = ClamSB(2, width=16, hidden=8, dropout=0.0, samples=samples, embedding_channels=8).train()
    labels, images = torch.tensor([1, 0]), image()
    found = InstanceLoss(CrossEntropyLoss(), 2, weight=1.0)(network(images), labels)
    v, o = network.patches(images)
    attention, maps = network.attention(v, o)
    expected = []
    for index, label in enumerate(labels.tolist()):
        places = torch.nonzero(o[index].flatten() > 0)[:, 0]
        order = places[attention[index].flatten()[places].argsort(descending=True)]
        rows = [order[min(rank, len(order) - 1)] for rank in range(samples)]
        rows += [order[max(len(order) - 1 - rank, 0)] for rank in range(samples)]
        logits = maps[index, 2 + 2 * label : 4 + 2 * label].flatten(1)[:, torch.stack(rows)].t()
        expected.append(cross_entropy(logits, torch.tensor([1] * samples + [0] * samples)))
    torch.testing.assert_close(found, torch.stack(expected).mean())
