"""Everything a forward pass makes lies on the device of its input; the meta device stands in for a GPU."""

import pytest
import torch
from scripts.dsnet.network import DSNet
from scripts.scae.network import SCAE


@pytest.mark.parametrize("training", [True, False])
def test_dsnet(training: bool) -> None:
    network = DSNet().to("meta").train(training)
    outputs = network.attend(torch.empty(2, 164, 13, 10, device="meta"))
    assert [output.device.type for output in outputs] == ["meta"] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strategy", ["separated", "mixed"])
def test_scae(strategy: str, training: bool) -> None:
    network = SCAE(strategy=strategy).to("meta").train(training)
    patches = torch.empty(2, 3, 112, 112, device="meta")
    assert network(patches).device.type == "meta"
    assert network.encode(patches).device.type == "meta"
