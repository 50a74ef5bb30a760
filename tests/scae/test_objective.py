from typing import Any

import pytest
import torch
from monai.engines import default_prepare_batch
from monai.inferers import SimpleInferer
from scae.random_textures import random_textures
from torch import nn

from scripts.common.errors import RequestError
from scripts.scae.objective import DARKER, ExtendedLoss, darkness, make_recipe
from scripts.scae.scae_network import SCAE
from scripts.scae.views import StainViews


def recipe_of(objective: str = "extended", **options: Any) -> Any:
    torch.manual_seed(0)
    return make_recipe(objective, channels=128, views=StainViews(), **options)


def test_paper_is_the_mean_squared_error_of_the_patch() -> None:
    recipe = recipe_of("paper")
    assert recipe.prepare_batch is default_prepare_batch
    assert isinstance(recipe.inferer, SimpleInferer) and isinstance(recipe.loss, nn.MSELoss)


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(RequestError, match=r"'paperr'.*paper, extended"):
        recipe_of("paperr")


@pytest.mark.parametrize("strategy", ["separated", "foreground", "background", "mixed"])
def test_both_terms_reach_the_encoder(strategy: str) -> None:
    torch.manual_seed(0)
    scae = SCAE(strategy=strategy)
    torch.manual_seed(0)
    recipe = make_recipe("extended", channels=scae.channels, views=StainViews(), decoded=2)
    inputs, target = recipe.prepare_batch({"image": random_textures(4)}, "cpu")
    parts = recipe.inferer(inputs, scae)
    assert parts.vector.shape == (8, scae.channels)
    assert parts.reconstruction.shape == (2, 3, 80, 80)
    recipe.loss(parts, target).backward()
    without = {name for name, p in scae.named_parameters() if p.grad is None or not (p.grad != 0).any()}
    assert without == set()
    assert all(p.grad is not None for p in recipe.loss.parameters())


def test_the_contrast_alone_trains_the_encoder_and_leaves_the_decoders() -> None:
    torch.manual_seed(0)
    scae, loss = SCAE(), ExtendedLoss(128, weight=1.0, temperature=0.5, dark_weight=0.0)
    parts = scae.decompose(random_textures(4), decoded=1)
    loss(parts._replace(reconstruction=torch.zeros(1, 3, 112, 112)), torch.zeros(4, 3, 112, 112)).backward()
    reached = {name.split(".")[0] for name, p in scae.named_parameters() if p.grad is not None}
    assert reached == {"trunk", "to_foreground", "to_background", "detect"}


def test_the_contrast_is_lower_for_views_of_one_patch() -> None:
    torch.manual_seed(0)
    loss = ExtendedLoss(16, weight=1.0, temperature=0.2, dark_weight=0.0).eval()
    vectors, image = torch.randn(8, 16), torch.zeros(16, 3, 16, 16)
    parts = SCAE().eval().decompose(random_textures(1))._replace(reconstruction=image[:1])
    same = loss(parts._replace(vector=torch.cat([vectors, vectors])), image)
    other = loss(parts._replace(vector=torch.cat([vectors, vectors.roll(1, 0)])), image)
    assert same < other - 1


def test_darkness_is_in_deviations_of_the_patch() -> None:
    patches = torch.ones(2, 3, 16, 16)
    patches[:, :, :8] = 0.1  # the upper half is dark
    upper = torch.zeros(2, 1, 4, 4)
    upper[:, :, :2] = 1
    torch.testing.assert_close(darkness(upper, patches), torch.ones(2), atol=0.05, rtol=0)
    torch.testing.assert_close(darkness(1 - upper, patches), -torch.ones(2), atol=0.05, rtol=0)
    assert darkness(torch.zeros(2, 1, 4, 4), patches).tolist() == [0, 0]


def test_the_prior_turns_a_mask_away_from_light_and_then_asks_no_more() -> None:
    torch.manual_seed(0)
    loss, views = ExtendedLoss(16, weight=0.0, temperature=0.1, dark_weight=1.0), random_textures(4, side_px=16)
    parts = SCAE().eval().decompose(random_textures(1))._replace(vector=torch.randn(4, 16), reconstruction=views)
    logits = (20 * views.mean(1, keepdim=True)[..., ::4, ::4] - 10).requires_grad_()  # light is active
    light = loss(parts._replace(mask=logits.sigmoid()), views)
    light.backward()
    assert light > DARKER and (logits.grad * (logits.detach() - logits.detach().mean())).sum() > 0
    dark = loss(parts._replace(mask=(-logits).sigmoid()), views)
    assert dark.item() == pytest.approx(0, abs=0.2)


def test_contrast_falls_in_a_few_steps() -> None:
    torch.manual_seed(0)
    scae, recipe = SCAE(), recipe_of(decoded=2)
    optimizer = torch.optim.AdamW([*scae.parameters(), *recipe.loss.parameters()], lr=3e-3)
    losses = []
    for _ in range(12):
        inputs, target = recipe.prepare_batch({"image": random_textures(8)}, "cpu")
        loss = recipe.loss(recipe.inferer(inputs, scae), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
