import re
import xml.etree.ElementTree as ET

from matplotlib.figure import Figure

from scripts.report.svg import SERIES, inline_svg, page_style


def drawn(name: str = "plot", label: str = "label") -> str:
    with page_style():
        figure = Figure(figsize=(3, 2))
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], "o-", color=SERIES[0], label=label)
        axes.fill_between([0, 1], [0, 0], [1, 2], color=SERIES[5], alpha=0.2)
        axes.set_xlabel(label)
        axes.legend()
        return inline_svg(figure, name=name, title="a < b")


def test_colours_and_font_come_from_the_page() -> None:
    svg = drawn()
    assert "var(--series-0)" in svg and "var(--series-5)" in svg and "var(--ink)" in svg and "var(--rule)" in svg
    assert not re.search(r"#[0-9a-fA-F]{6}", svg), "a colour of its own, which one of light and dark would hide"
    families = set(re.findall(r"font-family:\s*([^;\"]+)", svg))
    assert families == {"inherit"}
    assert "<metadata" not in svg and "<style" not in svg


def test_text_is_text_and_escaped() -> None:
    root = ET.fromstring(drawn(label="<script> & $x^2$"))
    texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
    assert texts.count("<script> & $x^2$") == 2, "an axis label and a legend entry, not read as mathematics"
    assert (root.get("role"), root.get("aria-label")) == ("img", "a < b")


def test_ids_are_unique_in_a_page() -> None:
    ids = [re.findall(r'\sid="([^"]+)"', drawn(name)) for name in ("one", "two")]
    assert all(len(set(found)) == len(found) > 0 for found in ids)
    assert not set(ids[0]) & set(ids[1])
    for name in ("one", "two"):
        svg = drawn(name)
        referred = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', svg))
        assert referred and referred == set(re.findall(r'\sid="([^"]+)"', svg))


def test_the_same_figure_gives_the_same_text() -> None:
    assert drawn() == drawn()
