"""Where on the slide the evidence for a class lies: Grad-CAM and related methods at a layer of DSNet (V-F, Fig. 10).

The paper takes the last 1x1 convolution, `PAPER_LAYER`. Its cells are 4 patches apart and each sees patches up to 58 away, so the
map's maximum often lies beside a small lesion. The default is the first embedding block, whose cells are 2 patches apart
(docs/decisions/0012); what the thumbnail stream contributes is not shown.

Alignment: a layer's map has ceil(H/s) x ceil(W/s) cells. All strides belong to convolutions with odd windows and half padding. So
cell (i, j) is centred on the patch in row s i, column s j of V, not on the middle of a block of patches. The map is therefore
interpolated linearly between patches s apart; repeating every cell would shift it by (s - 1)/2 patches to the right and down.

MONAI's ``GradCAM`` does not serve. Its hooks stay on the network, which cannot be scripted afterwards. It takes layers with one
output, and fills ``.grad`` of every parameter. Its upsampling aligns neither as above nor by the mask.
"""

from collections.abc import Callable
from itertools import accumulate
from operator import mul

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ..common.networks import evaluating
from ..common.option_table import checked
from ..common.option_types import Word
from ..common.option_words import Cam
from .network import DSNet
from .packing import unpack
from .sparse import SparseMap
from .streams import EMBEDDING_BLOCKS

PAPER_LAYER = "head"
DEFAULT_LAYER = "embedding_blocks.0"
_STRIDES = list(accumulate((stride for _, stride in EMBEDDING_BLOCKS), mul))
LAYERS = {f"embedding_blocks.{index}": stride for index, stride in enumerate(_STRIDES)} | {PAPER_LAYER: _STRIDES[-1]}
"""Layers that a map can be made at, with the step of their cells in patches."""
LAYER = Word(tuple(LAYERS))


def _grad_cam(x: Tensor, gradient: Tensor, o: Tensor) -> Tensor:
    """Channels weighted by the mean gradient over the observed cells (Selvaraju et al. 2017, eq. 1 and 2)."""
    weights = (gradient * o).sum(dim=(2, 3), keepdim=True) / o.sum()
    return (weights * x).sum(dim=1)


def _grad_cam_pp(x: Tensor, gradient: Tensor, o: Tensor) -> Tensor:
    """Positive gradients weighted as for an exponential score (Chattopadhyay et al. 2018, eq. 19)."""
    square = gradient.square()
    below = 2 * square + (x * square * gradient * o).sum(dim=(2, 3), keepdim=True)
    alpha = torch.where(below != 0, square / below, torch.zeros_like(below))
    weights = (alpha * gradient.relu() * o).sum(dim=(2, 3), keepdim=True)
    return (weights * x).sum(dim=1)


def _hires_cam(x: Tensor, gradient: Tensor, o: Tensor) -> Tensor:
    """Gradient times activation, cell by cell (Draelos and Carin 2020)."""
    return (gradient * x).sum(dim=1)


def _layer_cam(x: Tensor, gradient: Tensor, o: Tensor) -> Tensor:
    """Positive gradient times activation, cell by cell (Jiang et al. 2021, eq. 6 and 7)."""
    return (gradient.relu() * x).sum(dim=1)


METHODS: dict[Cam, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "gradcam": _grad_cam,
    "gradcam++": _grad_cam_pp,
    "hirescam": _hires_cam,
    "layercam": _layer_cam,
}
"""Each takes a layer's map (1, C, h, w), its gradient and its mask (1, 1, h, w), and returns evidence (1, h, w) of either sign."""


