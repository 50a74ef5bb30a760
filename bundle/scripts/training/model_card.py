"""The model card beside the weights (``model.json``) as a value: what inference needs to know, and where the weights come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from ..common.errors import RequestError
from ..common.json_files import NONE, NUMBER, Kind, require_fields
from ..common.option_words import Precision, words
from ..dsnet.network import DSNet
from ..slides.geometry import T_PIXELS_PER_PATCH

FORMAT = "dsnet-model/1"
EXPECTED = "the card that train.yaml writes: train anew with this version"
_FIELDS: dict[str, Kind] = {
    "class_names": list,
    "threshold": (*NUMBER, NONE),
    "threshold_from": (str, NONE),
    "encoder": (str, NONE),
    "network": dict,
    "network.embedding_channels": int,
    "network.thumbnail_levels": int,
    "network.thumbnail_stream": bool,
}
_FIELDS_IT_MAY_LACK: dict[str, Kind] = {
    "temperature": NUMBER,
    "temperature_from": (str, NONE),
    "precision": (str, NONE),
    "architecture": str,
    "channel_range": (list, NONE),
    "weights_sha256": str,
    "validation": dict,
    "training": dict,
    "seen": dict,
    "versions": dict,
    "intended_use": str,
}
"""Fields that a card may lack."""
_PART_FIELDS: dict[str, dict[str, Kind]] = {
    "validation": {
        "validation.slides": int,
        "validation.auc.value": (*NUMBER, NONE),
        "validation.auc.ci95": list,
    },
    "training": {"training.slides": int, "training.max_epochs": int, "training.selection": str},
}
"""What these say, where they say anything."""
ThresholdFrom = Literal["val", "default"]
"""Where a threshold comes from: the validation slides, or 0.5 where none parted them."""

THRESHOLD_FROM: dict[ThresholdFrom | None, str] = {
    "val": "chosen on the validation slides (highest Youden's J)",
    "default": "the default, because no threshold parted the validation slides better than chance",
    None: "the default",
}
"""The same in words."""

_OMITTED_IF_EMPTY = ("precision", "weights_sha256", "validation", "training", "seen", "versions", "intended_use")


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What is known of trained weights; the order of the fields is that of the file.

    Attributes:
        class_names: in the order of the network's outputs.
        threshold: on the calibrated P(class 1); None for more than two classes.
        threshold_from: "val", or "default" where no threshold parted the validation slides; None where there is no threshold, or
            nothing is known.
        temperature: of the calibration; 1 leaves the probabilities as they are.
        temperature_from: "val"; None where nothing was fitted.
        encoder: name and hash of the patch encoder; None or "unknown" where it is not known.
        precision: in which the encoder made the training embeddings; None if unknown.
        architecture: name of the network's class.
        network: its arguments.
        channel_range: the channels [first, last) of v that it takes; None: all.
        weights_sha256: of the weights; None where the card does not say.
        validation: number of the slides, and their AUC with its interval.
        training: slides, seed, epochs and what the epoch was chosen by.
        seen: fingerprints of the slides that the model met, by split.
        versions: of the bundle and its libraries.
        intended_use: a sentence for whoever finds the weights.
    """

    class_names: tuple[str, ...]
    threshold: float | None
    threshold_from: ThresholdFrom | None
    temperature: float = 1.0
    temperature_from: str | None = None
    encoder: str | None
    precision: Precision | None = None
    architecture: str = DSNet.__name__
    network: Mapping[str, Any]
    channel_range: tuple[int, int] | None = None
    weights_sha256: str | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    intended_use: str | None = None

    @property
    def thumbnail_levels(self) -> int:
        """Levels of T that the network takes; 0 where it runs on V alone."""
        return int(self.network["thumbnail_levels"]) if self.network["thumbnail_stream"] else 0

    @property
    def channels(self) -> tuple[int, int]:
        """The channels [first, last) of v that the network takes; ``last`` is not included."""
        return self.channel_range or (0, int(self.network["embedding_channels"]))

    @property
    def image_channels(self) -> int:
        """Channels of the network's input, C + 12L, see :func:`..dsnet.packing.pack_observed`."""
        of_level = 3 * T_PIXELS_PER_PATCH**2
        return int(self.network["embedding_channels"]) + of_level * self.thumbnail_levels

    def to_json(self) -> dict[str, object]:
        """The content of the file; the fields of `_OMITTED_IF_EMPTY` are left out where they have no value."""
        content = {one.name: getattr(self, one.name) for one in fields(self)}
        kept = {
            name: value for name, value in content.items() if name not in _OMITTED_IF_EMPTY or value not in (None, {})
        }
        return {"format": FORMAT, **kept}

    @classmethod
    def from_json(cls, path: str | Path, content: Mapping[str, Any]) -> "ModelCard":
        """Check what was read from ``path``: a card, or what inference kept of one.

        Raises:
            RequestError: something is missing, unknown or of another kind.
        """
        unknown = sorted(content.keys() - {one.name for one in fields(cls)} - {"format"})
        if unknown:
            raise RequestError(f"{path}: has an unknown {unknown[0]}, expected {EXPECTED}")
        others = {name: kind for name, kind in _FIELDS_IT_MAY_LACK.items() if name in content}
        parts = [kinds for name, kinds in _PART_FIELDS.items() if content.get(name)]
        for kinds in (_FIELDS, others, *parts):
            require_fields(path, content, kinds, expected=EXPECTED)
        known = {one.name: content[one.name] for one in fields(cls) if one.name in content}
        names, span, seen = known["class_names"], known.get("channel_range"), known.get("seen", {})
        if len(names) < 2 or not all(isinstance(name, str) for name in names) or known.get("temperature", 1) <= 0:
            raise RequestError(
                f"{path}: classes {str(names)[:60]} and temperature {known.get('temperature', 1)}, expected {EXPECTED}"
            )
        if known["threshold_from"] not in (None, *words(ThresholdFrom)):
            raise RequestError(f"{path}: threshold_from {known['threshold_from']!r}, expected {EXPECTED}")
        if known.get("precision") not in (None, *words(Precision)):
            raise RequestError(f"{path}: precision {str(known['precision'])[:60]!r}, expected {EXPECTED}")
        if span is not None and (len(span) != 2 or not all(isinstance(end, int) for end in span)):
            raise RequestError(f"{path}: channels {str(span)[:60]}, expected {EXPECTED}")
        if not all(isinstance(prints, str) for prints in seen.values()):
            raise RequestError(f"{path}: fingerprints {str(seen)[:60]}, expected {EXPECTED}")
        known |= {"class_names": tuple(names), "channel_range": None if span is None else (span[0], span[1])}
        return cls(**known)


def card_path(model: str | Path) -> Path:
    """``model.json`` beside ``model.pt``.

    Raises:
        RequestError: ``model`` is a folder by its name.
    """
    if not Path(model).name:
        raise RequestError(f"{model}: a folder, expected the file of the weights: add its name, such as model.pt")
    return Path(model).with_suffix(".json")
