"""The heat map that a network has for one slide: Grad-CAM of a classifier, the lesion map of a segmentation."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..common.errors import RequestError
from .grad_cam import DEFAULT_LAYER, LAYERS, METHODS, grad_cam
from .network import DSNet
from .packing import unpack
from .segmentation import DSNetSegmentation

_TITLES = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "hirescam": "HiResCAM", "layercam": "LayerCAM"}


@dataclass(frozen=True)
class MapKind:
    """What the values of a map are, for whoever shows it.

    Attributes:
        title: such as "Grad-CAM".
        is_probability: whether they compare between slides; otherwise they are relative to the slide's maximum.
    """

    title: str
    is_probability: bool

    @property
    def unit(self) -> str:
        """The values in words."""
        return "probability" if self.is_probability else "share of the slide's maximum"


GRAD_CAM = MapKind("Grad-CAM", is_probability=False)
LESION_MAP = MapKind("Lesion map", is_probability=True)


class HeatMap:
    """Makes heat maps; the arguments matter to a classifier alone.

    Args:
        cam: method, one of :data:`.grad_cam.METHODS`.
        layer: where on the network, one of :data:`.grad_cam.LAYERS`.

    Raises:
        RequestError: no such method or layer.
    """

    def __init__(self, cam: str = "gradcam", layer: str = DEFAULT_LAYER) -> None:
        for option, value, known in (("cam", cam, METHODS), ("cam_layer", layer, LAYERS)):
            if value not in known:
                raise RequestError(f"{option} {value!r}: expected one of {', '.join(known)}")
        self.cam = cam
        self.layer = layer

    def __call__(self, network: DSNet | DSNetSegmentation, image: Tensor, class_index: int) -> NDArray[np.float32]:
        """Return the map (H, W) of one slide, from 0 to 1 and 0 where no patch was observed.

        Args:
            network: on the device of ``image``.
            image: (1, C + 12L, H, W), see :mod:`.packing`.
            class_index: class that the evidence is for; a lesion map is for class 1 and has nothing to show for class 0.
        """
        if isinstance(network, DSNetSegmentation):
            return lesion_map(network, image) * (class_index == 1)
        return grad_cam(network, image, class_index, layer=self.layer, method=self.cam)

    def kind(self, network: DSNet | DSNetSegmentation) -> MapKind:
        """Say what the maps of ``network`` are."""
        return (
            LESION_MAP if isinstance(network, DSNetSegmentation) else MapKind(_TITLES[self.cam], is_probability=False)
        )


def lesion_map(network: DSNetSegmentation, image: Tensor) -> NDArray[np.float32]:
    """Return the lesion probability a patch (H, W) of one slide ``image`` (1, C + 12L, H, W), 0 where none was observed."""
    was_training = network.training
    network.eval()
    with torch.no_grad():
        probability = torch.sigmoid(network(image)[0, 0].float())
    network.train(was_training)
    observed = unpack(image, network.embedding_channels)[1][0, 0]
    return (probability * observed).cpu().numpy().astype(np.float32)
