"""ResNet-50 to the end of its third stage: the encoder that CLAM made common (``resnet50_trunc``)."""

import logging
from collections import OrderedDict
from pathlib import Path

import torch
from monai.networks.nets import resnet50
from torch import nn

from ..common.weights import read_state_dict, require_fitting_weights

RANDOM = "random"
_LOGGER = logging.getLogger(__name__)


def resnet50_stage3(weights: str | Path) -> nn.Module:
    """Make MONAI's ResNet-50 without its fourth stage; it maps (B, 3, h, w) to the mean of its features, (B, 1024).

    Args:
        weights: file with a state dict by torchvision's names, which are MONAI's too (``layer1.0.conv1.weight``), such as
            torchvision's of ImageNet; entries of the fourth stage and the classifier are left. "random": no training at all.

    Raises:
        RequestError: the file is missing, is no checkpoint, or is of another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        # torchvision's form: stem of stride 2, no bias beside batch norm, the stride of a block on its 3x3 convolution
        whole = resnet50(
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            bias_downsample=False,
            num_classes=1,
            feed_forward=False,
        )
    parts: list[tuple[str, nn.Module]] = [
        (name, getattr(whole, name)) for name in ("conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3")
    ]
    network = nn.Sequential(OrderedDict([*parts, ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]))
    if str(weights) == RANDOM:
        _LOGGER.warning("the encoder's weights are random: good for a trial of the way, not for results")
        return network
    expected = "a state dict of ResNet-50 by torchvision's names"
    state = read_state_dict(weights, expected=expected)
    own = network.state_dict()
    # Older files lack the counters of batch norm.
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    taken = {
        name: value.to(own[name].dtype) if name in own else value  # also published in halves
        for name, value in state.items()
        if not name.startswith(("layer4.", "fc."))
    }
    require_fitting_weights(weights, counters | taken, network=network, expected=expected)
    network.load_state_dict(counters | taken)
    return network
