import numpy as np
import pytest
import torch
from random_matrices import random_image

from scripts.common.errors import RequestError
from scripts.dsnet.grad_cam import METHODS, grad_cam
from scripts.dsnet.heat_map import HeatMap
from scripts.dsnet.network import DSNet
from scripts.dsnet.segmentation import DSNetSegmentation


def test_a_classifier_is_asked_for_the_chosen_map() -> None:
    torch.manual_seed(0)
    network, image = DSNet(), random_image(14, 12)[None]
    chosen = HeatMap(cam="layercam", layer="head")(network, image, 1)
    np.testing.assert_array_equal(chosen, grad_cam(network, image, 1, layer="head", method="layercam"))
    np.testing.assert_array_equal(HeatMap()(network, image, 1), grad_cam(network, image, 1))


@pytest.mark.parametrize("training", [True, False])
def test_a_segmentation_shows_its_probabilities(training: bool) -> None:
    torch.manual_seed(0)
    network, image = DSNetSegmentation().train(training), random_image(14, 12)[None]
    shown = HeatMap()(network, image, 1)
    assert network.training is training
    observed = (image[0, :128] != 0).any(dim=0).numpy()
    with torch.no_grad():
        expected = torch.sigmoid(network.eval()(image))[0, 0].numpy()
    np.testing.assert_allclose(shown[observed], expected[observed], rtol=1e-6)
    assert not shown[~observed].any() and (~observed).any()
    assert not HeatMap()(network, image, 0).any()


def test_maps_say_what_they_are() -> None:
    kind = HeatMap(cam="gradcam++").kind(DSNet())
    assert (kind.title, kind.unit) == ("Grad-CAM++", "share of the slide's maximum")
    kind = HeatMap().kind(DSNetSegmentation())
    assert (kind.title, kind.unit) == ("Lesion map", "probability")
    assert all(HeatMap(cam=method).kind(DSNet()).title for method in METHODS)


@pytest.mark.parametrize("options", [{"cam": "grad-cam"}, {"layer": "tail"}], ids=str)
def test_an_unknown_map_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="expected one of"):
        HeatMap(**options)
