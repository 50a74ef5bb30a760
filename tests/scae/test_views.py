import pytest
import torch
from scae.random_textures import random_textures

from scripts.common.errors import RequestError
from scripts.scae.views import StainViews

PLAIN = {"gain": 0.0, "bias": 0.0, "blur": 1e-3, "noise": 0.0}


def views_of(patches: torch.Tensor, *, seed: int = 0, **options: float) -> torch.Tensor:
    torch.manual_seed(seed)
    return StainViews(**options)(patches)  # type: ignore[arg-type]


def test_two_views_a_patch_in_range() -> None:
    views = views_of(random_textures(5))
    assert views.shape == (10, 3, 80, 80)
    assert views.min() >= 0 and views.max() <= 1
    assert len({view.numpy().tobytes() for view in views}) == 10


def test_views_i_and_b_plus_i_are_of_one_patch() -> None:
    """Patches of one colour each: without stain and noise, that is all a view shows."""
    colours = torch.linspace(0.1, 0.9, 4).view(4, 1, 1, 1).expand(4, 3, 112, 112)
    views = views_of(colours, **PLAIN)
    torch.testing.assert_close(views, torch.cat([colours, colours])[..., :80, :80], atol=1e-5, rtol=0)


def test_a_plain_view_of_the_whole_patch_is_one_of_its_eight_symmetries() -> None:
    patch = random_textures(1)
    seen = set()
    for seed in range(40):
        view = views_of(patch, seed=seed, side_px=112, **PLAIN)[0]
        symmetries = [torch.rot90(p, k, dims=(1, 2)) for p in (patch[0], patch[0].flip(2)) for k in range(4)]
        (index,) = [i for i, symmetry in enumerate(symmetries) if torch.allclose(view, symmetry, atol=1e-4)]
        seen.add(index)
    assert len(seen) == 8


def test_stain_keeps_the_order_of_densities_and_the_gain_its_bounds() -> None:
    ramp = torch.linspace(0.2, 0.9, 112).expand(1, 3, 112, 112)
    for view in views_of(ramp.repeat(8, 1, 1, 1), side_px=112, **{**PLAIN, "gain": 0.4}):
        before, after = (-torch.log10((255 * values + 1) / 256) for values in (ramp[0], view))
        gains = after.flatten(1).sum(1) / before.flatten(1).sum(1)
        assert ((gains > 0.6 - 1e-3) & (gains < 1.4 + 1e-3)).all()


def test_other_amounts_of_the_stains_are_mixtures_of_them() -> None:
    """Patches of haematoxylin and eosin alone stay so, each as many times as dense as was drawn; with other colours they do not."""
    stains = torch.tensor([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105]])
    stains = stains / stains.norm(dim=1, keepdim=True)
    given = torch.tensor([[0.3, 0.0], [0.0, 0.4], [0.2, 0.3]])
    patches = (256 * 10 ** -(given @ stains) - 1) / 255
    patches = patches.view(3, 3, 1, 1).expand(3, 3, 112, 112)
    found = []
    for colour in (0.0, 0.1):
        views = views_of(patches, **{**PLAIN, "amount": 0.4, "colour": colour})
        density = -torch.log10((255 * views[..., 0, 0] + 1) / 256)
        amounts = torch.linalg.lstsq(stains.T, density.T).solution.T
        found.append((amounts, (amounts @ stains - density).abs().amax(1)))
    amounts, left = found[0]
    shares = amounts / given.repeat(2, 1)
    drawn = shares[torch.isfinite(shares) & (given.repeat(2, 1) > 0)]
    assert left.max() < 1e-4 and ((drawn > 0.6) & (drawn < 1.4)).all() and len(set(drawn.tolist())) == 8
    assert (amounts[[0, 3], 1].abs() < 1e-4).all() and (amounts[[1, 4], 0].abs() < 1e-4).all()
    assert found[1][1].median() > 1e-2


def test_same_seed_same_views() -> None:
    patches = random_textures(3)
    assert torch.equal(views_of(patches, seed=1), views_of(patches, seed=1))
    assert not torch.equal(views_of(patches, seed=1), views_of(patches, seed=2))


@pytest.mark.parametrize("side_px", [0, 60, 128])
def test_a_side_that_does_not_fit_is_refused(side_px: int) -> None:
    with pytest.raises(
        RequestError, match=f"side_px {side_px}: expected a multiple of 16, up to the 112 px of a patch"
    ):
        StainViews(side_px=side_px)


def test_a_smaller_patch_has_no_such_view() -> None:
    with pytest.raises(RequestError, match=r"a view of 112 px cannot be cut from a patch of \(96, 112\) px"):
        views_of(random_textures(1)[:, :, :96], side_px=112)
