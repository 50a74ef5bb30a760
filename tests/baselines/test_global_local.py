import math

import pytest
import torch
from dsnet.random_matrices import random_image
from torch.nn import CrossEntropyLoss

from scripts.baselines.global_local import GlobalLocal, GlobalLocalLoss

CHANNELS = 8


def made(**options: float) -> GlobalLocal:
    torch.manual_seed(0)
    return GlobalLocal(2, width=8, embedding_channels=CHANNELS, thumbnail_levels=1, **options).eval()  # type: ignore[arg-type]


def image() -> torch.Tensor:
    return random_image(7, 6, share=1.0, embedding_channels=CHANNELS, levels=1)[None]


@pytest.mark.parametrize("of_thumbnail", [True, False])
def test_features_are_shared_both_ways(of_thumbnail: bool) -> None:
    """What changes in one cell of T changes the local branch's logits around it, and likewise from V to the global branch."""
    network, changed = made(), image()
    changed[0, slice(CHANNELS, None) if of_thumbnail else slice(CHANNELS), 3, 3] += 1
    difference = (network._maps(changed)[0] - network._maps(image())[0])[0].abs()
    of_global, of_local = difference[2:4].sum(dim=0) > 1e-6, difference[4:6].sum(dim=0) > 1e-6
    assert of_global[3, 3] and of_local[3, 3]
    assert of_global[2, 2] and of_local[3, 4] and not of_local[0, 3]


def test_both_branches_together_decide() -> None:
    network = made(top_share=1e-6)
    maps, o = network._maps(image())
    expected = maps[:, :2].masked_fill(o == 0, float("-inf")).amax(dim=(2, 3))
    torch.testing.assert_close(network(image()), expected)
    torch.testing.assert_close(network.patch_logits(image()), maps[:, :2])


def test_the_local_map_is_held_near_to_the_global_one_and_not_the_other_way() -> None:
    network = made().train()
    network(image())[:, -1].sum().backward()
    last = network.shared[-1]
    assert not last.of_t.conv.conv.weight.grad.any() and last.of_v.conv.conv.weight.grad.any()  # type: ignore[union-attr]


def test_the_loss_by_hand() -> None:
    output = torch.cat([torch.zeros(2, 6), torch.tensor([[1.0], [3.0]])], dim=1)
    loss = GlobalLocalLoss(CrossEntropyLoss(), 2, weight=0.15)(output, torch.tensor([0, 1]))
    assert float(loss) == pytest.approx(3 * math.log(2) + 0.3)
