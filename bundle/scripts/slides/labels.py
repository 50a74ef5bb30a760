"""Words in the columns label and patient: which stand for nothing, which are two spellings of one, and their order."""

import re
import unicodedata
from collections.abc import Iterable

from ..common.errors import RequestError

MISSING = frozenset(
    {
        "", "na", "n/a", "n.a.", "<na>", "#na", "#n/a", "#n/a n/a", "#nv", "nan", "-nan", "null", "none", "-", "--", "?", ".",
        "\N{EN DASH}", "\N{EM DASH}",
    }
)  # fmt: skip
"""What spreadsheets, R, pandas and people write where there is no value, whatever the case."""

_WHOLE = re.compile(r"([+-]?\d{1,300})\.0*", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def parse_word(cell: str) -> str | None:
    """Return the word of a cell: None where it stands for nothing, and 1 for 1.0, as pandas writes integers beside missing ones."""
    word = cell.strip()
    if word.casefold() in MISSING:
        return None
    whole = _WHOLE.fullmatch(word)
    return str(int(whole[1])) if whole else word


def sorted_words(words: Iterable[str]) -> list[str]:
    """Sort numbers by their value where all are numbers, else by the alphabet, in which capitals and accents hardly count."""
    words = list(words)
    return sorted(words, key=float) if all(map(_NUMBER.fullmatch, words)) else sorted(words, key=_place)


def _place(word: str) -> tuple[str, str]:
    return unicodedata.normalize("NFKD", word.casefold()), word


def spelling_of(word: str) -> str:
    """Return what spellings of one word have in common: they differ by case, spaces, dashes, Unicode's forms or unseen letters."""
    letters = unicodedata.normalize("NFKC", word).casefold()
    kinds = ((letter, unicodedata.category(letter)) for letter in letters)
    seen = "".join("-" if kind == "Pd" else letter for letter, kind in kinds if kind != "Cf")
    return re.sub(r"\s+", " ", seen).strip()


def require_one_spelling(words: Iterable[str], what: str, source: object, *, numbers: bool) -> None:
    """Refuse words that differ by case or spaces alone and, with ``numbers``, two spellings of one number.

    Args:
        words: of a column.
        what: the column, for the error.
        source: the table, for the error.
        numbers: whether 01 and 1 are one word.

    Raises:
        RequestError: names the first two.
    """
    first: dict[str | float, str] = {}
    for word in words:
        key: str | float = spelling_of(word)
        if numbers and _NUMBER.fullmatch(word):
            key = float(word)
        other = first.setdefault(key, word)
        if other != word:
            raise RequestError(
                f"{source}: column {what} has {other!r} and {word!r}, which differ in spelling alone, expected one spelling: "
                "write both alike, or tell them apart by more than case and spaces"
            )
