"""Types of options: what each admits, in words, and what it makes of a text or of a value in YAML.

YAML 1.1 reads ``1e-3`` as a text and ``no`` as false, a command line reads both as texts. A type takes either, so that an option
means the same wherever it is given. A ``ValueError`` says what was expected.
"""

import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, Protocol

MARKS = ("$", "@", "%")
"""What MONAI runs as Python, or replaces by another part of a config."""

MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095
"""Of a file or a folder, and of its whole path, as Linux has them."""

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
        if self.least is not None and self.least == self.most:
            return f"{self.least}, and no other number"
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
        if len(os.fsencode(text)) > MAX_PATH_BYTES or any(
            len(os.fsencode(name)) > MAX_NAME_BYTES for name in text.split("/")
        ):
            raise ValueError(f"a name that no file may have, of over {MAX_NAME_BYTES} bytes; expected {self.expected}")
        return text


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
        if match[1] == "cuda" and not (count := _cuda_devices()):
            raise ValueError("torch finds no CUDA device on this machine; expected cpu")
        if match[1] == "cuda" and int(match[2] or 0) >= count:
            raise ValueError(f"this machine has {count} CUDA devices, from cuda:0 on; expected one")
        return str(value)


def _cuda_devices() -> int:
    """Count the CUDA devices without starting CUDA: studies fork.

    torch.cuda.device_count() asks the driver's management library, NVML. Where that has no answer, as on a part of a card (MIG), it
    starts CUDA instead.
    """
    import torch

    if not torch.backends.cuda.is_built() or torch.cuda.is_initialized() or torch.cuda._device_count_nvml() >= 0:
        return torch.cuda.device_count()
    return _cuda_devices_counted_apart()


@cache
def _cuda_devices_counted_apart() -> int:
    """Count them in a process of its own, which takes seconds."""
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    return int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


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


def read_as(type_: OptionType, name: str, value: Any, *, texts: bool = True) -> Any:
    """Return what a value means; the one form in which a wrong one is told.

    Args:
        type_: what it may be.
        name: of the option or the argument.
        value: given for it.
        texts: whether the text of a number, or of a boolean, stands for it.

    Raises:
        ValueError: it is wrong: ``name value: expected ...``.
    """
    try:
        read = type_.read(value)
        if not texts and isinstance(value, str) and isinstance(read, int | float):
            raise ValueError(f"expected {type_.expected}")
    except ValueError as error:
        raise ValueError(f"{name} {shown(value)}: {error}") from error
    return read


def shown(value: Any) -> str:
    """A value in a message: in one line, and not longer than one reads."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def is_null(value: Any) -> bool:
    """Whether a value of YAML, or a typed text, is null."""
    return value is None or (isinstance(value, str) and (value.lower() == "null" or value == "None"))


def _number(value: Any) -> float | None:
    """Return a finite number, of its own kind or of a text; None for anything else."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = int(value) if re.fullmatch(r"[+-]?\d{1,30}", value.strip(), re.ASCII) else float(value)
    if isinstance(value, bool) or not isinstance(value, Real) or not _is_finite(value):
        return None
    return value  # type: ignore[return-value]


def _is_finite(value: Real) -> bool:
    """Whether it is finite; a whole number beyond what a float holds counts as infinite."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
