import pytest
from monai.bundle import ConfigParser

from scripts.common.errors import RequestError
from scripts.common.set_config import resolver_in_use, set_in_config


class Setter:
    """A component that sets values while it is built, as the check of the options does."""

    def __init__(self, values: dict[str, object]) -> None:
        set_in_config(values, resolver_in_use())


def built(values: dict[str, object]) -> ConfigParser:
    config = {
        "a": 1,
        "b": {"c": "x", "d": ["y", 2]},
        "sum": "$@a + 1",
        "setter": {"_target_": Setter, "values": values},
    }
    parser = ConfigParser(config)
    assert parser.get_parsed_content("a") == 1  # some are resolved before
    parser.get_parsed_content("setter")
    return parser


def test_values_are_those_that_everything_after_meets() -> None:
    parser = built({"a": 7, "b::c": False, "b::d::1": 3})
    assert parser.get_parsed_content("sum") == 8
    assert parser.get_parsed_content("b") == {"c": False, "d": ["y", 3]}
    assert parser.get_parsed_content("b::c") is False and parser["b"]["c"] is False


def test_a_list_replaces_a_text() -> None:
    assert built({"b::c": ["normal", "tumor"]}).get_parsed_content("b::c") == ["normal", "tumor"]


def test_without_a_config_on_the_stack_values_are_refused_rather_than_lost() -> None:
    assert resolver_in_use() is None
    set_in_config({}, None)
    with pytest.raises(RequestError, match=r"--train#resume: .* write it in a config file"):
        set_in_config({"train::resume": False}, None)


def test_what_is_not_in_the_config_is_refused() -> None:
    with pytest.raises(RuntimeError) as caught:
        built({"nothing": 1})
    assert isinstance(caught.value.__cause__, RequestError)
