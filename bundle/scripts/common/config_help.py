"""``--help`` of a stage: the options of its config files, as they stand there, and what each may be."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from .config_files import LIES_ON, merged
from .option_table import options_of

_LINE = re.compile(
    r"""^(?P<name>[A-Za-z_][\w#]*):\ +
    (?P<value>"(?:[^"\\]|\\.)*" | '[^']*' | [^\s\#].*?)
    (?:\ +\#\ (?P<comment>.*))?$""",
    re.VERBOSE,
)
_END = re.compile(r"options:(?: |$)")  # the component that ends the options of a config
_NO_OPTIONS = ("imports", LIES_ON)
_COLUMN = 30


def describe(files: Sequence[str]) -> str:
    """The first comment of every file, then the options of :func:`read_options` with default, comment and what they may be."""
    types = options_of(merged(files)[""])
    rows = [
        line
        for name, (default, comment) in read_options(files).items()
        for line in _rows(
            f"  --{name} {default}", f"{comment} [{types[name].expected}]".strip() if name in types else comment
        )
    ]
    heads = [line for file in files for line in read_head(file)]
    return "\n".join([*heads, "", "Options, with their defaults:", "", *rows])


def read_head(file: str) -> list[str]:
    """The lines of a config's first comment, without their marks."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return [line.removeprefix("#").removeprefix(" ") for line in lines[: _first_without_comment(lines)]]


def read_options(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Default and comment of every option by name, in the order of the files; those of an overlay replace what it lies on.

    Options are the values that stand before the component ``options``, and whatever an overlay says of them. What starts with
    ``$`` is computed.
    """
    options: dict[str, tuple[str, str]] = {}
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        end = next((index for index, line in enumerate(lines) if _END.match(line)), None)
        for line in lines[:end]:
            match = _LINE.match(line)
            if (
                match
                and "_target_" not in match["value"]
                and match["name"] not in _NO_OPTIONS
                and (end or match["name"] in options or _is_new_option(match))
            ):
                known = options.get(match["name"], ("", ""))[1]
                options[match["name"]] = (_default(match["value"]), match["comment"] or known)
    return options


def _is_new_option(line: re.Match[str]) -> bool:
    """Whether a line of an overlay is a value of its own, neither a part of something nor computed."""
    return "#" not in line["name"] and not line["value"].lstrip("\"'").startswith(("$", "%", "@"))


def _default(text: str) -> str:
    """A value as one types it on a command line."""
    value = yaml.safe_load(text)
    return value if isinstance(value, str) else text


def _rows(head: str, comment: str) -> list[str]:
    if len(head) < _COLUMN or not comment:
        return [f"{head:<{_COLUMN}}{comment}".rstrip()]
    return [head, f"{'':<{_COLUMN}}{comment}"]


def _first_without_comment(lines: Sequence[str]) -> int:
    return next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
