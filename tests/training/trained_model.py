"""Weights and their card as training leaves them, for tests that need no training."""

from pathlib import Path

import torch

from scripts.common.files import sha256_of, write_json
from scripts.dsnet.network import DSNet
from scripts.training.model_card import FORMAT, card_path


def trained(folder: Path, **arguments: object) -> Path:
    """Weights and card of a network, as training leaves them."""
    network = DSNet(embedding_channels=6, **arguments)
    model = folder / "model.pt"
    torch.save({"model": network.state_dict()}, model)
    card = {
        "format": FORMAT,
        "class_names": ["0", "1"],
        "threshold": 0.5,
        "threshold_from": "val",
        "encoder": "A sha256:1",
    }
    write_json(card_path(model), {**card, "network": network.arguments, "weights_sha256": sha256_of(model)})
    return model
