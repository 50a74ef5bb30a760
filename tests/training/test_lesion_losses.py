"""Which cells the losses of lesion masks count."""

import pytest
import torch
from dsnet.random_matrices import random_image
from monai.losses import DiceCELoss
from torch import nn

from scripts.common.errors import RequestError
from scripts.dsnet.network import DSNet
from scripts.dsnet.segmentation import NO_TISSUE_LOGIT
from scripts.training.averaging import averaged_network
from scripts.training.lesion_losses import LesionLoss, SlideAndPatchLoss, with_patches
from scripts.training.lesion_targets import LESION, NO_LESION, UNKNOWN


def test_the_loss_sees_known_cells_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, 4, 5, generator=generator, requires_grad=True)
    target = torch.randint(0, 3, (2, 1, 4, 5), generator=generator).to(torch.uint8)
    known = target != UNKNOWN
    loss = LesionLoss()(logits, target)
    expected = DiceCELoss(sigmoid=True)(logits[known][None, None], (target[known] == LESION)[None, None].float())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()


def test_a_patch_that_was_left_out_by_chance_costs_nothing() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(1, 1, 4, 5), torch.full((1, 1, 4, 5), NO_LESION, dtype=torch.uint8)
    target[..., :2] = LESION
    logits[0, 0, 1, 1:4] = NO_TISSUE_LOGIT
    unknown = target.clone()
    unknown[0, 0, 1, 1:4] = UNKNOWN
    assert LesionLoss()(logits, target) == LesionLoss()(logits, unknown)


def test_the_loss_of_the_cells_sees_those_that_are_known() -> None:
    generator = torch.Generator().manual_seed(0)
    slides = torch.randn(2, 2, generator=generator)
    patches = torch.randn(2, 2, 4, 5, generator=generator, requires_grad=True)
    labels, lesion = torch.tensor([0, 1]), torch.randint(0, 3, (2, 1, 4, 5), generator=generator).to(torch.uint8)
    known = lesion != UNKNOWN
    loss = SlideAndPatchLoss(nn.CrossEntropyLoss(), 0.5)((slides, patches), (labels, lesion))
    evidence = (patches[:, 1] - patches[:, 0])[:, None]
    of_cells = DiceCELoss(sigmoid=True)(evidence[known][None, None], (lesion[known] == LESION).float()[None, None])
    of_slides = nn.functional.cross_entropy(slides, labels)
    torch.testing.assert_close(loss, of_slides + 0.5 * of_cells)
    loss.backward()
    assert patches.grad is not None
    assert (patches.grad[~known.expand_as(patches)] == 0).all() and (patches.grad[known.expand_as(patches)] != 0).all()
    nothing = SlideAndPatchLoss(nn.CrossEntropyLoss(), 0.5)((slides, patches), (labels, torch.zeros_like(lesion)))
    torch.testing.assert_close(nothing, of_slides)


def test_the_trainer_is_given_the_patches_and_nobody_else() -> None:
    """Also where the weights are averaged: the copy says what it says itself."""
    torch.manual_seed(0)
    network, image = DSNet(head="patch").eval(), random_image(9, 7)[None]
    slides, patches = network(image), network.patch_logits(image)
    assert with_patches(network) is network
    found = network(image)
    torch.testing.assert_close(found, (slides, patches))
    torch.testing.assert_close(network.attend(image)[0], slides)
    average = averaged_network(network, torch.optim.SGD(network.parameters(), lr=0.1), share=0.1)
    with torch.no_grad():
        network.decoder.lesion.bias += 1
    torch.testing.assert_close(average(image), (slides, patches))


def test_a_network_that_decides_at_the_slide_has_no_use_for_masks() -> None:
    with pytest.raises(RequestError, match=r"expected head patch.*recommended\.yaml before masks\.yaml"):
        with_patches(DSNet())


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(RequestError, match=r"mask_loss#weight.*-1\.0.*0 or more"):
        SlideAndPatchLoss(nn.CrossEntropyLoss(), -1.0)
