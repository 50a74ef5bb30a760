import numpy as np
import pytest
import torch
from random_matrices import random_image

from scripts.baselines.attention_pooling import AttentionPooling
from scripts.common.errors import RequestError
from scripts.dsnet.grad_cam import LAYERS, METHODS, class_activation_map
from scripts.dsnet.heat_map import HeatMap, Network
from scripts.dsnet.network import DSNet
from scripts.dsnet.segmentation import DSNetSegmentation


def test_a_classifier_is_asked_for_the_chosen_map() -> None:
    torch.manual_seed(0)
    network, image = DSNet(), random_image(14, 12)[None]
    chosen = HeatMap(cam="layercam", layer="head")(network, image, 1)
    np.testing.assert_array_equal(chosen, class_activation_map(network, image, 1, layer="head", method="layercam"))
    np.testing.assert_array_equal(HeatMap()(network, image, 1), class_activation_map(network, image, 1))


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


@pytest.mark.parametrize("options", [{"cam": "grad-cam"}, {"layer": "tail"}, {"source": "both"}], ids=str)
def test_an_unknown_map_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(RequestError, match="expected one of"):
        HeatMap(**options)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_head_at_the_patch_shows_its_probabilities(classes: int) -> None:
    torch.manual_seed(0)
    network, image = DSNet(classes, head="patch").train(), random_image(14, 12)[None]
    maps = np.stack([HeatMap()(network, image, index) for index in range(classes)])
    observed = (image[0, :128] != 0).any(dim=0).numpy()
    assert network.training and HeatMap().kind(network).is_probability
    with torch.no_grad():
        expected = torch.softmax(network.eval().patch_logits(image)[0], dim=0).numpy()
    np.testing.assert_allclose(maps[:, observed], expected[:, observed], rtol=1e-5)
    assert not maps[:, ~observed].any()


@pytest.mark.parametrize("layer", LAYERS)
def test_class_activation_maps_stay_available(layer: str) -> None:
    torch.manual_seed(0)
    network, image = DSNet(head="patch"), random_image(14, 12)[None]
    shown = HeatMap(layer=layer, source="cam")(network, image, 1)
    np.testing.assert_array_equal(shown, class_activation_map(network, image, 1, layer=layer))
    assert HeatMap(source="cam").kind(network).title == "Grad-CAM"


def test_attention_pooling_shows_its_patches() -> None:
    torch.manual_seed(0)
    network, image = AttentionPooling().eval(), random_image(14, 12)[None]
    observed = (image[0, :128] != 0).any(dim=0).numpy()
    shown = HeatMap()(network, image, 1)
    assert (shown[observed] > 0).all() and not shown[~observed].any()


@pytest.mark.parametrize(
    ("network", "source"), [(DSNet, "probability"), (DSNetSegmentation, "cam"), (AttentionPooling, "cam")]
)
def test_a_map_that_the_network_does_not_have_is_refused(network: type[Network], source: str) -> None:
    with pytest.raises(RequestError, match=f"heat_map#source '{source}': .*expected "):
        HeatMap(source=source).kind(network())
