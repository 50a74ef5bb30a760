import math

import pytest
import torch
from dsnet.random_matrices import random_image
from torch.nn import CrossEntropyLoss

from scripts.baselines.centres import CentreEmbeddings, CentreLoss


def made(taken: int = 4) -> CentreEmbeddings:
    torch.manual_seed(0)
    return CentreEmbeddings(2, width=6, taken=taken, dropout=0.0, embedding_channels=8, thumbnail_levels=1)


def image(rows: int = 5, columns: int = 6) -> torch.Tensor:
    return random_image(rows, columns, embedding_channels=8, levels=1)[None]


def test_the_patches_most_unlike_the_first_class_decide() -> None:
    network = made().eval()
    v, o = network.patches(image())
    embedded = network.embed(v[0, :, o[0, 0] > 0].T)
    logits = network.instance(embedded)
    highest = embedded[(logits[:, 1] - logits[:, 0]).argsort(descending=True)[:4]]
    means = [highest[part].mean(dim=0) for part in ([0, 1, 2, 3], [0, 1], [2, 3], [0], [1], [2], [3])]
    expected = network.bag(network.pool(torch.cat(means)[None]))
    torch.testing.assert_close(network(image()), expected)


def test_a_slide_of_few_patches_gives_some_twice() -> None:
    network, one = made(taken=8).eval(), image(2, 2)
    count = int(network.patches(one)[1].sum())
    assert 1 < count < 8 and network(one).isfinite().all()
    patches = network.train()(one)[0, 4:20].view(2, 8)
    assert len(patches.unique(dim=1).T) == count
    torch.testing.assert_close(patches[:, count - 1 :], patches[:, -1:].expand(-1, 9 - count))


def test_distances_are_to_the_centres() -> None:
    network = made().train()
    found = network(image())
    with torch.no_grad():
        network.centres[1] += 1e3
    moved = network(image())
    assert (moved[:, 2:4] > 1e5).all()
    torch.testing.assert_close(moved[:, [0, 1, *range(4, 20)]], found[:, [0, 1, *range(4, 20)]])
    with torch.no_grad():
        network.centres[0] += 1e3
    assert (network(image())[:, 12:] > 1e5).all()


def test_the_loss_by_hand() -> None:
    logits, to_centre = torch.zeros(2, 2), torch.tensor([[1.0, 7.0], [7.0, 2.0]])
    patches, to_patches = torch.zeros(2, 8), torch.tensor([[3.0] * 4 + [7.0] * 4, [7.0] * 4 + [5.0] * 4])
    output = torch.cat([logits, to_centre, patches, to_patches], dim=1)
    loss = CentreLoss(CrossEntropyLoss(), 2, weight=0.1)(output, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(2 * math.log(2) + 0.1 * (1.5 + 4))
