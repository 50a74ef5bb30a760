from typing import Any

import pytest

from scripts.common.option_reading import type_of
from scripts.common.option_table import OPTIONS
from scripts.common.option_types import Number, PathText, Text, Whole, YesNo


@pytest.mark.parametrize(
    ("name", "default", "kind"),
    [
        ("max_epochs", 200, Whole),
        ("max_epochs", None, Whole),
        ("a::b", "@batch_size", Whole),
        ("a::b", "@slides", PathText),
        ("a::output_dir", "$@root + '/x'", PathText),
        ("a::folder", "$@root", PathText),
        ("a::b", 1, Whole),
        ("a::b", 1.0, Number),
        ("a::b", False, YesNo),
        ("a::b", "val", Text),
        ("x", 3, Whole),
    ],
)
def test_the_type_of_an_id(name: str, default: Any, kind: type) -> None:
    assert type(type_of(name, default, OPTIONS)) is kind


@pytest.mark.parametrize(("name", "default"), [("a::b", None), ("a::b", "$1"), ("a::b", "@a::c"), ("a::b", "@network")])
def test_an_id_that_may_be_anything(name: str, default: Any) -> None:
    assert type_of(name, default, OPTIONS) is None


def test_a_component_under_the_name_of_an_option_is_a_component() -> None:
    type_ = type_of("masks", {"_target_": "x"}, OPTIONS)
    assert type_ is not None
    with pytest.raises(ValueError, match="a component"):
        type_.read("folder")
