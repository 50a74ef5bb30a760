"""The stage ``reporting``: a page of all slides, and one page per slide."""

import logging
from contextlib import closing
from pathlib import Path

from ..common.boundary import slide_boundary
from ..common.errors import SlideError
from ..common.files import atomic_path, writing_to
from ..common.outputs import HeldOutputs
from ..common.progress import track
from ..common.pseudonyms import AS_THEY_ARE, Names
from ..slides.box import BoxReader
from .pages import Report, cohort_page, slide_page
from .performance import Performance, is_part_of, of_cohort, of_evaluation
from .pictures import Picture, slide_pictures
from .results import Inference, read_inference, renamed

SLIDE_SIDE_PX = 960
COHORT_SIDE_PX = 480
COHORT_PICTURES = 60
"""Slides up to which a cohort's pictures have their full size; with more each gets smaller, and the page no larger."""

LEAST_SIDE_PX = 96

_LOGGER = logging.getLogger(__name__)


def write_reports(
    predictions_dir: str | Path | None,
    *,
    evaluation_dir: str | Path | None = None,
    slides: str | Path | None = None,
    output_dir: str | Path | None = None,
    seed: int = 0,
    replace: bool = False,
    names: Names = AS_THEY_ARE,
) -> Path:
    """Write ``report.html`` and ``slides/<slide_id>.html``, each a file that needs nothing else.

    Args:
        predictions_dir: what inference wrote.
        evaluation_dir: what evaluating wrote about the same model: how good it is, and what its probabilities are worth.
        slides: table with the column ``patient`` of the evaluation's slides, for bands over patients.
        output_dir: folder of the pages; ``predictions_dir`` where it is None.
        seed: of the bootstrap.
        replace: whether a report of another request may be replaced.
        names: what slides, patients and places are called on the pages; those of an inference that had other names stay.

    Returns:
        path of the cohort's page.

    Raises:
        RequestError: a file is missing or is not what its stage writes, evaluation and predictions are of different models, or see
            :class:`..common.outputs.HeldOutputs`.
        SlideError: the heat maps of some slides cannot be shown; everything else is written.
    """
    inference = renamed(read_inference(predictions_dir), names)
    output = inference.folder if output_dir is None else Path(output_dir)
    named = {"predictions_dir": inference.folder, "evaluation_dir": evaluation_dir, "slides": slides}
    outputs = HeldOutputs(
        output,
        "reporting",
        {name: None if path is None else names.place(str(Path(path).absolute())) for name, path in named.items()}
        | {"seed": seed, **names.request},
        writes=("report.html", *(f"slides/{slide.slide_id}.html" for slide in inference.slides)),
        replace=replace,
    )
    outputs.check()
    evaluation = (
        None if evaluation_dir is None else of_evaluation(evaluation_dir, inference, slides=slides, names=names)
    )
    report = _report_of(inference, evaluation, seed, names)
    with writing_to(output), outputs:
        names.keep()
        failures = _write_pages(report, output)
    _LOGGER.info("report: %s", output / "report.html")
    if failures:
        raise SlideError(
            f"{len(failures)} of {len(inference.slides)} slides are shown without their heat map, all others are done; "
            f"{failures[0]}"
        )
    return output / "report.html"


def _report_of(inference: Inference, evaluation: Performance | None, seed: int, names: Names) -> Report:
    """Put together what the pages are about: the cohort's own figures only where they add to those of the evaluation."""
    performances, notes = [] if evaluation is None else [evaluation], _notes_on(inference)
    cohort = of_cohort(inference, seed=seed)
    if cohort and evaluation and is_part_of(cohort, evaluation, names):
        notes.insert(0, "The labelled slides of this cohort are among the test slides of the evaluation below.")
    elif cohort:
        performances.append(cohort)
    return Report(inference, tuple(performances), tuple(notes), seed)


def _notes_on(inference: Inference) -> list[str]:
    """Say which slides do not count where one may expect it, and why."""
    notes = []
    seen = sum(slide.seen_in is not None for slide in inference.slides)
    if seen:
        notes.append(
            f"{seen} of the slides were used to make the model (training or validation): they are marked, and do not count where "
            "this cohort is compared with its labels."
        )
    related = sum(slide.seen_in is None and not inference.is_new(slide) for slide in inference.slides)
    if related:
        notes.append(f"{related} more of the slides are of the same patients: they do not count there either.")
    strange = len(inference.slides) - len(inference.counted)
    if strange:
        notes.append(
            f"{strange} of the slides have a label that is none of the model's classes: they are counted above as they were "
            "called, and in no other figure."
        )
    return notes


def _write_pages(report: Report, output: Path) -> list[SlideError]:
    """Write the page of each slide and the page of all; return why pictures are missing."""
    slides = report.inference.slides
    shrunk = COHORT_SIDE_PX * min(1.0, (COHORT_PICTURES / max(1, len(slides))) ** 0.5)
    sides_px = (SLIDE_SIDE_PX, max(LEAST_SIDE_PX, round(shrunk)))
    small: list[Picture | None] = []
    failures: list[SlideError] = []
    with closing(BoxReader()) as boxes:
        for slide in track(slides, total=len(slides), what="reports", unit="slide"):
            pictures: list[Picture] = []
            try:
                with slide_boundary(slide.folder, "run inference anew"):
                    pictures = slide_pictures(slide, boxes, sides_px=sides_px)
            except SlideError as error:
                failures.append(error)
            large, *others = [*pictures, None, None][:2]
            _write(output / "slides" / f"{slide.slide_id}.html", slide_page(report, slide, large))
            small += others
    _write(output / "report.html", cohort_page(report, small))
    return failures


def _write(path: Path, page: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(page, encoding="utf-8", errors="backslashreplace")  # a file's name may be no Unicode
