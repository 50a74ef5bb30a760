"""What the application takes from the bundle: the objects of ``inference.yaml``, the model card, and a checked ``model.ts``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from scripts.common.errors import RequestError
from scripts.common.files import sha256_of
from scripts.common.json_files import read_json
from scripts.common.weights import read_weights, require_finite_weights, require_fitting_weights
from scripts.dsnet.network import DSNet
from scripts.encoding.job import EncodingJob
from scripts.inference.heat_maps import class_index
from scripts.training.card import network_from_card, read_card
from scripts.training.model_card import ModelCard, card_path

EXPORT = "`make package` writes one that is: unpack its zip anew"


@dataclass(frozen=True)
class Recipe:
    """How the bundle classifies a slide.

    Attributes:
        model: weights that the card belongs to; they may be absent.
        card: the model card.
        threshold: on the calibrated P(class 1); None for more than two classes.
        target: number of the heat maps' class; None leaves it to :class:`scripts.inference.heat_maps.HeatMapWriter`.
        metadata: ``metadata.json``.
        device: where encoder and network run.
        job: how a slide is encoded, but for the folder.
        preprocessing: from an item of such a set to what `image_of` makes the network's input of.
        network: the weights of ``model.ts`` in a network that Grad-CAM can look into.
    """

    model: Path
    card: ModelCard
    threshold: float | None
    target: int | None
    metadata: dict[str, Any]
    device: torch.device
    job: EncodingJob
    preprocessing: Compose
    network: DSNet


def read_recipe(bundle: Path) -> Recipe:
    """Read a bundle's folder.

    Raises:
        RequestError: a file is missing, or model card, ``model.ts`` and ``model.pt`` do not belong together.
    """
    model = bundle / "models" / "model.pt"  # names the card; the file itself may be absent
    if not card_path(model).is_file():
        raise RequestError(
            f"{card_path(model)}: no such file, expected the model card that train.yaml writes: put it there"
        )
    card = read_card(model)
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / "inference.yaml")
    parser.update({"bundle_root": str(bundle)})
    device, threshold = parser.get_parsed_content("device"), parser.get_parsed_content("threshold")
    return Recipe(
        model=model,
        card=card,
        threshold=card.threshold if threshold is None else threshold,
        target=class_index(card, parser.get_parsed_content("heat_map_writer#target_class")),
        metadata=read_json(
            bundle / "configs" / "metadata.json", expected="the bundle's metadata: unpack the bundle anew"
        ),
        device=device,
        job=parser.get_parsed_content("job"),
        preprocessing=parser.get_parsed_content("preprocessing"),
        network=_network_of(model.with_suffix(".ts"), model, card).to(device),
    )


def _network_of(scripted: Path, model: Path, card: ModelCard) -> DSNet:
    """Load the weights of ``model.ts``, and compare them with ``model.pt`` where that is there."""
    if not scripted.is_file():
        raise RequestError(f"{scripted}: no such file, expected the network as TorchScript: {EXPORT}")
    extra = {"metadata.json": "", "inference.json": ""}
    state = torch.jit.load(scripted, map_location="cpu", _extra_files=extra).state_dict()
    absent = [name for name, text in extra.items() if not text]
    if absent:
        raise RequestError(
            f"{scripted}: holds no {' and no '.join(absent)}, which MONAI Deploy reads from it: {EXPORT}"
        )
    network = network_from_card(card)
    constants = {name for name, _ in network.named_buffers()} - set(network.state_dict())  # TorchScript keeps them too
    state = {name: value for name, value in state.items() if name not in constants}
    require_fitting_weights(scripted, state, network=network, expected="an export of the model that the card describes")
    require_finite_weights(scripted, state)
    network.load_state_dict(state)
    if model.is_file():
        trained = read_weights(model, network=network, made_by="train.yaml")
        if card.weights_sha256 != sha256_of(model) or not all(
            torch.equal(state[name], trained[name]) for name in trained
        ):
            raise RequestError(f"{scripted}: not made from {model} and its card, expected an export of them: {EXPORT}")
    return network.eval()
