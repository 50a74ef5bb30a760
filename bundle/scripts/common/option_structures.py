"""Types of options that are made of others: lists, mappings, one type or another, a part of a config."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml

from .option_types import MARKS, Number, OptionType, Text, Whole, YesNo


@dataclass(frozen=True)
class Items:
    """A list of items of one type: in brackets, or with commas between them.

    ``count`` is how many there must be, where that is fixed; ``rising``: each is greater than the one before it; ``distinct``: none
    is there twice.
    """

    item: OptionType
    noun: str
    count: int | None = None
    rising: bool = False
    distinct: bool = False
    may_be_empty: bool = False

    @property
    def expected(self) -> str:
        """What the list holds."""
        return self.noun

    def read(self, value: Any) -> list[Any]:
        """Take a list, or the text of one."""
        parts = _parts(value) if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else None
        if parts is None or (not parts and not self.may_be_empty) or self.count not in (None, len(parts)):
            raise ValueError(f"expected {self.expected}")
        try:
            read = [self.item.read(part) for part in parts]
        except ValueError as error:
            raise ValueError(f"{error}, in a list: expected {self.expected}") from error
        if any(isinstance(part, str) and part.lstrip().startswith(MARKS) for part in read):
            raise ValueError(f"an item begins with $, @ or %, which would be evaluated; expected {self.expected}")
        if self.distinct and (twice := [part for part in read if read.count(part) > 1]):
            raise ValueError(f"{twice[0]} stands there twice; expected {self.expected}, each once")
        if self.rising and any(later <= earlier for earlier, later in pairwise(read)):
            raise ValueError(f"expected {self.expected}")
        return read


@dataclass(frozen=True)
class TextMapping:
    """A mapping of texts to texts, ``{key: value}``."""

    expected: str

    def read(self, value: Any) -> dict[str, str]:
        """Take a mapping, or the text of one."""
        content = mapping(value, yaml.BaseLoader, self.expected)
        return {Text().read(key): Text().read(part) for key, part in content.items()}


@dataclass(frozen=True)
class Either:
    """What the first of two types admits, or the second."""

    first: OptionType
    second: OptionType

    @property
    def expected(self) -> str:
        """Both."""
        return f"{self.first.expected}, or {self.second.expected}"

    def read(self, value: Any) -> Any:
        """Take what one of them takes."""
        try:
            return self.first.read(value)
        except ValueError:
            pass
        try:
            return self.second.read(value)
        except ValueError:
            raise ValueError(f"expected {self.expected}") from None


@dataclass(frozen=True)
class Section:
    """A part of a config that holds others: a component, a list of steps."""

    kind: type
    expected: str

    def read(self, value: Any) -> Any:
        """Take another such part, or nothing."""
        if value is not None and not isinstance(value, self.kind):
            raise ValueError(f"expected {self.expected}")
        return value


def type_like(default: Any) -> OptionType | None:
    """Return the type of an id that no table names, by its default; None where that says nothing, as null and an expression do."""
    if isinstance(default, bool):
        return YesNo()
    if isinstance(default, int):
        return Whole()
    if isinstance(default, float):
        return Number()
    if isinstance(default, str):
        return None if default.startswith(MARKS) else Text()
    if isinstance(default, dict):
        return Section(dict, "a component or null: it holds other ids, set one of those")
    if isinstance(default, list) and default and all(type(item) in (int, float) for item in default):
        return Items(
            Whole() if all(isinstance(item, int) for item in default) else Number(), f"numbers, as in {default}"
        )
    if isinstance(default, list):
        return Section(list | tuple, "a list or null")  # type: ignore[arg-type]
    return None


def mapping(value: Any, loader: Any, expected: str) -> Mapping[Any, Any]:
    """Return a mapping, or that of a text.

    Raises:
        ValueError: it is none.
    """
    try:
        content = yaml.load(value, loader) if isinstance(value, str) else value
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"expected {expected}") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"expected {expected}")
    return content


def _parts(text: str) -> list[Any] | None:
    """Take apart a list that was typed; its items stay texts."""
    if text[:1] in ("[", "("):
        try:
            content = yaml.load(f"[{text[1:-1]}]", yaml.BaseLoader) if text[-1] in ")]" else None
        except yaml.YAMLError:
            return None
        return content if isinstance(content, list) else None
    return [part.strip() for part in text.split(",")]
