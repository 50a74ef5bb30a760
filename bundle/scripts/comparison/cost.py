"""What a network costs: parameters, and operations on one slide."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..common.networks import trainable_parameters
from ..training.batches import image_of
from ..training.card import network_from_card
from ..training.model_card import ModelCard
from ..training.transforms import LoadEmbeddingd


@dataclass(frozen=True)
class Cost:
    """Of a network.

    Attributes:
        parameters: trainable ones.
        gflop: 1e9 operations (an addition and a multiplication are two) of convolutions and matrix products on one slide.
    """

    parameters: int
    gflop: float


def cost_of(card: ModelCard, item: Mapping[str, Any]) -> Cost:
    """Count for the network of ``card`` on the slide ``item``, see :class:`..training.training_table.EmbeddingTable`."""
    network = network_from_card(card).eval()
    levels = {
        "thumbnail_levels": card.thumbnail_levels or item["thumbnail_levels"],
        "channel_range": card.channels,
    }
    image = image_of(LoadEmbeddingd()({**item, **levels}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return Cost(trainable_parameters(network), counter.get_total_flops() / 1e9)
