import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from report.report_files import EVIL, card_of, predictions_of, write_evaluated, write_inference
from tiny_flow import TinyFlow, run_command, run_config

from scripts.common.errors import RequestError, SlideError
from scripts.common.pseudonyms import Names
from scripts.report.report_run import write_reports
from scripts.slides.slide_search import find_slides

pytest_plugins = ["tiny_flow_fixture"]

VOID = {"meta", "link", "img", "input", "br"}
NAMES = ["Fall & 3 #7", 'a "quoted" one']


class Page(HTMLParser):
    """What a page holds: its text, elements by tag, and whether every element was closed in its order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def assert_needs_nothing(page: Page) -> None:
    """No address but data, places in the page, and the pages beside it."""
    assert not page.open
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster", "xlink:href"):
            value = attributes.get(name)
            if value and tag != "a":
                assert value.startswith(("data:", "#")), f"{tag} {name}={value[:60]}"
        assert not [name for name in attributes if name.startswith("on")], "CSP forbids handlers in attributes"
    assert len(page.of("script")) == 1
    policy = next(one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy and policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort with hostile names, beside an evaluation of other slides."""
    folder = tmp_path_factory.mktemp("reported")
    card = card_of("normal", EVIL)
    predictions = write_inference(folder / "out", card, predictions_of(6, names=NAMES), failed="<b>broken</b>")
    write_evaluated(folder / "eval", card, predictions_of(30, seed=3))
    path = write_reports(predictions, evaluation_dir=folder / "eval", output_dir=folder / "report")
    assert path == folder / "report" / "report.html"
    return folder / "report"


def test_each_page_needs_nothing_else(reported: Path) -> None:
    pages = sorted(reported.rglob("[!.]*"))
    assert len([path for path in pages if path.is_file()]) == 1 + 6
    for path in reported.rglob("*.html"):
        assert_needs_nothing(Page(path))
    assert "url(" not in re.sub(r"url\(#", "", (reported / "report.html").read_text()), "an image of a style sheet"


def test_names_are_text(reported: Path) -> None:
    for path in reported.rglob("*.html"):
        source, page = path.read_text(), Page(path)
        assert EVIL not in source and "<b>" not in source
        assert EVIL in page.text, path
    assert "<b>broken</b>" in Page(reported / "report.html").text
    assert NAMES[0] in Page(reported / "slides" / f"{NAMES[0]}.html").text


def test_a_name_that_is_no_unicode_is_told_with_backslashes(tmp_path: Path) -> None:
    failed = "\udcff.tif"  # as a file's name in another encoding is read
    folder = write_inference(tmp_path, card_of("a", "b"), predictions_of(2), heat_maps=False, failed=failed)
    assert r"\udcff.tif" in Page(write_reports(folder)).text


def test_links_lead_to_the_slides(reported: Path) -> None:
    links = {str(link["href"]) for link in Page(reported / "report.html").of("a")} - {None}
    pages = [reported / unquote(link) for link in links if not link.startswith("#")]
    assert len(pages) == 6 and all(path.is_file() for path in pages)
    back = next(link["href"] for link in Page(pages[0]).of("a"))
    assert back and (pages[0].parent / back).is_file()


def test_the_cohort(reported: Path) -> None:
    page = Page(reported / "report.html")
    for words in (
        "6 slides",
        "1 slide not classified",
        "chosen on the validation slides",
        "on 30 test slides",
        "This cohort against its labels",
        "ROC curve",
        "Average precision",
        "Calibration",
        "Stream scores by class",
        "Spearman's correlation",
        "c0ffee",
        "not for diagnosis",
        "resamples",
    ):
        assert words in page.text, words
    titles = [svg.get("aria-label") for svg in page.of("svg")]
    assert titles.count("ROC curve") == 2 and "Tissue area against stream score" in titles
    assert len(page.of("button")) > 6 and all(image.get("src") for image in page.of("img"))


def test_a_slide(reported: Path) -> None:
    page = Page(reported / "slides" / "slide_05.html")
    for words in (
        "Probability of",
        "of the test set with a probability between",
        "95 % interval",
        "threshold 0.400",
        "Calibrated on the validation slides (temperature 1.25)",
        "0.5 × 0.5 µm per pixel",
        "Left out as ink, debris or blood",
        "320 joined feature maps",
        "Stream score",
        "c0ffee",
        "Settings",
        "not for diagnosis",
    ):
        assert words in page.text, words
    assert [image.get("alt") for image in page.of("img")] == ["Tissue of the slide, 8 by 6 patches", "", ""]


def test_no_slide_name_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_inference(tmp_path, card_of("a", "b"), predictions_of(2, names=["secret"]))
    with caplog.at_level(logging.INFO):
        write_reports(folder)
    assert "report.html" in caplog.text and "secret" not in caplog.text


def test_without_labels_or_evaluation(tmp_path: Path) -> None:
    write_reports(write_inference(tmp_path, card_of("a", "b"), predictions_of(3, labelled=False)))
    page = Page(tmp_path / "report.html")
    assert_needs_nothing(page)
    assert "Not known here: no evaluation was given" in page.text and "by what they were called" in page.text
    assert "Label" not in page.text
    assert "is not known here: no evaluation was given" in Page(tmp_path / "slides" / "slide_00.html").text


