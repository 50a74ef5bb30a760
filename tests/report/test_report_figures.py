import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from report.report_files import card_of, predictions_of, write_inference

from scripts.report.figures import area_plot, precision_recall_plot, roc_plot, stream_score_plot
from scripts.report.performance import of_cohort
from scripts.report.results import read_inference


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


def strokes(svg: str) -> list[tuple[str, str]]:
    """Colour and dashes of every curve of that width."""
    styles = re.findall(r'style="([^"]*stroke-width: 1\.8[^"]*)"', svg)
    return [
        tuple("".join(re.findall(rf"{name}: ([^;]+)", one)) for name in ("stroke", "stroke-dasharray"))
        for one in styles
    ]


def test_each_of_nine_classes_has_a_line_of_its_own(tmp_path: Path) -> None:
    """There are six colours; further lines are dashed."""
    names = [f"tissue {index}" for index in range(9)]
    performance = of_cohort(
        read_inference(write_inference(tmp_path, card_of(*names), predictions_of(36, 9), heat_maps=False))
    )
    assert performance is not None
    for plot in (roc_plot, precision_recall_plot):
        found = strokes(plot(performance))
        assert len(set(found)) == 9, found
        assert all(not dashes for _, dashes in found[:6])


def test_each_of_nine_classes_has_a_marker_of_its_own() -> None:
    groups = [(f"tissue {index}", [(1.0, 0.5)]) for index in range(9)]
    elements = list(ET.fromstring(area_plot(groups, name="x")).iter())
    shapes = {f"#{one.get('id')}": one.get("d") for one in elements}
    colours = re.compile(r"fill: (var\(--series-\d\))")
    used = {
        (shapes[one.attrib["href"]], *colours.findall(one.get("style", ""))) for one in elements if "href" in one.attrib
    }
    assert len([one for one in used if len(one) == 2]) == 9, used
