from typing import Any

import pytest
import torch

from scripts.common.option_types import (
    Device,
    Either,
    Items,
    Names,
    Number,
    OptionType,
    PathText,
    Shard,
    Text,
    Whole,
    Word,
    YesNo,
    is_null,
    type_like,
)

PAIR = Items(Whole(least=0), "two whole numbers, the first smaller, such as 0,64", count=2, rising=True)
NAMES = Items(Text(), "class names")


@pytest.mark.parametrize(
    ("type_", "given", "meant"),
    [
        *[(YesNo(), word, False) for word in ("false", "no", "off", "0", "False", "NO", False, 0)],
        *[(YesNo(), word, True) for word in ("true", "yes", "on", "1", "TRUE", True, 1)],
        *[(Number(over=0), number, 0.001) for number in ("1e-3", "0.001", ".001", "1.E-3", 0.001)],
        (Number(), "-2", -2.0),
        *[(Whole(least=1), number, 1000) for number in ("1000", "1e3", "1000.0", 1000, 1000.0)],
        (Whole(), "123456789012345678901", 123456789012345678901),
        (Word(("rle", "otsu")), "otsu", "otsu"),
        (Text(), "no", "no"),
        (Text(), 1, "1"),
        *[(PathText(), path, path) for path in ("2024", "007", "1e5", "True", "a,b", "[1]", "a b", "a$b@c", "./$x")],
        (PathText(), 2024, "2024"),
        *[(PAIR, pair, [0, 64]) for pair in ("0,64", "[0, 64]", "(0,64)", "0, 64", [0, 64], (0, 64))],
        *[(NAMES, names, ["a", "b c"]) for names in ("a,b c", "['a','b c']", '["a", "b c"]', ("a", "b c"))],
        (NAMES, "['a, b', c]", ["a, b", "c"]),
        (NAMES, "0,1", ["0", "1"]),
        (NAMES, [0, 1], ["0", "1"]),
        (Items(PathText(), "paths", may_be_empty=True), "[]", []),
        (Items(PathText(), "paths"), "2024", ["2024"]),
        (Names("a mapping"), "{'slide': id, label: 'Class'}", {"slide": "id", "label": "Class"}),
        (Either(Word(("auto",)), Whole(least=0)), "2", 2),
        (Shard(), "2/8", "2/8"),
        (Device(), "cpu", "cpu"),
        (Device(), torch.device("cpu"), "cpu"),
    ],
)  # fmt: skip
def test_what_is_meant(type_: OptionType, given: Any, meant: Any) -> None:
    read = type_.read(given)
    assert read == meant and type(read) is type(meant)


@pytest.mark.parametrize(
    ("type_", "given", "said"),
    [
        *[(YesNo(), word, "expected true or false") for word in ("", "maybe", "2", 2, 0.0, None, "nope", [])],
        *[
            (Whole(least=1), number, "expected a whole number, 1 or more")
            for number in ("", "0", "-1", "ten", "1.5", 1.5, True, "1_0", "0x10", "inf", "nan", float("inf"), "1e400", "٣", None, [3])
        ],
        (Whole(least=0, most=7), "8", "expected a whole number from 0 to 7"),
        *[(Number(over=0), number, "expected a number over 0") for number in ("0", "1e-3x", "-1", "1e-400", "")],
        (Number(least=0, most=1), "1.7", "expected a number from 0 to 1"),
        (Number(over=0, most=1), "0", "expected a number over 0 and at most 1"),
        (Number(over=0, under=100), "100", "expected a number over 0 and under 100"),
        (Number(least=0, under=1), "1", "expected a number, 0 or more and under 1"),
        (Word(("rle", "otsu")), "OTSU", "expected one of rle, otsu"),
        (Word(("rle", "otsu")), ["rle"], "expected one of rle, otsu"),
        *[(Text(), text, "expected a text") for text in ("", "  ", True, None, ["a"])],
        *[(PathText(), path, "would be evaluated; expected a path: write ./") for path in ("$x", "@x", "%x", " $x")],
        *[
            (PAIR, pair, "expected two whole numbers, the first smaller, such as 0,64")
            for pair in ("4", "", "1,2,3", "64,0", "3,3", "a,b", "[0, 64", "{a: 1}", 4, {}, None, "0,,64", "[[0, 1], 2]")
        ],
        *[(NAMES, names, "expected") for names in ("", "a,,b", "[]", [], "[a: b]", "a,$b", ["@x"])],
        *[(Names("a mapping"), text, "expected") for text in ("a", "{a: [1]}", "{", "", 3, "{a: }")],
        *[(Shard(), text, "expected i/n") for text in ("0/2", "3/2", "1", "1/2/3", "a/b", 2)],
        (Either(Word(("auto",)), Whole(least=0)), "-1", "expected one of auto, or a whole number, 0 or more"),
        *[(Device(), text, "expected cpu, cuda or cuda:N") for text in ("gpu", "", "CPU", "cuda:", "cuda:-1", "meta", 0)],
    ],
)  # fmt: skip
def test_what_is_refused(type_: OptionType, given: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        type_.read(given)
    assert said in str(caught.value)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch finds no CUDA device on this machine; expected cpu"):
        Device().read("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Device().read("cuda") == "cuda" and Device().read("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="has 2 CUDA devices"):
        Device().read("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no such device"):
        Device().read("mps")


@pytest.mark.parametrize(
    ("default", "taken", "refused"),
    [
        (True, ["no", False], ["x", 2]),
        (1, [4, "4"], ["x", 1.5, True, None]),
        (0.5, [1, "1e-3"], ["x", True, [0.5]]),
        ("val", ["test", 3], ["", True, ["a"]]),
        ({"_target_": "x"}, [{"a": 1}, None], [5, "x", [1]]),
        ([1], [[2], (2,), None], [5, "x", {}]),
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


def test_null() -> None:
    assert all(map(is_null, (None, "null", "NULL", "None")))
    assert not any(map(is_null, ("none", "", 0, False, "nil")))
