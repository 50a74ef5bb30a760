"""The words of ``python -m monai.bundle``, taken apart as Fire takes them apart.

Fire also reads every text as Python: ``007`` stays a text, ``1_000`` and ``0x10`` become numbers and ``a,b`` a tuple. What an
option means is said by its type (:mod:`.option_table`), so the text is kept as it was typed.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any, NamedTuple

from fire.parser import CreateParser, DefaultParseValue, SeparateFlagArgs
from monai.bundle import ConfigParser
from monai.bundle.utils import ID_SEP_KEY

from .errors import RequestError

_FIRST_WORD = {"run": "run_id", "run_workflow": "workflow_name"}
"""What the word behind each command means."""


class Given(NamedTuple):
    """An option of the request.

    ``value`` is what MONAI takes it for. ``text`` is what was typed; None where nothing was typed behind the name, or where the
    option stands in a file of arguments.
    """

    value: Any
    text: str | None = None


@dataclass(frozen=True)
class CommandLine:
    """What was typed: options in their order, by id, and the words that belong to none."""

    typed: tuple[tuple[str, str | None], ...]
    loose: tuple[str, ...]

    @property
    def given(self) -> dict[str, Given]:
        """All options by id, those of ``--args_file`` included; one that was typed goes before the file's."""
        given = {name: Given(True if text is None else literal(text), text) for name, text in self.typed}
        if "args_file" in given:
            content = ConfigParser.load_config_file(given["args_file"].value)
            in_file = {name.replace("#", ID_SEP_KEY): Given(value) for name, value in content.items()}
            given = in_file | given
        return given

    def require_once(self) -> None:
        """Refuse words that belong to no option, and options that were typed twice.

        Raises:
            RequestError: names them.
        """
        if self.loose:
            words = ", ".join(repr(word) for word in self.loose[:3]) + (", ..." if len(self.loose) > 3 else "")
            raise RequestError(
                f"left over on the command line: {words}; expected --name value throughout: where a shell spread a pattern such as "
                "slides/*.tif, name the folder or a CSV instead; quote a value that holds spaces; write a list with commas (0,1)"
            )
        twice = [name for name, times in Counter(name for name, _ in self.typed).items() if times > 1]
        if twice:
            texts = " and ".join(repr(text) for name, text in self.typed if name == twice[0])
            hint = "; several files are one list: \"['a.yaml','b.yaml']\"" if twice[0] == "config_file" else ""
            raise RequestError(f"--{twice[0].replace(ID_SEP_KEY, '#')} is given twice, {texts}: keep one{hint}")


def parse_command_line(arguments: Sequence[str]) -> CommandLine:
    """Take apart ``arguments``, the words that follow ``python -m monai.bundle``; nothing is found in those of other commands.

    Raises:
        RequestError: Fire takes no such word behind "--".
    """
    words, flags = SeparateFlagArgs(list(arguments))
    if not words or words[0] not in _FIRST_WORD:
        return CommandLine((), ())
    typed: list[tuple[str, str | None]] = []
    loose: list[str] = []
    rest = words[1:]
    while rest:
        word = rest.pop(0)
        if not _is_flag(word):
            loose.append(word)
            continue
        name, assigned, text = word.lstrip("-").partition("=")
        has_text = bool(assigned) or (bool(rest) and not _is_flag(rest[0]) and rest[0] != "-")
        typed.append((_id_of(name), text if assigned else rest.pop(0) if has_text else None))
    first = _FIRST_WORD[words[0]]
    if loose and first not in dict(typed):
        typed.insert(0, (first, loose.pop(0)))
    return CommandLine(tuple(typed), (*loose, *_not_of_fire(flags)))


def literal(text: str) -> Any:
    """Return what Fire takes a text for."""
    try:
        return DefaultParseValue(text)
    except (TypeError, MemoryError, RecursionError):  # Fire itself ends here
        return text


def _not_of_fire(flags: list[str]) -> list[str]:
    """Return the words behind "--" that are no options of Fire's own."""
    try:
        with redirect_stderr(StringIO()):  # argparse prints how it is used, and ends
            return CreateParser().parse_known_args(flags)[1]
    except SystemExit as error:
        words = " ".join(map(repr, flags[:3])) + (" ..." if len(flags) > 3 else "")
        raise RequestError(
            f"behind --: {words}; expected options of the stage, which go before it: leave out the --"
        ) from error


def _id_of(name: str) -> str:
    return name.replace("-", "_").replace("#", ID_SEP_KEY)


def _is_flag(word: str) -> bool:
    """Whether Fire takes a word for the name of an option; a negative number is none."""
    return word.startswith("--") or re.match(r"-[a-zA-Z]", word) is not None
