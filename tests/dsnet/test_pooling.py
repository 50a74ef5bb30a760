import pytest
import torch
from random_matrices import random_map, random_mask

from scripts.dsnet.pooling import GatedAttention, attention_mean, top_mean


def by_hand(logits: torch.Tensor, o: torch.Tensor, count: int) -> torch.Tensor:
    """Mean of the ``count`` highest logits of each class of one slide (classes, H, W), over its observed patches."""
    values = logits[:, o[0] > 0]
    return torch.stack([torch.stack(sorted(of_class)[-count:]).mean() for of_class in values])


@pytest.mark.parametrize("share", [0.02, 0.25, 1.0])
def test_the_highest_patches_of_each_slide_and_class(share: float) -> None:
    """Slides with different numbers of patches in one batch: each takes its own share, at least one patch."""
    o = torch.cat([random_mask(1, 9, 8, seed=0, share=0.2), random_mask(1, 9, 8, seed=1, share=0.9)])
    logits = random_map(torch.ones_like(o), 3) + 5 * (1 - o)  # the highest of all were not observed
    found = top_mean(logits, o, share)
    for index, slide in enumerate(found):
        count = max(1, round(share * int(o[index].sum())))
        torch.testing.assert_close(slide, by_hand(logits[index], o[index], count))


def test_the_gradient_reaches_the_highest_patches_alone() -> None:
    o = random_mask(1, 10, 10, share=1.0)
    logits = random_map(o, 2).requires_grad_()
    top_mean(logits, o, 0.05).sum().backward()
    assert logits.grad is not None
    assert (logits.grad != 0).sum(dim=(2, 3)).tolist() == [[5, 5]]
    assert logits[logits.grad != 0].min() > logits[(logits.grad == 0) & (o > 0)].median()


def test_a_slide_without_patches_has_logits_of_zero() -> None:
    logits, o = torch.randn(1, 2, 4, 3), torch.zeros(1, 1, 4, 3)
    assert top_mean(logits, o, 0.02).tolist() == [[0.0, 0.0]]
    assert torch.isfinite(GatedAttention(2, 2)(logits, o)[0]).all()


def test_attention_is_a_mean_over_the_observed_patches() -> None:
    """Where a patch lies, and what lies beside it unobserved, does not matter; doubling every patch does not either."""
    torch.manual_seed(0)
    pooling = GatedAttention(6, 3).double()

    def pooled(v: torch.Tensor, o: torch.Tensor) -> torch.Tensor:
        attention, patches = pooling(v, o)
        torch.testing.assert_close(attention.sum(dim=(1, 2, 3)), torch.ones(1, dtype=torch.float64))
        assert not attention[o == 0].any()
        return attention_mean(patches, attention)

    o = random_mask(1, 5, 4)
    v = random_map(o, 6)
    logits, seen = pooled(v, o), pooling(v, o)[1][0][:, o[0, 0] > 0]
    torch.testing.assert_close(pooled(v + 9 * (1 - o), o), logits)
    torch.testing.assert_close(pooled(v.flip(2, 3), o.flip(2, 3)), logits)
    torch.testing.assert_close(pooled(torch.cat([v, v], dim=3), torch.cat([o, o], dim=3)), logits)
    assert (seen.amin(dim=1) < logits[0]).all() and (logits[0] < seen.amax(dim=1)).all()
