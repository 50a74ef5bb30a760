import numpy as np
import torch
from dsnet.random_matrices import random_image

from scripts.baselines.pooled import ColourStatistics, MeanPooling, NearestMean
from scripts.dsnet.packing import unpack


def slides() -> list[tuple[torch.Tensor, int]]:
    return [(random_image(6, 7, seed=seed, embedding_channels=8)[None], seed % 2) for seed in range(6)]


def mean_of(image: torch.Tensor) -> torch.Tensor:
    v, o, _ = unpack(image, 8)
    return v[0][:, o[0, 0] > 0].mean(dim=1)


def test_the_slide_says_what_its_patches_say_on_average() -> None:
    torch.manual_seed(0)
    network, image = MeanPooling(2, embedding_channels=8), slides()[0][0]
    _, o, _ = unpack(image, 8)
    said = network.patch_logits(image)[0][:, o[0, 0] > 0].mean(dim=1)
    torch.testing.assert_close(network(image)[0], said)


def test_nearest_class_mean() -> None:
    network = NearestMean(2, embedding_channels=8)
    network.fit(slides())
    means = [torch.stack([mean_of(image) for image, label in slides() if label == one]).mean(dim=0) for one in (0, 1)]
    torch.testing.assert_close(network.means.values, torch.stack(means))
    for image, _ in slides():
        distances = torch.stack([(mean_of(image) - mean).square().mean() for mean in means])
        torch.testing.assert_close(network(image)[0], -distances)


def test_colours_of_the_tissue() -> None:
    network = ColourStatistics(2, embedding_channels=8)
    network.fit(slides())
    rows = []
    for image, _ in slides():
        _, o, thumbnail = unpack(image, 8)
        tissue = np.kron(o[0, 0].numpy(), np.ones((2, 2))) > 0
        pixels = thumbnail[0, :3].numpy()[:, tissue]
        rows.append(np.concatenate([pixels.mean(axis=1), pixels.std(axis=1)]))
    table = np.array(rows)
    np.testing.assert_allclose(network.mean.values, table.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose(network.deviation.values, table.std(axis=0), rtol=1e-3)
    x = torch.from_numpy((table[0] - table.mean(axis=0)) / table.std(axis=0)).float()
    torch.testing.assert_close(network(slides()[0][0])[0], network.classifier(x), rtol=1e-3, atol=1e-4)
