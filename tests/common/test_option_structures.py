from typing import Any

import pytest

from scripts.common.option_structures import Either, Items, TextMapping, type_like
from scripts.common.option_types import OptionType, PathText, Text, Whole, Word

PAIR = Items(Whole(least=0), "two whole numbers, the first smaller, such as 0,64", count=2, rising=True)
NAMES = Items(Text(), "class names")
SEEDS = Items(Whole(least=0), "whole numbers", distinct=True)


@pytest.mark.parametrize(
    ("type_", "given", "meant"),
    [
        *[(PAIR, pair, [0, 64]) for pair in ("0,64", "[0, 64]", "(0,64)", "0, 64", [0, 64], (0, 64))],
        *[(NAMES, names, ["a", "b c"]) for names in ("a,b c", "['a','b c']", '["a", "b c"]', ("a", "b c"))],
        (NAMES, "['a, b', c]", ["a, b", "c"]),
        (NAMES, "0,1", ["0", "1"]),
        (NAMES, [0, 1], ["0", "1"]),
        (Items(PathText(), "paths", may_be_empty=True), "[]", []),
        (Items(PathText(), "paths"), "2024", ["2024"]),
        (TextMapping("a mapping"), "{'slide': id, label: 'Class'}", {"slide": "id", "label": "Class"}),
        (Either(Word(("auto",)), Whole(least=0)), "2", 2),
    ],
)  # fmt: skip
def test_what_a_structure_means(type_: OptionType, given: Any, meant: Any) -> None:
    read = type_.read(given)
    assert read == meant and type(read) is type(meant)


@pytest.mark.parametrize(
    ("type_", "given", "said"),
    [
        *[
            (PAIR, pair, "expected two whole numbers, the first smaller, such as 0,64")
            for pair in ("4", "", "1,2,3", "64,0", "3,3", "a,b", "[0, 64", "{a: 1}", 4, {}, None, "0,,64", "[[0, 1], 2]")
        ],
        *[(NAMES, names, "expected") for names in ("", "a,,b", "[]", [], "[a: b]", "a,$b", ["@x"])],
        (SEEDS, "0,1,0", "0 stands there twice; expected whole numbers, each once"),
        (SEEDS, [1, "01"], "1 stands there twice"),
        *[(TextMapping("a mapping"), text, "expected") for text in ("a", "{a: [1]}", "{", "", 3, "{a: }")],
        (Either(Word(("auto",)), Whole(least=0)), "-1", "expected one of auto, or a whole number, 0 or more"),
    ],
)  # fmt: skip
def test_what_no_structure_is(type_: OptionType, given: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        type_.read(given)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("default", "taken", "refused"),
    [
        (True, ["no", False], ["x", 2]),
        (1, [4, "4"], ["x", 1.5, True, None]),
        (0.5, [1, "1e-3"], ["x", True, [0.5]]),
        ("val", ["test", 3], ["", True, ["a"]]),
        ({"_target_": "x"}, [{"a": 1}, None], [5, "x", [1]]),
        ([1], [[2], (2,), "2,3"], [5, "x", {}, [0.5], None]),
        ([1, 0.5], [[2, 0.5], "2,0.5"], [5, "x", {}, ["x"], None]),
        (["a"], [["b"], (2,), None], [5, "x", {}]),
    ],
)
def test_a_default_says_the_type_of_what_no_table_names(default: Any, taken: list[Any], refused: list[Any]) -> None:
    type_ = type_like(default)
    assert type_ is not None
    for value in taken:
        type_.read(value)
    for value in refused:
        with pytest.raises(ValueError, match="expected"):
            type_.read(value)


@pytest.mark.parametrize("default", [None, "$1 + 1", "@x", "%x"])
def test_a_default_that_says_nothing(default: Any) -> None:
    assert type_like(default) is None
