"""What a run is made of, by id."""

from typing import Any

import pytest
import yaml
from monai.bundle import ConfigParser

from scripts.common.config_settings import settings_of
from scripts.common.errors import RequestError

CONFIG = """
device: cpu
slides: slides.csv
rate: 0.1
unused: 1
decay: "$@rate / 10"
table: {_target_: collections.Counter, first: "@slides", second: 2}
layer: {_target_: torch.nn.Linear, in_features: "$len(@table)", out_features: 3}
loss: $@layer.to(@device)
train:
  handlers: [{_target_: collections.Counter, rate: 5}]
  keys: [v, t]
  trainer: {_target_: collections.Counter, loss: "@loss", decay: "@decay", rate: "@rate", device: "@device", max_epochs: 4}
settings: {_target_: scripts.common.config_settings.settings_of, ids: [train], content: {slides: abc, classes: [b, a]}}
"""
EXPECTED = {
    "classes": "['b', 'a']",
    "decay": 0.01,
    "layer#_target_": "torch.nn.Linear",
    "layer#in_features": "$len(@table)",
    "layer#out_features": 3,
    "loss": "$@layer.to(@device)",
    "rate": 0.1,
    "slides": "abc",
    "table#_target_": "collections.Counter",
    "table#second": 2,
    "train#keys#0": "v",
    "train#keys#1": "t",
    "train#trainer#_target_": "collections.Counter",
}


def settings(**changes: Any) -> dict[str, Any]:
    parser = ConfigParser(yaml.safe_load(CONFIG))
    parser.update(changes)
    return parser.get_parsed_content("settings")


def test_all_that_the_ids_are_made_of() -> None:
    """Neither what they do not refer to, nor where and how far they run, nor who listens."""
    assert settings() == EXPECTED


@pytest.mark.parametrize("name", ["device", "slides", "unused", "train#trainer#max_epochs", "train#handlers"])
def test_what_may_differ(name: str) -> None:
    assert settings(**{name: "other"}) == EXPECTED


@pytest.mark.parametrize(
    ("name", "value", "stated"),
    [
        ("table#second", 3, 3),
        ("layer#_target_", "torch.nn.LazyLinear", "torch.nn.LazyLinear"),
        ("layer#bias", False, False),
        ("train#keys#1", pytest.approx, "builtins.function"),
        ("train#keys#1", "$'a' + 'b'", "ab"),
    ],
)
def test_what_may_not(name: str, value: Any, stated: Any) -> None:
    """Whatever id it has: a value, the kind of a component, an argument more, an object of a program."""
    assert settings(**{name: value}) == EXPECTED | {name: stated}


def test_it_looks_and_builds_nothing() -> None:
    parser = ConfigParser(yaml.safe_load(CONFIG))
    parser.get_parsed_content("settings")
    assert set(parser.ref_resolver.resolved_content) == {"decay", "rate", "settings"}
    first = parser.get_parsed_content("train#trainer")
    assert first["rate"] == 0.1
    again = ConfigParser(yaml.safe_load(CONFIG))
    again.get_parsed_content("train#trainer")
    assert again.get_parsed_content("settings") == EXPECTED, "the same after the components were built"


def test_what_is_left_out_is_told() -> None:
    """Not where an expression of the config itself decides it."""
    parser = ConfigParser(
        {
            "told": {"_target_": "scripts.common.config_settings.stated"},
            "stopping": {"_target_": "builtins.dict", "patience": 3, "_disabled_": True},
            "check": {"_target_": "builtins.dict", "_disabled_": "$1 > 2"},
        }
    )
    assert parser.get_parsed_content("told") == {"stopping#patience": 3, "stopping#_disabled_": True}


def test_outside_of_a_config() -> None:
    with pytest.raises(RequestError, match="outside of a config"):
        settings_of(["train"], {})
