"""``--help`` of a stage: the options of its config files, as they stand there, and what each may be."""

import functools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from .config_files import LIES_ON, merged
from .option_table import named, options_of
from .option_types import MARKS, OptionType

_COMMENT = re.compile(r"[\s\]},]*#\s?(?P<text>.*)")
_END = "options"  # the component that ends the options of a config
_NO_OPTIONS = ("imports", LIES_ON)
_COLUMN = 30


class Leaf(NamedTuple):
    """A value of a config as it stands in its file."""

    name: str
    text: str
    comment: str
    is_words: bool


def describe(files: Sequence[str]) -> str:
    """The first comment of every file, then the options of :func:`read_options` with default, comment and what they may be."""
    types, options = options_of(merged(files)[""]), read_options(files)
    heads = [line for file in files for line in read_head(file)]
    own = [name for name in options if "#" not in name]
    of_components = [name for name in options if "#" in name]
    lines = [*heads, "", "Options, with their defaults:", "", *_rows(own, options, types)]
    if of_components:
        lines += ["", "Values of components, set by their ids:", "", *_rows(of_components, options, types)]
    return "\n".join(lines)


def read_head(file: str) -> list[str]:
    """The lines of a config's first comment, without their marks."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    first = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.removeprefix("#").removeprefix(" ") for line in lines[:first]]


def read_options(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Default and comment of every option by name, in the order of the files; those of an overlay replace what it lies on.

    Options are the values that stand before the component ``options``, whatever an overlay says of them. Those values of
    components that have a comment or a type of their own are options, too, by their id; a list of words only with a type. What
    starts with ``$`` is computed.
    """
    options: dict[str, tuple[str, str]] = {}
    for file in files:
        root, lines = _composed(Path(file).absolute(), Path(file).stat().st_mtime_ns)
        types = options_of(dict.fromkeys(key.value for key, _ in root.value))
        is_overlay = all(key.value != _END for key, _ in root.value)
        at_end = False
        for key, value in root.value:
            at_end = at_end or key.value == _END
            name = key.value.lstrip("+")
            if key.value == name:  # put in place of what lies below
                options = {known: said for known, said in options.items() if not known.startswith(f"{name}#")}
            for leaf in _leaves(name, value, lines) if value.value or key.value == name else ():
                if leaf.name in options or _is_option(leaf, types, is_overlay=is_overlay, at_end=at_end):
                    known = options.get(leaf.name, ("", ""))[1]
                    options[leaf.name] = (leaf.text, leaf.comment or known)
    return options


@functools.cache
def _composed(path: Path, changed_ns: int) -> tuple[Any, list[str]]:
    """The nodes of a config and its lines."""
    text = path.read_text(encoding="utf-8")
    return yaml.compose(text, yaml.SafeLoader), text.splitlines()


def _leaves(name: str, node: Any, lines: Sequence[str]) -> Iterator[Leaf]:
    """Yield the values in a part of a config, a list as one; what stands in a list of components has no name that one types."""
    if isinstance(node, yaml.MappingNode) and node.value:
        for key, value in node.value:
            yield from _leaves(f"{name}#{key.value}", value, lines)
    elif not isinstance(node, yaml.SequenceNode) or all(_is_plain(item) for item in node.value):
        start, end = node.start_mark, node.end_mark
        text = node.value if isinstance(node, yaml.ScalarNode) else start.buffer[start.pointer : end.pointer]
        match = _COMMENT.fullmatch(lines[end.line][end.column :]) if end.line < len(lines) else None
        yield Leaf(name, text, match["text"] if match else "", _is_words(node))


def _is_words(node: Any) -> bool:
    """Whether a list holds something else than numbers."""
    return isinstance(node, yaml.SequenceNode) and not all(item.tag.endswith((":int", ":float")) for item in node.value)


def _is_plain(item: Any) -> bool:
    return isinstance(item, yaml.ScalarNode) and not item.value.startswith(MARKS)


def _is_option(leaf: Leaf, types: dict[str, OptionType], *, is_overlay: bool, at_end: bool) -> bool:
    is_plain = not leaf.text.startswith(MARKS)
    if "#" not in leaf.name:
        return leaf.name not in _NO_OPTIONS and (is_plain if is_overlay else not at_end)
    last = leaf.name.rpartition("#")[2]
    return not last.startswith("_") and (
        leaf.name in types or (is_plain and bool((leaf.comment and not leaf.is_words) or last in types))
    )


def _rows(names: Sequence[str], options: dict[str, tuple[str, str]], types: dict[str, OptionType]) -> Iterator[str]:
    for name in names:
        (default, comment), type_ = options[name], named(name, types)
        head, text = f"  --{name} {default}", f"{comment} [{type_.expected}]".strip() if type_ else comment
        if len(head) < _COLUMN or not text:
            yield f"{head:<{_COLUMN}}{text}".rstrip()
        else:
            yield from (head, f"{'':<{_COLUMN}}{text}")