def test_without_heat_maps(tmp_path: Path) -> None:
    write_reports(write_inference(tmp_path, card_of("a", "b"), predictions_of(3), heat_maps=False))
    for path in tmp_path.rglob("*.html"):
        assert_needs_nothing(Page(path))
        assert not Page(path).of("img")


def test_heat_maps_of_an_earlier_run_are_told_of_and_not_shown(tmp_path: Path) -> None:
    for heat_maps in (True, False):
        write_inference(tmp_path, card_of("a", "b"), predictions_of(3), heat_maps=heat_maps)
    write_reports(tmp_path)
    page = Page(tmp_path / "slides" / "slide_01.html")
    assert not page.of("img") and not Page(tmp_path / "report.html").of("img")
    assert "The heat map in the slide's folder is of an earlier run of inference: it is not shown." in page.text


def test_an_empty_map_is_called_empty(tmp_path: Path) -> None:
    write_reports(write_inference(tmp_path, card_of("a", "b"), predictions_of(1), empty_map=True))
    assert "Nothing on this slide spoke for b" in Page(tmp_path / "slides" / "slide_00.html").text


def test_slides_of_the_training_are_marked(tmp_path: Path) -> None:
    write_reports(write_inference(tmp_path, card_of("a", "b"), predictions_of(4), seen_in="train", heat_maps=False))
    page = Page(tmp_path / "report.html")
    assert "4 of the slides were used to make the model" in page.text and "against its labels" not in page.text
    assert "of the same patients" not in page.text


def test_slides_of_patients_of_the_training_are_counted(tmp_path: Path) -> None:
    patients = ["p", "p", "p", "q", "q", "r", "r", "s"]
    inference = write_inference(
        tmp_path, card_of("a", "b"), predictions_of(8), seen_in="train", seen=[0], patients=patients, heat_maps=False
    )
    write_reports(inference)
    page = Page(tmp_path / "report.html")
    assert "1 of the slides were used to make the model" in page.text
    assert "2 more of the slides are of the same patients: they do not count there either" in page.text
    assert "on 5 labelled slides" in page.text and "equal embeddings" in page.text


def test_three_classes(tmp_path: Path) -> None:
    card = card_of("0", "1", "2")
    write_evaluated(tmp_path / "eval", card, predictions_of(30, 3, seed=3))
    write_reports(write_inference(tmp_path, card, predictions_of(6, 3)), evaluation_dir=tmp_path / "eval")
    page, slide = Page(tmp_path / "report.html"), Page(tmp_path / "slides" / "slide_02.html")
    assert_needs_nothing(page)
    assert "The class of the highest probability is called" in page.text and "One class against the rest" in page.text
    assert "class\u00a02" in " ".join(slide.texts) and "were called rightly" in slide.text