def class_activation_map(
    network: DSNet, image: Tensor, class_index: int, *, layer: str = DEFAULT_LAYER, method: Cam = "gradcam"
) -> NDArray[np.float32]:
    """Make the map of one slide.

    The map is the positive part of what ``method`` makes of the layer's map and of the gradient of the class's logit, interpolated
    to V's grid. It is divided by its maximum over the observed patches, so it compares places within a slide, not slides. The
    network is left as it was: mode, hooks and gradients.

    Args:
        network: trained or not, in either mode; it runs in evaluation mode.
        image: (1, C + 12L, H, W), see :mod:`.packing`, on the network's device.
        class_index: class that the evidence is for.
        layer: one of `LAYERS`.
        method: one of `METHODS`.

    Returns:
        (H, W), from 0 to 1; 0 where no patch was observed, and everywhere when nothing speaks for the class.

    Raises:
        ValueError: ``image`` is not one slide, has no observed patch, or there is no such class.
        RequestError: there is no such layer or method.
    """
    checked("cam", method)
    checked("heat_map#layer", layer, LAYER)
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(
            f"image has shape {tuple(image.shape)}, expected (1, channels, H, W): give one slide at a time"
        )
    observed = unpack(image, network.embedding_channels)[1][0, 0]
    if not observed.any():
        raise ValueError("image holds no observed patch, expected at least one: leave the slide out")

    # An evaluator may be in inference mode, whose tensors cannot be differentiated.
    with torch.inference_mode(False):
        features, mask, logits = _layer_and_logits(network, layer, image.clone())
        if not 0 <= class_index < logits.shape[1]:
            raise ValueError(f"class_index {class_index}, expected 0 to {logits.shape[1] - 1}")
        chosen = torch.zeros_like(logits).index_fill_(1, torch.tensor([class_index], device=logits.device), 1.0)
        (gradient,) = torch.autograd.grad(logits, features, grad_outputs=chosen)
    cells = METHODS[method](features.detach(), gradient, mask)[0].relu()

    shape_yx = (image.shape[2], image.shape[3])
    cam = align_to_patches(cells, mask[0, 0], shape_yx=shape_yx, stride=LAYERS[layer]) * observed
    highest = cam.max()
    if highest > 0:
        cam = cam / highest
    return cam.cpu().numpy().astype(np.float32)


def align_to_patches(cells: Tensor, mask: Tensor, *, shape_yx: tuple[int, int], stride: int) -> Tensor:
    """Interpolate a layer's map (h, w) to V's grid: cell (i, j) is the value at patch (s i, s j), patches between are linear.

    Only cells with ``mask`` (h, w) one take part, so the empty ones beside tissue do not dim it. Patches beyond the last cell take
    its value; a patch with no such cell around it is 0.

    Returns:
        ``shape_yx``, float32.
    """
    rows = _interpolation(shape_yx[0], cells.shape[0], stride).to(cells.device)
    columns = _interpolation(shape_yx[1], cells.shape[1], stride).to(cells.device)
    mask = mask.float()
    weight = rows @ mask @ columns.T
    value = rows @ (cells.float() * mask) @ columns.T
    return torch.where(weight > 0, value / weight.clamp(min=1e-12), torch.zeros_like(value))


def _interpolation(patches: int, cells: int, stride: int) -> Tensor:
    """Weights (patches, cells) of linear interpolation between cells that lie ``stride`` patches apart from patch 0 on."""
    position = (torch.arange(patches) / stride).clamp(max=cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def _layer_and_logits(network: DSNet, layer: str, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run the network and return the layer's map (1, C, h, w), its mask (1, 1, h, w) and logits (1, classes) that depend on it.

    Gradients are recorded from the layer's output on only, and not those of the weights, which saves memory on large slides.
    """
    captured: list[Tensor] = []

    def start_recording(_module: nn.Module, _inputs: object, output: SparseMap) -> None:
        captured.extend((output.values.requires_grad_(), output.observed))
        torch.set_grad_enabled(True)  # until `evaluating` below ends, which restores the caller's setting

    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    hook = network.get_submodule(layer).register_forward_hook(start_recording)
    try:
        with evaluating(network):
            logits = functional_call(network, weights, (image,))
    finally:
        hook.remove()
    features, mask = captured
    return features, mask, logits
