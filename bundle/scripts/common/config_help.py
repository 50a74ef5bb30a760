"""``--help`` of a stage: the options of its config files, as they stand there."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

_LINE = re.compile(
    r"""^(?P<name>[A-Za-z_][\w#]*):\ +
    (?P<value>"(?:[^"\\]|\\.)*" | '[^']*' | \S.*?)
    (?:\ +\#\ (?P<comment>.*))?$""",
    re.VERBOSE,
)
_END = "options:"  # the component that ends the options of a config
_COLUMN = 30


def describe(files: Sequence[str]) -> str:
    """The first comment of every file, then its options with default and comment; those of an overlay replace what it lies on.

    Options are the values that stand before the component ``options``, and whatever an overlay says of them. What starts with ``$`` is
    computed.
    """
    heads: list[str] = []
    options: dict[str, tuple[str, str]] = {}
    for file in files:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
        heads += [line.removeprefix("#").removeprefix(" ") for line in lines[: _first_without_comment(lines)]]
        is_overlay = _END not in lines
        for line in lines if is_overlay else lines[: lines.index(_END)]:
            match = _LINE.match(line)
            if match and (not is_overlay or match["name"] in options or _is_new_option(match)):
                known = options.get(match["name"], ("", ""))[1]
                options[match["name"]] = (_default(match["value"]), match["comment"] or known)
    rows = [line for name, (default, comment) in options.items() for line in _rows(f"  --{name} {default}", comment)]
    return "\n".join([*heads, "", "Options, with their defaults:", "", *rows])


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
