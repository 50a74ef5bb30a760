"""No operation mixes devices; the meta device stands in for a GPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from scripts.dsnet.network import DSNet
from scripts.dsnet.packing import pack_observed
from scripts.scae.scae_network import SCAE
from scripts.slides.geometry import resize_patches


class OneDevice(TorchFunctionMode):
    """Fail at an operation on tensors of two devices, as a GPU would; numbers (no axes) may come from anywhere."""

    def __torch_function__(
        self, func: Callable, types: Sequence, args: Sequence = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        devices = {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor) and leaf.dim() > 0}
        assert len(devices) < 2, f"{func} mixes {devices}"
        return func(*args, **(kwargs or {}))


def test_mixing_is_noticed() -> None:
    with OneDevice(), pytest.raises(AssertionError, match="mixes"):
        torch.matmul(torch.ones(2, 2), torch.ones(2, 2, device="meta"))


@pytest.mark.parametrize("side_px", [256, 64])
def test_resizing(side_px: int) -> None:
    patches = torch.empty(2, side_px, side_px, 3, dtype=torch.uint8, device="meta")
    with OneDevice():
        assert resize_patches(patches).device.type == "meta"


@pytest.mark.parametrize("training", [True, False])
def test_dsnet(training: bool) -> None:
    network = DSNet().to("meta").train(training)
    image = torch.empty(2, 164, 13, 10, device="meta")
    with OneDevice():
        outputs = network.attend(image)
    assert [output.device.type for output in outputs] == ["meta"] * 3


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("strategy", ["separated", "mixed"])
def test_scae(strategy: str, training: bool) -> None:
    network = SCAE(strategy=strategy).to("meta").train(training)
    patches = torch.empty(2, 3, 112, 112, device="meta")
    with OneDevice():
        assert network(patches).device.type == "meta"
        assert network.encode(patches).device.type == "meta"


def test_the_input_of_observed_patches() -> None:
    vectors, cells = (
        torch.empty(7, 4, dtype=torch.float16, device="meta"),
        torch.empty(7, dtype=torch.long, device="meta"),
    )
    t = torch.empty(2, 9, 10, 8, dtype=torch.uint8, device="meta")
    with OneDevice():
        assert pack_observed(vectors, cells, t).shape == (2, 4 + 36, 5, 4)
