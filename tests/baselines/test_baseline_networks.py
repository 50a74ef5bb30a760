"""What every network that DSNet is compared with must do, whatever its method."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from dsnet.random_matrices import random_image
from torch import Tensor, nn
from torch.nn import functional as F

from scripts.baselines.centres import CentreEmbeddings
from scripts.baselines.forest import Forest
from scripts.baselines.patchwise import RectifiedLoss
from scripts.baselines.registry import BASELINES
from scripts.baselines.transmil import TransMil
from scripts.common.errors import RequestError
from scripts.dsnet.baseline import Baseline
from scripts.dsnet.heat_map import ATTENTION_MAP, PATCH_MAP, HeatMap

SMALL = {"depth": 18}
CHANNELS, LEVELS = 16, 2
SCORES = {"GlobalLocal": 0.5}
"""Shares of the local stream, of networks that see both V and T."""


def made(kind: type[Baseline], classes: int = 2) -> Baseline:
    torch.manual_seed(0)
    options = SMALL if "ResNet" in kind.__name__ or kind.__name__ == "NaiveThumbnail" else {}
    return kind(classes, embedding_channels=CHANNELS, thumbnail_levels=LEVELS, **options).eval()  # type: ignore[arg-type, call-arg]


def slides() -> tuple[Tensor, Tensor]:
    """A slide of 9 x 7, and one of 5 x 6 whose patches reach its borders."""
    first, second = (
        random_image(*shape, seed=seed, embedding_channels=CHANNELS, levels=LEVELS)[None]
        for seed, shape in enumerate(((9, 7), (5, 6)))
    )
    return first, second


def batch() -> Tensor:
    first, second = slides()
    images = torch.zeros(2, first.shape[1], 9, 7)
    images[:1] = first
    images[1:, :, :5, :6] = second
    return images


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_logits_of_every_slide(kind: type[Baseline], classes: int) -> None:
    network = made(kind, classes)
    logits, stream_score, channel_scores = network.attend(batch())
    assert logits.shape == (2, classes) and logits.isfinite().all()
    torch.testing.assert_close(network(batch()), logits)
    expected = SCORES.get(kind.__name__, 0.0 if kind.sees_thumbnail else 1.0)
    assert set(stream_score.tolist()) == {expected}
    assert channel_scores.shape == (2, CHANNELS)
    network.train()(batch()).sum().backward()
    assert any(weight.grad is not None for weight in network.parameters())
    share = network.mask_coverage(batch())[0]
    assert 0 < share < 1 and network.mask_coverage(F.pad(batch(), (0, 3, 0, 2))) == [share]


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_torchscript_says_the_same(kind: type[Baseline]) -> None:
    network = made(kind)
    scripted = torch.jit.script(network)
    for found, expected in zip(scripted.attend(batch()), network.attend(batch()), strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(scripted(slides()[0]), network(slides()[0]))


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_padding_changes_nothing(kind: type[Baseline]) -> None:
    network = made(kind)
    alone = torch.cat([network(image) for image in slides()])
    torch.testing.assert_close(network(batch()), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_padding_changes_nothing_in_training(kind: type[Baseline]) -> None:
    """What is learnt from a batch does not depend on how far it is filled up."""
    found = []
    for rows, columns in ((0, 0), (3, 5)):
        network = made(kind).train()
        for part in network.modules():
            if isinstance(part, nn.modules.dropout._DropoutNd):
                part.p = 0.0
        output = network(F.pad(batch(), (0, columns, 0, rows)))
        maps = output[..., :9, :7] if output.ndim == 4 else output
        maps.square().mean().backward()
        gradients = {name: weight.grad for name, weight in network.named_parameters() if weight.grad is not None}
        found.append((maps.detach(), gradients, dict(network.named_buffers())))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_the_card_makes_the_same_network(kind: type[Baseline]) -> None:
    network = made(kind, 3)
    again = kind(**network.arguments)  # type: ignore[arg-type, call-arg]
    assert again.arguments == network.arguments
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_thumbnails_are_looked_at_or_not(kind: type[Baseline]) -> None:
    with pytest.raises(RequestError, match=f"expected {kind.sees_thumbnail}"):
        kind(2, thumbnail_stream=not kind.sees_thumbnail)  # type: ignore[arg-type, call-arg]
    network, image = made(kind), slides()[0]
    changed = image.clone()
    changed[:, CHANNELS:] = 1 - changed[:, CHANNELS:]
    assert torch.allclose(network(image), network(changed)) != kind.sees_thumbnail


@pytest.mark.parametrize("kind", BASELINES, ids=lambda kind: kind.__name__)
def test_maps_show_observed_patches(kind: type[Baseline]) -> None:
    network, image = made(kind), slides()[0]
    observed = (image[0, :CHANNELS] != 0).any(dim=0).numpy()
    shown, of_kind = HeatMap()(network.train(), image, 1), HeatMap().kind(network)
    assert network.training and shown.shape == observed.shape and not shown[~observed].any()
    assert of_kind in (PATCH_MAP, ATTENTION_MAP, None)
    assert bool(shown.any()) == (of_kind is not None)
    if of_kind == ATTENTION_MAP:
        assert shown.max() == 1 and shown.min() >= 0
    if of_kind == PATCH_MAP:
        np.testing.assert_allclose((shown + HeatMap()(network, image, 0))[observed], 1, rtol=1e-5)
    else:
        with pytest.raises(RequestError, match="expected auto"):
            HeatMap(source="probability").kind(network)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CentreEmbeddings(taken=6), r"network_def#taken 6: expected a multiple of 4"),
        (lambda: TransMil(width=12), r"network_def#width 12: expected a multiple of 8"),
        (
            lambda: RectifiedLoss(2, hard_share=0.3),
            r"hard_share 0.3, soft_share 0.3: expected the first under the second",
        ),
    ],
)
def test_numbers_that_do_not_go_together_are_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        make()


def test_a_tree_too_deep_for_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match=r"network_def#depth 50: expected a whole number from 1 to 12"):
        Forest(2, trees=1, depth=50)
