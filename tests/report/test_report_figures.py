import re

import pytest

from scripts.report.figures import area_plot, stream_score_plot


def texts(svg: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


@pytest.mark.parametrize(("largest", "ticks"), [(5.0, {"1", "2"}), (900.0, {"1", "10", "100"})])
def test_areas_of_every_size(largest: float, ticks: set[str]) -> None:
    """From a tenfold range on the axis is logarithmic, with plain numbers on it."""
    groups = [("a", [(0.9, 0.2), (largest, 0.8)]), ("b", [])]
    found = texts(area_plot(groups, name="x"))
    assert ticks <= set(found), found
    assert not [text for text in found if "$" in text or "\\" in text]


def test_every_class_is_in_the_histogram() -> None:
    svg = stream_score_plot([("a", [0.1, 0.2]), ("b", []), ("c", [0.9])], name="x")
    assert {"a", "c"} <= set(texts(svg))
    assert "var(--series-0)" in svg and "var(--series-2)" in svg and "var(--series-1)" not in svg


def test_words_of_the_user_are_drawn_as_they_stand() -> None:
    """Letters without a glyph here are the reader's fonts' affair, an underscore keeps nothing out of the legend, long names are cut."""
    names = ["up to $5_{ or $6", "\u6b63\u5e38", "_normal", "x" * 300]
    found = texts(stream_score_plot([(name, [0.5]) for name in names], name="x"))
    assert {"up to $5_{ or $6", "\u6b63\u5e38", "\N{ZERO WIDTH SPACE}_normal", "x" * 23 + "…"} <= set(found)