def test_the_same_inputs_give_the_same_pages(tmp_path: Path) -> None:
    folder = write_inference(tmp_path / "out", card_of("a", "b"), predictions_of(4))
    for name in ("one", "two"):
        write_reports(folder, output_dir=tmp_path / name)
    for path in (tmp_path / "one").rglob("*.html"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()


def test_a_request_that_is_wrong_writes_nothing(tmp_path: Path) -> None:
    folder = write_inference(tmp_path / "out", card_of("a", "b"), predictions_of(2))
    with pytest.raises(RequestError, match="evaluation_dir"):
        write_reports(folder, evaluation_dir=tmp_path / "none", output_dir=tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_anonymous_report_tells_of_the_same_slides_once(tmp_path: Path) -> None:
    card = card_of("a", "b", temperature=1.0)
    evaluated = write_evaluated(tmp_path / "eval", card, predictions_of(20))
    folder = write_inference(tmp_path / "out", card, predictions_of(20)[:6], heat_maps=False)
    names = Names(True, tmp_path / "study.key", tmp_path / "report")
    page = Page(write_reports(folder, evaluation_dir=evaluated, output_dir=tmp_path / "report", names=names))
    assert "are among the test slides of the evaluation" in page.text
    assert "This cohort against its labels" not in page.text


def test_from_slides_to_the_report(flow: TinyFlow, tmp_path: Path) -> None:
    """Inference on the slides of every split, then the command: those of the training are known by their embeddings."""
    run_config(
        "inference.yaml",
        run_id="inference",
        workflow_type="infer",
        dataset_dir=flow.dataset,
        output_dir=tmp_path / "out",
        device="cpu",
        **flow.trained,
    )
    options = {"predictions_dir": tmp_path / "out", "evaluation_dir": flow.evaluation}
    result = run_command("reporting", "report.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 0, result.stderr
    page = Page(tmp_path / "out" / "report.html")
    assert "8 slides" in page.text and "6 of the slides were used to make the model" in page.text
    assert "on 2 test slides" in page.text
    assert "The labelled slides of this cohort are among the test slides" in page.text
    slide = Page(tmp_path / "out" / "slides" / "test_001.html")
    assert len(slide.of("img")) == 3 and "Read by" in slide.text


def test_links_lead_to_slides_of_any_name_and_heat_maps_are_no_slides(tmp_path: Path) -> None:
    names = [
        "per%cent 100%",
        "hash#1",
        "what?",
        "new\nline",
        "片段",
        "a" * 250,
        "report",
        "slides",
        "manifest",
        "50%41",
        "-x",
        "a.b",
    ]
    predictions = write_inference(
        tmp_path, card_of("normal", "tumor"), predictions_of(len(names), names=names), heat_maps=False
    )
    write_inference(tmp_path / "maps", card_of("normal", "tumor"), predictions_of(1))
    assert find_slides(tmp_path) == []
    report = write_reports(predictions)
    hrefs = [str(link["href"]) for link in Page(report).of("a") if not str(link["href"]).startswith("#")]
    pages = [report.parent / unquote(urlsplit(href).path) for href in hrefs]
    assert {page.name for page in pages} == {f"{name}.html" for name in names} and all(page.is_file() for page in pages)


def test_a_heat_map_that_cannot_be_shown_costs_its_picture(tmp_path: Path) -> None:
    write_inference(tmp_path, card_of("a", "b"), predictions_of(3))
    (tmp_path / "slide_01" / "cam.nii.gz").write_bytes(b"no volume")
    with pytest.raises(
        SlideError, match=r"1 of 3 slides are shown without their heat map, all others are done; .*slide_01"
    ):
        write_reports(tmp_path)
    pages = {path.stem: Page(path) for path in (tmp_path / "slides").glob("*.html")}
    assert sorted(pages) == ["slide_00", "slide_01", "slide_02"]
    assert len(pages["slide_01"].of("img")) < len(pages["slide_00"].of("img"))
    assert (tmp_path / "report.html").is_file()


def test_slides_with_labels_that_are_no_classes_are_left_out_of_area_and_streams(tmp_path: Path) -> None:
    predictions = predictions_of(6)
    strange = [replace(one, label=None, other_label="x") if place < 2 else one for place, one in enumerate(predictions)]
    page = Page(write_reports(write_inference(tmp_path, card_of("a", "b"), strange)))
    assert "Tissue area against stream score (Fig. 9 of the paper), 4 slides of this cohort, by label;" in page.text


@pytest.mark.parametrize("anonymise", [False, True])
def test_slides_with_labels_that_are_no_classes_count_as_called_and_in_no_other_figure(
    tmp_path: Path, anonymise: bool
) -> None:
    predictions = [replace(one, stream_score=place / 10) for place, one in enumerate(predictions_of(6))]
    strange = [
        replace(one, label=None, other_label="Dr Who") if place < 2 else one for place, one in enumerate(predictions)
    ]
    folder = write_inference(tmp_path / "out", card_of("a", "b"), strange, heat_maps=False)
    names = Names(anonymise, tmp_path / "study.key", tmp_path / "report")
    cohort = Page(write_reports(folder, output_dir=tmp_path / "report", names=names))
    called = [int(many) for many in re.findall(r"(\d) called [ab]", cohort.text)]
    assert sum(called) == 6
    assert "2 of the slides have a label that is none of the model's classes: they are counted above" in cohort.text
    pages = [Page(path) for path in (tmp_path / "report" / "slides").iterdir()]
    assert all("the median of the 4 slides of this run that count in figures, 0.35." in page.text for page in pages)
    given = "another" if anonymise else "Dr Who"
    assert sum(f"The label given is {given}, which is none of" in page.text for page in pages) == 2
    assert ("Dr Who" in cohort.text) is not anonymise


def test_the_median_of_a_run_of_one_slide_that_counts_is_none(tmp_path: Path) -> None:
    first, *others = predictions_of(3)
    strange = [first, *(replace(one, label=None, other_label="x") for one in others)]
    write_reports(write_inference(tmp_path, card_of("a", "b"), strange, heat_maps=False))
    assert not any("median" in Page(path).text for path in (tmp_path / "slides").iterdir())


def test_labels_that_are_no_classes_and_few_test_slides(tmp_path: Path) -> None:
    card = card_of("normal", "tumour")
    first, *others = predictions_of(4)
    strange = replace(first, label=None, other_label="Normal <x>")
    predictions = write_inference(tmp_path / "out", card, [strange, *others])
    write_evaluated(tmp_path / "eval", card, predictions_of(4, seed=3))
    report = write_reports(predictions, evaluation_dir=tmp_path / "eval", output_dir=tmp_path / "report").parent
    cohort, slide = Page(report / "report.html"), Page(report / "slides" / "slide_00.html")
    assert "1 of the slides have a label that is none of the model's classes" in cohort.text
    assert "Normal <x>" in cohort.text and "The label given is Normal <x>, which is none of" in slide.text
    assert "(no interval: 2 patients, expected 10 or more) on 4 test slides" in cohort.text
    assert "none: 2 patients, expected 10 or more" in cohort.text and "()" not in cohort.text
