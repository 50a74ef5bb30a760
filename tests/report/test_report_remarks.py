from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report.report_files import card_of, predictions_of, write_inference

from scripts.evaluation.predictions import Prediction
from scripts.report.remarks import remarks_on
from scripts.report.results import Inference, SlideResult, read_inference


def first_of(folder: Path, p: float = 0.9, **options: Any) -> tuple[SlideResult, Inference]:
    prediction = Prediction("slide", None, (1 - p, p), 0.5, (0.5,))
    inference = read_inference(write_inference(folder, card_of("normal", "tumour"), [prediction], **options))
    return inference.slides[0], inference


def test_a_plain_slide_has_none(tmp_path: Path) -> None:
    slide, inference = first_of(tmp_path)
    assert remarks_on(slide, inference) == []


@pytest.mark.parametrize(("p", "close"), [(0.36, True), (0.44, True), (0.34, False), (0.46, False)])
def test_close_to_the_threshold(tmp_path: Path, p: float, close: bool) -> None:
    found = remarks_on(*first_of(tmp_path, p))
    assert any("the verdict is close" in remark for remark in found) == close


def test_seen_in_training_comes_first(tmp_path: Path) -> None:
    found = remarks_on(*first_of(tmp_path, 0.4, seen_in="train"))
    assert "split train" in found[0] and "close" in found[1]


def test_unknown_resolution(tmp_path: Path) -> None:
    (found,) = remarks_on(*first_of(tmp_path, mpp=None))
    assert "resolution is unknown" in found


def test_without_heat_map_or_thumbnail(tmp_path: Path) -> None:
    (found,) = remarks_on(*first_of(tmp_path / "a", heat_maps=False))
    assert "no heat map" in found
    slide, inference = first_of(tmp_path / "b")
    assert slide.scores and not remarks_on(slide, inference)
    scores = {**slide.scores, "tissue": {**slide.tissue, "pen_coloured": None}}
    (found,) = remarks_on(replace(slide, scores=scores), inference)
    assert "by its patches alone" in found


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("tissue", "patches", 19, "Little tissue: 19 patches"),
        ("tissue", "left_out", 3, "3 patches lie on tiles"),
        ("tissue", "pen_coloured", 2, "2 patches taken for tissue"),
        ("tissue", "method", "otsu", "Otsu"),
        ("resolution", "read_px", 56, "enlarged 2.0 times"),
    ],
)
def test_what_scores_tell(tmp_path: Path, part: str, name: str, value: object, words: str) -> None:
    slide, inference = first_of(tmp_path)
    assert slide.scores
    slide.scores[part][name] = value
    (found,) = remarks_on(slide, inference)
    assert words in found


def test_three_classes_have_no_threshold(tmp_path: Path) -> None:
    inference = read_inference(write_inference(tmp_path, card_of("a", "b", "c"), predictions_of(1, 3)))
    assert remarks_on(inference.slides[0], inference) == []
