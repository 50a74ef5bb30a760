"""Types of options: what each admits, in words, and what it makes of a text or of a value in YAML.

YAML 1.1 reads ``1e-3`` as a text and ``no`` as false, a command line reads both as texts. A type takes either, so that an option
means the same wherever it is given. A ``ValueError`` says what was expected.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Protocol

import yaml

MARKS = ("$", "@", "%")
"""What MONAI runs as Python, or replaces by another part of a config."""

_YES_NO = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_DEVICE = re.compile(r"(cpu|cuda|mps)(?::(\d+))?", re.ASCII)


class OptionType(Protocol):
    """What an option may be."""

    @property
    def expected(self) -> str:
        """What it admits, in words."""
        ...

    def read(self, value: Any) -> Any:
        """Return the value that is meant by a text, or by what YAML made of one.

        Raises:
            ValueError: it is none; the message says what was expected.
        """
        ...


@dataclass(frozen=True)
class YesNo:
    """A boolean."""

    expected: str = "true or false"

    def read(self, value: Any) -> bool:
        """Take ``true``, ``yes``, ``on`` and 1, ``false``, ``no``, ``off`` and 0."""
        known = _YES_NO.get(str(value).lower()) if isinstance(value, bool | int | str) else None
        if known is None:
            raise ValueError(f"expected {self.expected}")
        return known


@dataclass(frozen=True)
class Number:
    """A finite number in a range: ``least`` and ``most`` belong to it, ``over`` and ``under`` do not."""

    least: float | None = None
    most: float | None = None
    over: float | None = None
    under: float | None = None
    noun: str = "a number"

    @property
    def expected(self) -> str:
        """Noun and range."""
        if self.least is not None and self.most is not None:
            return f"{self.noun} from {self.least} to {self.most}"
        lower = (
            f"{self.least} or more" if self.least is not None else f"over {self.over}" if self.over is not None else ""
        )
        upper = (
            f"at most {self.most}" if self.most is not None else f"under {self.under}" if self.under is not None else ""
        )
        between = ", " if self.least is not None else " "
        return self.noun + (between + " and ".join(filter(None, (lower, upper))) if lower or upper else "")

    def read(self, value: Any) -> float:
        """Take a number, or the text of one."""
        number = _number(value)
        if number is None or not self._holds(number):
            raise ValueError(f"expected {self.expected}")
        return float(number)

    def _holds(self, number: float) -> bool:
        return (
            (self.least is None or number >= self.least)
            and (self.most is None or number <= self.most)
            and (self.over is None or number > self.over)
            and (self.under is None or number < self.under)
        )


@dataclass(frozen=True)
class Whole(Number):
    """A whole number in a range."""

    noun: str = "a whole number"

    def read(self, value: Any) -> int:
        """Take a whole number, or the text of one; ``1e3`` is one."""
        number = _number(value)
        if number is None or int(number) != number or not self._holds(number):
            raise ValueError(f"expected {self.expected}")
        return int(number)


@dataclass(frozen=True)
class Word:
    """One of a few words."""

    choices: tuple[str, ...]

    @property
    def expected(self) -> str:
        """The words."""
        return f"one of {', '.join(self.choices)}"

    def read(self, value: Any) -> str:
        """Take one of the words as it is written."""
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"expected {self.expected}")
        return value


@dataclass(frozen=True)
class Text:
    """Any text but an empty one."""

    expected: str = "a text"

    def read(self, value: Any) -> str:
        """Take a text, or a number as it is written; ``no`` without quotes is no text to YAML."""
        if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
            raise ValueError(f"expected {self.expected}")
        return str(value)


@dataclass(frozen=True)
class PathText(Text):
    """A path, as it was typed; never evaluated."""

    expected: str = "a path"

    def read(self, value: Any) -> str:
        """Take a path that MONAI does not evaluate."""
        text = super().read(value)
        if text.lstrip().startswith(MARKS):
            raise ValueError(
                f"begins with {text.lstrip()[0]}, which would be evaluated; expected {self.expected}: "
                "write ./ or its folder before it"
            )
        return text


@dataclass(frozen=True)
class Items:
    """A list of items of one type: in brackets, or with commas between them.

    ``count`` is how many there must be, where that is fixed; ``rising``: each is greater than the one before it.
    """

    item: OptionType
    noun: str
    count: int | None = None
    rising: bool = False
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
        if self.rising and any(later <= earlier for earlier, later in pairwise(read)):
            raise ValueError(f"expected {self.expected}")
        return read


@dataclass(frozen=True)
class Names:
    """A mapping of texts to texts, ``{key: value}``."""

    expected: str

    def read(self, value: Any) -> dict[str, str]:
        """Take a mapping, or the text of one."""
        content = mapping(value, yaml.BaseLoader, self.expected)
        return {Text().read(key): Text().read(part) for key, part in content.items()}


@dataclass(frozen=True)
class Device:
    """Where torch computes."""

    expected: str = "cpu, cuda or cuda:N"

    def read(self, value: Any) -> str:
        """Take the name of a device that this machine has."""
        import torch  # here alone: processes that decode need none

        match = _DEVICE.fullmatch(str(value)) if isinstance(value, str | torch.device) else None
        if match is None:
            raise ValueError(f"expected {self.expected}")
        if match[1] == "mps" and not torch.backends.mps.is_available():
            raise ValueError(f"this machine has no such device; expected {self.expected}")
        if match[1] == "cuda" and not torch.cuda.is_available():
            raise ValueError("torch finds no CUDA device on this machine; expected cpu")
        if match[1] == "cuda" and int(match[2] or 0) >= torch.cuda.device_count():
            raise ValueError(f"this machine has {torch.cuda.device_count()} CUDA devices, from cuda:0 on; expected one")
        return str(value)


@dataclass(frozen=True)
class Shard:
    """Which part of the work this run does."""

    expected: str = "i/n with i from 1 to n, such as 2/8"

    def read(self, value: Any) -> str:
        """Take ``i/n``."""
        match = re.fullmatch(r"(\d+)/(\d+)", value, re.ASCII) if isinstance(value, str) else None
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"expected {self.expected}")
        return str(value)


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
    if isinstance(default, list):
        return Section(list | tuple, "a list or null")  # type: ignore[arg-type]
    return None


def is_null(value: Any) -> bool:
    """Whether a value of YAML, or a typed text, is null."""
    return value is None or (isinstance(value, str) and (value.lower() == "null" or value == "None"))


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


def _number(value: Any) -> float | None:
    """Return a finite number, of its own kind or of a text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if re.fullmatch(r"[+-]?\d{1,30}", value.strip(), re.ASCII) else float(value)
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        return None
    return value  # type: ignore[return-value]
