import pytest
import torch
from dsnet.random_matrices import random_image, random_mask

from scripts.baselines.graph import GraphConvolution, GraphPooling


def test_convolution_on_the_graph_of_neighbours() -> None:
    """Against D^-1/2 (A + I) D^-1/2 X W of the adjacency matrix."""
    torch.manual_seed(0)
    layer, o = GraphConvolution(5, 3), random_mask(1, 4, 5).float()
    x = torch.randn(1, 5, 4, 5) * o
    yx = torch.nonzero(o[0, 0])
    adjacent = ((yx[:, None] - yx[None]).abs().amax(dim=2) <= 1).float()
    scale = adjacent.sum(dim=1).rsqrt()
    nodes = x[0][:, o[0, 0] > 0].t()
    weight, bias = layer.linear.weight[:, :, 0, 0], layer.linear.bias
    expected = (scale[:, None] * adjacent * scale) @ nodes @ weight.t() + bias
    torch.testing.assert_close(layer(x, o)[0][:, o[0, 0] > 0].t(), expected)
    assert not layer(x, o)[:, :, o[0, 0] == 0].any()


def test_each_pooling_keeps_half() -> None:
    torch.manual_seed(0)
    network = GraphPooling(2, embedding_channels=8).eval()
    image = random_image(6, 7, embedding_channels=8)[None]
    observed = int(network.patches(image)[1].sum())
    outlived = network.attention_map(image)
    counts = [int((outlived >= n).sum()) for n in (1, 2, 3)]
    expected, left = [], observed
    for _ in range(3):
        left = -(-left // 2)
        expected.append(left)
    assert counts == expected


@pytest.mark.parametrize("classes", [2, 3])
def test_channels_that_tell_the_classes_apart_are_selected(classes: int) -> None:
    """Channels 1 and 5 are shifted in the slides of the last class."""
    slides = []
    for seed in range(9):
        image = random_image(9, 9, seed=seed, embedding_channels=8)[None]
        seen = (image[:, :8] != 0).any(dim=1)
        label = seed % classes
        for channel in (1, 5):
            image[:, channel] += 1.5 * seen * (label == classes - 1)
        slides.append((image, label))
    network = GraphPooling(classes, keep=0.25, embedding_channels=8)
    network.fit(slides)
    assert torch.nonzero(network.selection.values)[:, 0].tolist() == [1, 5]


def test_channels_are_selected_whatever_device_the_network_lies_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its statistics lie there, too, so that a slide is standardised there; the meta device stands in for a GPU."""
    torch.manual_seed(0)
    image, twin = random_image(6, 7, embedding_channels=8)[None], GraphPooling(2, embedding_channels=8)
    network = GraphPooling(2, embedding_channels=8).to("meta")
    network.selection.to_empty(device="cpu")

    def there(found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert found.device == network.standardise.mean.device
        return twin.patches(image)

    monkeypatch.setattr(network, "patches", there)
    network.fit([(image.to("meta"), 0), (image.to("meta"), 1)])
    assert int(network.selection.values.sum()) == 4
