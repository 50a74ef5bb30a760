from typing import Any

import pytest
import torch

from scripts.common.option_types import (
    Device,
    Number,
    OptionType,
    PathText,
    Shard,
    Text,
    Whole,
    Word,
    YesNo,
    _cuda_devices_counted_apart,
    is_null,
    read_as,
    shown,
)


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
        (Number(least=0), 10**400, "expected a number, 0 or more"),
        (Whole(least=0), 10**400, "expected a whole number, 0 or more"),
        (Word(("rle", "otsu")), "OTSU", "expected one of rle, otsu"),
        (Word(("rle", "otsu")), ["rle"], "expected one of rle, otsu"),
        *[(Text(), text, "expected a text") for text in ("", "  ", True, None, ["a"])],
        *[(PathText(), path, "would be evaluated; expected a path: write ./") for path in ("$x", "@x", "%x", " $x")],
        *[(PathText(), path, "no file may have") for path in ("a" * 256, f"b/{'é' * 128}/c", "a/" * 2048)],
        *[(Shard(), text, "expected i/n") for text in ("0/2", "3/2", "1", "1/2/3", "a/b", 2)],
        *[(Device(), text, "expected cpu, cuda or cuda:N") for text in ("gpu", "", "CPU", "cuda:", "cuda:-1", "meta", 0)],
    ],
)  # fmt: skip
def test_what_is_refused(type_: OptionType, given: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        type_.read(given)
    assert said in str(caught.value)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ValueError, match="torch finds no CUDA device on this machine; expected cpu"):
        Device().read("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert Device().read("cuda") == "cuda" and Device().read("cuda:1") == "cuda:1"
    with pytest.raises(ValueError, match="has 2 CUDA devices"):
        Device().read("cuda:2")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no such device"):
        Device().read("mps")


def test_where_nvml_has_no_answer_cuda_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a part of a card; a study forks after this."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "_device_count_nvml", lambda: -1)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: pytest.fail("starts CUDA"))
    _cuda_devices_counted_apart.cache_clear()
    with pytest.raises(ValueError, match="torch finds no CUDA device on this machine; expected cpu"):
        Device().read("cuda")
    monkeypatch.setattr("scripts.common.option_types._cuda_devices_counted_apart", lambda: 1)
    assert Device().read("cuda:0") == "cuda:0"
    with pytest.raises(ValueError, match="has 1 CUDA devices"):
        Device().read("cuda:1")


def test_a_wrong_value_is_told_with_its_name() -> None:
    assert read_as(Whole(least=1), "batch_size", "3") == 3
    for value, texts in (("3", False), (0, True), ("x" * 5000, True)):
        with pytest.raises(ValueError, match=r"^batch_size .{1,90}: expected a whole number, 1 or more$"):
            read_as(Whole(least=1), "batch_size", value, texts=texts)


def test_a_value_is_shown_in_one_line() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 5000).endswith("... (5002 characters)") and len(shown("x" * 5000)) < 90


def test_null() -> None:
    assert all(map(is_null, (None, "null", "NULL", "None")))
    assert not any(map(is_null, ("none", "", 0, False, "nil")))
