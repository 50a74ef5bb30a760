"""The heat map that a network has for one slide: its patches' own probabilities, or a class activation map."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..common.errors import RequestError
from ..common.networks import evaluating
from ..common.option_table import checked
from ..common.option_words import Cam, MapSource
from .baseline import Baseline, BaselineMap
from .grad_cam import DEFAULT_LAYER, LAYER, class_activation_map
from .network import DSNet
from .packing import unpack
from .segmentation import DSNetSegmentation

Network = DSNet | DSNetSegmentation | Baseline
"""What train.yaml and its overlays train."""

_TITLES: dict[Cam, str] = {
    "gradcam": "Grad-CAM",
    "gradcam++": "Grad-CAM++",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
}


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
PATCH_MAP = MapKind("Patch map", is_probability=True)
ATTENTION_MAP = MapKind("Attention", is_probability=False)

_OF_BASELINE: dict[BaselineMap, MapKind | None] = {"patches": PATCH_MAP, "attention": ATTENTION_MAP, "none": None}


class HeatMap:
    """Makes heat maps.

    Args:
        cam: method, one of :data:`.grad_cam.METHODS`.
        layer: where on the network, one of :data:`.grad_cam.LAYERS`.
        source: ``probability``, what a network that decides at the patch says of each; ``cam``, a class activation map;
            ``auto``, the former where the network has it.

    Raises:
        RequestError: no such method, layer or source.
    """

    def __init__(self, cam: Cam = "gradcam", layer: str = DEFAULT_LAYER, source: MapSource = "auto") -> None:
        self.cam: Cam = checked("cam", cam)
        self.source: MapSource = checked("heat_map#source", source)
        self.layer: str = checked("heat_map#layer", layer, LAYER)

    def __call__(self, network: Network, image: Tensor, class_index: int) -> NDArray[np.float32]:
        """Return the map (H, W) of one slide, from 0 to 1 and 0 where no patch was observed; zeros where the network has none.

        Args:
            network: on the device of ``image``.
            image: (1, C + 12L, H, W), see :mod:`.packing`.
            class_index: class that the evidence is for; the map of a segmentation is for class 1 and has nothing to show for class
                0.
        """
        kind = self.kind(network)
        if kind is None:
            return np.zeros(tuple(image.shape[2:]), dtype=np.float32)
        if kind.is_probability:
            return patch_probability(network, image, class_index)
        if isinstance(network, Baseline):
            return attention_share(network, image)
        assert isinstance(network, DSNet)
        return class_activation_map(network, image, class_index, layer=self.layer, method=self.cam)

    def kind(self, network: Network) -> MapKind | None:
        """Say what the maps of ``network`` are; None where it has none.

        Raises:
            RequestError: it has no map of the source asked for.
        """
        if isinstance(network, Baseline):
            return self._of_baseline(network)
        at_slide = isinstance(network, DSNet) and network.decoder is None
        if self.source == "probability" and at_slide:
            raise RequestError(
                "heat_map#source 'probability': this network decides at the slide and has no probabilities of patches; expected "
                "cam, or a network with head patch, such as recommended.yaml trains"
            )
        if self.source != "cam" and not at_slide:
            return LESION_MAP if isinstance(network, DSNetSegmentation) else PATCH_MAP
        if not isinstance(network, DSNet):
            raise RequestError(
                f"heat_map#source 'cam': a {type(network).__name__} has no class activation map; expected probability or auto"
            )
        return MapKind(_TITLES[self.cam], is_probability=False)

    def _of_baseline(self, network: Baseline) -> MapKind | None:
        found = _OF_BASELINE[network.map_source]
        if self.source == "cam" or (self.source == "probability" and found is not PATCH_MAP):
            raise RequestError(f"heat_map#source {self.source!r}: a {type(network).__name__} has none; expected auto")
        return found


def patch_probability(network: Network, image: Tensor, class_index: int) -> NDArray[np.float32]:
    """Return the probability of a class per patch (H, W) of one slide ``image`` (1, C + 12L, H, W), 0 where none was observed.

    Of a segmentation, whose class 0 is the lack of lesions, nothing is shown for that class.
    """
    with evaluating(network):
        logits = network.patch_logits(image)[0].float()
    observed = unpack(image, network.embedding_channels)[1][0, 0]
    probability = torch.softmax(logits, dim=0)[class_index]
    if isinstance(network, DSNetSegmentation) and class_index == 0:
        probability = torch.zeros_like(probability)
    return (probability * observed).cpu().numpy().astype(np.float32)


def attention_share(network: Baseline, image: Tensor) -> NDArray[np.float32]:
    """Return the attention paid to each patch (H, W) of one slide ``image`` (1, C + 12L, H, W), as a share of the highest.

    It says what was looked at, whatever the class.
    """
    with evaluating(network):
        attention = network.attention_map(image)[0, 0].float()
    share = attention / attention.max().clamp(min=torch.finfo(torch.float32).tiny)
    return share.cpu().numpy().astype(np.float32)
