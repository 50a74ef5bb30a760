"""Words of the user in figures: taken as they stand, in fonts of this machine that have their letters."""

import logging
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager

_LOGGER = logging.getLogger(__name__)

USUAL = "DejaVu Sans"
"""The font that comes with Matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew."""

_PATH = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")

BOX = "\N{WHITE SQUARE}"
"""Drawn for a letter that no font has."""

MOST_LETTERS = 40
_NOT_TO_READ_BY = ("Last Resort", "Emoji")
"""Fonts that have every letter as the same box, or letters as pictures only."""


def shortened(word: str, most: int = MOST_LETTERS) -> str:
    """A word in one line, and so short that it leaves room for the figure.

    >>> shortened("well differentiated adenocarcinoma of the colon", most=20)
    'well differentiated…'
    """
    word = re.sub(r"[^\S\N{NO-BREAK SPACE}]+", " ", word).strip()
    return word if len(word) <= most else f"{word[: most - 1].rstrip()}…"


def plain_text(text: str) -> tuple[str, dict[str, Any]]:
    """Prepare a text that holds words of the user for Matplotlib.

    Returns:
        the text with a box for each letter that no font has, and arguments of Matplotlib's texts. By these a dollar sign is no
        mathematics, and letters that the usual font lacks come from fonts of this machine.
    """
    usual = _letters(str(_PATH))
    families, letters = _fonts_for(frozenset(text) - usual)
    shown = "".join(letter if letter in usual or letter in letters else BOX for letter in text)
    return shown, {"parse_math": False, "fontfamily": [USUAL, *families]}


@cache
def _fonts_for(wanted: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Families that together have the letters ``wanted``, as far as there are any, and the letters that they have."""
    families: list[str] = []
    missing = set(wanted)
    for entry in _fonts():
        found = missing & _letters(entry.fname) if missing else set()
        if found:
            families.append(entry.name)
            missing -= found
    if missing:
        _warn_of_boxes()
    return families, wanted - missing


def _fonts() -> Iterable[font_manager.FontEntry]:
    known = font_manager.fontManager.ttflist
    upright = [
        entry for entry in known if entry.style == "normal" and not any(word in entry.name for word in _NOT_TO_READ_BY)
    ]
    return sorted(
        upright, key=lambda entry: (str(entry.weight) not in ("400", "normal", "regular"), entry.name, entry.fname)
    )


@cache
def _letters(path: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(path).get_charmap()))


@cache
def _warn_of_boxes() -> None:
    """Say it once: not per letter, and without the words, which are labels."""
    _LOGGER.warning(
        "no font of this machine has some letters of the class names: figures show boxes in their place; install one that has "
        "them, such as Noto Sans CJK, and remove Matplotlib's font cache"
    )
