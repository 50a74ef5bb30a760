from pathlib import Path

import pytest
from report.report_files import card_of, predictions_of, write_inference

from scripts.dsnet.heat_map import GRAD_CAM, LESION_MAP, PATCH_MAP, MapKind
from scripts.evaluation.calibration import reliability
from scripts.evaluation.predictions import Prediction
from scripts.report import words
from scripts.report.performance import of_cohort
from scripts.report.results import Inference, SlideResult, read_inference


def inference_of(
    folder: Path, *class_names: str, threshold: float | None = None, heat_maps: bool = False, **changed: object
) -> Inference:
    card, predictions = card_of(*class_names, **changed), predictions_of(4, len(class_names))
    return read_inference(write_inference(folder, card, predictions, threshold=threshold, heat_maps=heat_maps))


def slide_of(*probabilities: float) -> SlideResult:
    return SlideResult(Prediction("s", None, probabilities, None), 0, None, Path("s"), None, None, None)


@pytest.mark.parametrize(("p", "low"), [(0.0, 0.0), (0.05, 0.0), (0.1, 0.0), (0.100001, 0.1), (0.95, 0.9), (1.0, 0.9)])
def test_the_bin_of_a_slide_is_where_the_diagram_puts_it(tmp_path: Path, p: float, low: float) -> None:
    performance = of_cohort(inference_of(tmp_path, "a", "b"))
    found = words.bin_of(slide_of(1 - p, p), performance)
    assert found is not None and found.low == pytest.approx(low)
    (counted,) = [one for one in reliability([1], [[1 - p, p]]) if one.slides]
    assert counted.low == pytest.approx(low)


def test_the_bin_of_three_classes_is_of_the_highest(tmp_path: Path) -> None:
    found = words.bin_of(slide_of(0.75, 0.15, 0.1), of_cohort(inference_of(tmp_path, "a", "b", "c")))
    assert found is not None and found.low == pytest.approx(0.7)
    assert words.bin_of(slide_of(0.5, 0.5), None) is None


def test_where_the_threshold_comes_from(tmp_path: Path) -> None:
    assert "validation slides" in words.threshold_source(inference_of(tmp_path / "a", "a", "b"))
    given = words.threshold_source(inference_of(tmp_path / "b", "a", "b", threshold=0.7))
    assert given == "given on the command line instead of the model card's 0.400"
    default = inference_of(tmp_path / "c", "a", "b", threshold_from="default")
    assert "no threshold parted the validation slides" in words.threshold_source(default)


def test_what_was_looked_at(tmp_path: Path) -> None:
    found = dict(words.quality(inference_of(tmp_path, "a", "b", heat_maps=True).slides[0]))
    assert found["Tissue"] == "0.19 mm² in 47 patches of 64 µm"
    assert found["Box looked at"] == "8 × 6 patches, 0.20 mm²; from x 256, y 512 px of level 0"
    assert found["Resolution"].startswith("0.5 × 0.5 µm per pixel; patches read from level 0, 128 px per side")
    assert found["On unreadable tiles"] == "not known"
    assert found["Pen colour on tissue"].startswith("0 patches")


def test_an_unknown_model_is_not_made_up(tmp_path: Path) -> None:
    """A card of an older version, or none, says little: so does the report."""
    inference = inference_of(tmp_path, "0", "1", training={}, validation={}, weights_sha256=None, versions={})
    found = dict(words.model_card(inference))
    assert {found[name] for name in ("Trained on", "Epoch", "Validated on", "Weights (sha256)", "Made with")} == {
        "not stated"
    }
    assert found["Task"] == "one of 2 classes per slide: class\u00a00, class\u00a01"


def test_numbers() -> None:
    assert (words.number(None), words.number(0.12349)) == ("undefined", "0.123")
    assert (words.interval([0.1, 0.25], 2), words.interval([None, None]), words.interval(None)) == (
        "0.10 to 0.25",
        "",
        "",
    )
    assert (words.count(1, "slide"), words.count(1200, "patch", "patches")) == ("1 slide", "1,200 patches")
    assert (words.percent(0.345), words.class_label("tumour"), words.class_label("3")) == (
        "34\u00a0%",
        "tumour",
        "class\u00a03",
    )


def test_what_the_map_is(tmp_path: Path) -> None:
    inference = inference_of(tmp_path, "a", "b", heat_maps=True)
    assert (words.heat_map(inference).title, words.heat_map(inference).is_probability) == ("Grad-CAM", False)
    for slide in inference.slides:
        assert slide.scores is not None
        slide.scores["heat_map"] = "Lesion map"
    assert words.heat_map(inference).is_probability


@pytest.mark.parametrize(
    ("kind", "said", "unsaid"),
    [
        (PATCH_MAP, "the probability that the network gives each patch", "maximum"),
        (LESION_MAP, "the probability that the network gives each patch", "maximum"),
        (GRAD_CAM, "relative to the slide's own maximum", "the probability"),
    ],
)
def test_limits_are_those_of_the_map(kind: MapKind, said: str, unsaid: str) -> None:
    (found,) = [sentence for sentence in words.limits(kind) if "heat map" in sentence]
    assert said in found and unsaid not in found and "no outline of a lesion" in found


def test_code_words_of_markdown_are_those_of_html() -> None:
    assert words.code("AUC < `a&b`, `c` and a ` alone") == (
        "AUC &lt; <code>a&amp;b</code>, <code>c</code> and a ` alone"
    )
