"""Grad-CAM of DSNet: where on the slide the evidence for a class lies (V-F, Fig. 10).

Alignment: the head's map has ceil(H/4) x ceil(W/4) cells. Both strides of 2 belong to convolutions with odd windows and half padding, so
cell (i, j) is centred on the patch in row 4i, column 4j of V, not on the middle of a block of 4x4 patches. The map is therefore
interpolated linearly between patches 4 apart; repeating every cell 4x4 times would shift it by 1.5 patches to the right and down.

MONAI's ``GradCAM`` does not serve: its hooks stay on the network (which cannot be scripted afterwards), it takes layers with one
output, fills ``.grad`` of every parameter, and its upsampling aligns neither as above nor by the mask.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .network import DSNet
from .packing import unpack

HEAD_STRIDE = 4
"""Step of the head's map in patches: two blocks of stride 2 in Table I."""


def grad_cam(network: DSNet, image: Tensor, class_index: int) -> NDArray[np.float32]:
    """Make the Grad-CAM map of one slide at the last 1x1 convolution, ``network.head`` (V-F; Selvaraju et al. 2017, eq. 1 and 2).

    The weight of a channel is the mean over the observed cells of the gradient of the class's logit; the map is the positive part of
    the weighted sum of channels, interpolated to V's grid. It is divided by its maximum over the observed patches, so it compares
    places within a slide, not slides. The network is left as it was: mode, hooks and gradients.

    Args:
        network: trained or not, in either mode; it runs in evaluation mode.
        image: (1, C + 12L, H, W), see :mod:`.packing`, on the network's device.
        class_index: class that the evidence is for.

    Returns:
        (H, W), from 0 to 1; 0 where no patch was observed, and everywhere when nothing speaks for the class.

    Raises:
        ValueError: ``image`` is not one slide, has no observed patch, or there is no class ``class_index``.
    """
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(
            f"image has shape {tuple(image.shape)}, expected (1, channels, H, W): give one slide at a time"
        )
    observed = unpack(image, network.embedding_channels)[1][0, 0]
    if not observed.any():
        raise ValueError("image holds no observed patch, expected at least one: leave the slide out")

    # An evaluator may be in inference mode, whose tensors cannot be differentiated.
    with torch.inference_mode(False):
        features, mask, logits = _head_and_logits(network, image.clone())
        if not 0 <= class_index < logits.shape[1]:
            raise ValueError(f"class_index {class_index}, expected 0 to {logits.shape[1] - 1}")
        chosen = torch.zeros_like(logits).index_fill_(1, torch.tensor([class_index], device=logits.device), 1.0)
        (gradient,) = torch.autograd.grad(logits, features, grad_outputs=chosen)
    weights = (gradient * mask).sum(dim=(2, 3), keepdim=True) / mask.sum()
    cells = (weights * features.detach()).sum(dim=1).relu()[0]

    cam = align_to_patches(cells, mask[0, 0], shape_yx=(image.shape[2], image.shape[3])) * observed
    highest = cam.max()
    if highest > 0:
        cam = cam / highest
    return cam.cpu().numpy().astype(np.float32)


def align_to_patches(cells: Tensor, mask: Tensor, *, shape_yx: tuple[int, int]) -> Tensor:
    """Interpolate the head's map (h, w) to V's grid: cell (i, j) is the value at patch (4i, 4j), patches between are linear.

    Only cells with ``mask`` (h, w) one take part, so the empty ones beside tissue do not dim it. Patches beyond the last cell take
    its value; a patch with no such cell around it is 0.

    Returns:
        ``shape_yx``, float32.
    """
    rows = _interpolation(shape_yx[0], cells.shape[0]).to(cells.device)
    columns = _interpolation(shape_yx[1], cells.shape[1]).to(cells.device)
    mask = mask.float()
    weight = rows @ mask @ columns.T
    value = rows @ (cells.float() * mask) @ columns.T
    return torch.where(weight > 0, value / weight.clamp(min=1e-12), torch.zeros_like(value))


def _interpolation(patches: int, cells: int) -> Tensor:
    """Weights (patches, cells) of linear interpolation between cells that lie `HEAD_STRIDE` patches apart from patch 0 on."""
    position = (torch.arange(patches) / HEAD_STRIDE).clamp(max=cells - 1)
    return (1 - (position[:, None] - torch.arange(cells)).abs()).clamp(min=0)


def _head_and_logits(network: DSNet, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Run the network and return the head's map (1, 640, h, w), its mask (1, 1, h, w) and logits (1, classes) that depend on it.

    Gradients are recorded from the head's output on only, which saves the memory of both streams on large slides.
    """
    captured: list[Tensor] = []

    def start_recording(_module: nn.Module, _inputs: object, output: tuple[Tensor, Tensor, Tensor]) -> None:
        captured.extend((output[0].requires_grad_(), output[1]))
        torch.set_grad_enabled(True)  # until no_grad below ends, which restores the caller's setting

    was_training = network.training
    hook = network.head.register_forward_hook(start_recording)
    try:
        network.eval()
        with torch.no_grad():
            logits = network(image)
    finally:
        hook.remove()
        network.train(was_training)
    features, mask = captured
    return features, mask, logits
