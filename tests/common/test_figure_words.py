"""Words of the user in figures."""

import logging
import warnings
from types import SimpleNamespace

import pytest
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scripts.common import figure_words
from scripts.common.figure_words import BOX, USUAL, plain_text, shortened

NO_FONT_HAS = "\U000e0041"  # a letter of no language


def draw(text: str) -> str:
    """Draw a title; Matplotlib's warnings are errors."""
    figure = Figure()
    canvas = FigureCanvasAgg(figure)
    shown, options = plain_text(text)
    title = figure.add_subplot().set_title(shown, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        canvas.draw()
    return title.get_text()


@pytest.mark.parametrize(
    "text",
    ["up to $5_{ or $6", "G\u2265 3 \u00b5m", "\u041e\u043f\u0443\u0445\u043e\u043b\u044c", r"a\b", "x_1^2 & <b>"],
)
def test_words_are_drawn_as_they_stand(text: str) -> None:
    assert draw(text) == text


def test_letters_that_no_font_has_are_boxes_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for cached in (figure_words._fonts_for, figure_words._warn_of_boxes):
        cached.cache_clear()
    monkeypatch.setattr(figure_words, "_fonts", list)
    with caplog.at_level(logging.WARNING):
        assert draw("\u6b63\u5e38") == 2 * BOX
        assert draw(f"a{NO_FONT_HAS}") == f"a{BOX}"
    assert len(caplog.records) == 1 and "\u6b63" not in caplog.text
    figure_words._fonts_for.cache_clear()


def test_a_font_that_has_the_letters_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """STIX, which comes with Matplotlib, has mathematical letters that the usual font lacks."""
    figure_words._fonts_for.cache_clear()
    letter = next(
        chr(code)
        for code in font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap()
        if chr(code) not in figure_words._letters(str(figure_words._PATH)) and chr(code).isprintable()
    )
    stix = SimpleNamespace(name="STIXGeneral", fname=font_manager.findfont("STIXGeneral"))
    monkeypatch.setattr(figure_words, "_fonts", lambda: [stix])
    assert plain_text(f"a{letter}") == (f"a{letter}", {"parse_math": False, "fontfamily": [USUAL, "STIXGeneral"]})
    assert draw(f"a{letter}") == f"a{letter}"
    figure_words._fonts_for.cache_clear()


def test_long_words_are_shortened() -> None:
    assert shortened("well differentiated adenocarcinoma of the colon", most=20) == "well differentiated…"
    assert shortened("two\nlines") == "two lines"
