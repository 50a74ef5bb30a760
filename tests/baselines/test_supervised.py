import numpy as np
import pytest
import torch
from dsnet.random_matrices import random_image
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from scripts.baselines.forest import Forest
from scripts.baselines.supervised import HeatMapForest, largest_region
from scripts.training.lesion_losses import PatchLoss
from scripts.training.lesion_targets import LESION, NO_LESION, UNKNOWN


def test_the_forest_answers_as_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 5)).astype(np.float32)
    labels = (x[:, 1] + x[:, 3] > 0).astype(np.int64) + 1  # the first of three classes is missing
    forest = Forest(3, trees=7, depth=3)
    torch.testing.assert_close(forest(torch.from_numpy(x)), torch.full((80, 3), 1 / 3))
    forest.fit(x, labels)
    expected = RandomForestClassifier(7, max_depth=3, random_state=0).fit(x, labels).predict_proba(x)
    found = forest(torch.from_numpy(x))
    torch.testing.assert_close(found[:, 1:], torch.from_numpy(expected).float())
    assert not found[:, 0].any()


def test_the_largest_region() -> None:
    hot = torch.from_numpy(np.random.default_rng(1).random((4, 1, 12, 15)) < 0.25).float()
    hot[3] = 0
    found = largest_region(hot)
    for mask, region in zip(hot[:3, 0].numpy(), found[:3, 0].numpy(), strict=True):
        numbered, _ = ndimage.label(mask, structure=np.ones((3, 3)))
        sizes = np.bincount(numbered[numbered > 0])
        assert region.sum() == sizes.max()
        assert len(np.unique(numbered[region > 0])) == 1 and 0 not in numbered[region > 0]
    assert not found[3].any()


def test_what_would_hold_for_one_slide_alone_is_not_traced() -> None:
    network = HeatMapForest(2, embedding_channels=4).eval()
    image = random_image(6, 8, embedding_channels=4)[None]
    assert torch.equal(torch.jit.script(network)(image), network(image))
    with pytest.raises(RuntimeError, match="no ONNX of it: export TorchScript"):
        torch.jit.trace(network, image)


def test_the_figures_of_a_heat_map() -> None:
    network = HeatMapForest(2, embedding_channels=4)
    o = torch.ones(1, 1, 6, 8)
    o[..., 7] = 0
    patches = torch.zeros(1, 2, 6, 8)
    patches[:, 1] = -10.0
    patches[:, 1, 1:3, 1:4] = 10.0  # a region of six, and one of its own; one was not observed
    patches[:, 1, 5, 6] = 10.0
    patches[:, 1, 5, 7] = 10.0
    expected = [7 / 42, 6 / 42, 13**0.5, 1.0, 1.0]
    figures = network._figures(patches, o)
    torch.testing.assert_close(figures[0], torch.tensor([1.0, 7 / 42, *expected, *expected]), atol=1e-3, rtol=0)


def test_patches_learn_where_masks_tell_of_them() -> None:
    patches = torch.randn(2, 3, 1, 3, generator=torch.Generator().manual_seed(0))
    lesion = torch.tensor([[[[LESION, NO_LESION, UNKNOWN]]], [[[UNKNOWN, NO_LESION, NO_LESION]]]], dtype=torch.uint8)
    log_p = patches.log_softmax(dim=1)
    expected = -(log_p[0, 2, 0, 0] + log_p[0, 0, 0, 1] + log_p[1, 0, 0, 1] + log_p[1, 0, 0, 2]) / 4
    torch.testing.assert_close(PatchLoss()(patches, (torch.tensor([2, 0]), lesion)), expected)


def test_the_forest_is_grown_on_the_training_slides() -> None:
    torch.manual_seed(0)
    network = HeatMapForest(2, embedding_channels=8).train()
    images = [random_image(6, 7, seed=seed, embedding_channels=8)[None] for seed in range(6)]
    network.fit((image, index % 2) for index, image in enumerate(images))
    assert network.training
    network.eval()
    called = [int(network(image).argmax()) for image in images]
    assert called == [0, 1, 0, 1, 0, 1]
