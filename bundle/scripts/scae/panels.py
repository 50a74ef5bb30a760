"""S-CAE at work on some patches, part by part, in the order of Fig. 2."""

from torch import Tensor
from torch.nn import functional as F

from ..common.networks import evaluating
from .detections import CELL_PX
from .scae_network import SCAE


def panels(network: SCAE, patches: Tensor) -> dict[str, Tensor]:
    """Return what S-CAE makes of patches, by name; the network is left in the mode that it was in.

    Args:
        network: trained or not; it runs in evaluation mode, so the mask is the hard one.
        patches: (B, 3, 112, 112) in [0, 1], on the network's device.

    Returns:
        "input", "foreground", "background", "detection mask", "reconstruction", each (B, 3, 112, 112) in [0, 1]. A network with one
        dense branch (strategy "mixed") has no foreground and no mask.
    """
    with evaluating(network):
        parts = network.decompose(patches)
    mask = None if parts.mask is None else F.interpolate(parts.mask, scale_factor=CELL_PX).expand(-1, 3, -1, -1)
    found = {
        "input": patches,
        "foreground": parts.foreground,
        "background": parts.background,
        "detection mask": mask,
        "reconstruction": parts.reconstruction,
    }
    return {name: images.clamp(0, 1) for name, images in found.items() if images is not None}


def evenly_spaced(count: int, *, of: int) -> list[int]:
    """Return ``count`` indices (or ``of``, if that is fewer) at even steps from 0 on."""
    count = min(count, of)
    return [index * of // count for index in range(count)]
