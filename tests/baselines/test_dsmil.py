import torch
from dsnet.random_matrices import random_image
from torch.nn import CrossEntropyLoss
from torch.nn.functional import binary_cross_entropy_with_logits

from scripts.baselines.dsmil import BothLosses, Dsmil


def bag_by_hand(network: Dsmil, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both logits of one slide, as the paper says it (equations 2 to 6), over its observed patches alone."""
    v, o = network.patches(image)
    x = v[0][:, o[0, 0] > 0].t()
    scores = network.instance(x)[:, 0]
    queries = network.query(x)
    attention = torch.softmax(queries @ queries[scores.argmax()] / queries.shape[1] ** 0.5, dim=0)
    return network.bag(attention @ x)[0], scores.max()


def test_both_decisions() -> None:
    torch.manual_seed(0)
    network = Dsmil(2, hidden=8, embedding_channels=8)
    images = torch.stack([random_image(6, 7, seed=seed, embedding_channels=8) for seed in range(3)])
    by_hand = [bag_by_hand(network, image[None]) for image in images]
    bag, highest = (torch.stack(part) for part in zip(*by_hand, strict=True))
    found = network.train()(images)
    torch.testing.assert_close(found[:, 1], bag)
    torch.testing.assert_close(found[:, 3], highest)
    assert not found[:, [0, 2]].any()
    torch.testing.assert_close(network.eval()(images)[:, 1], (bag + highest) / 2)
    labels = torch.tensor([0, 1, 1])
    expected = sum(binary_cross_entropy_with_logits(part, labels.float()) for part in (bag, highest)) / 2
    torch.testing.assert_close(BothLosses(CrossEntropyLoss())(found, labels), torch.as_tensor(expected))


def test_of_three_classes_each_has_its_critical_patch() -> None:
    torch.manual_seed(0)
    network = Dsmil(3, embedding_channels=8)
    assert network.train()(random_image(6, 7, embedding_channels=8)[None]).shape == (1, 6)
    assert network.patch_logits(random_image(6, 7, embedding_channels=8)[None]).shape == (1, 3, 6, 7)
