"""The stage ``cross_validating``: every fold trained and tested by the bundle's own commands, then summed up."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.config_files import CONFIGS
from ..common.errors import RequestError, SlideError
from ..common.exit_codes import EXIT_WRONG_REQUEST
from ..common.files import sha256_of, writing_to
from ..common.outputs import Found, HeldOutputs
from ..common.stage import run_command
from ..evaluation.folds import SUMMARY, FoldSummary, summarise_folds
from ..slides.slide_ids import known_ids
from ..slides.table import SlideRow, read_slides
from ..training.evaluation_files import EVALUATION_FILES
from ..training.saved_state import STATE_NAME
from .datasets import Dataset
from .recipe import Overlaid, config_paths, overlay_file
from .trainings import Trainings, options_of_evaluation

OF_FOLD = (*EVALUATION_FILES, "model.pt", "model.json", f"log/{STATE_NAME}")

_LOGGER = logging.getLogger(__name__)


def cross_validate(
    folds: str | Path,
    dataset_dir: str | Path,
    output_dir: str | Path,
    trainings: Trainings,
    *,
    overlays: Sequence[str | Path] = (),
    replace: bool = False,
) -> FoldSummary:
    """Train and test one network per fold, then sum up; a run that was stopped goes on where it stopped.

    Args:
        folds: folder with ``fold0.csv``, ``fold1.csv`` ... that split.yaml wrote.
        dataset_dir: folder of the embeddings.
        output_dir: one folder per fold, and the summary.
        trainings: options, the same for every fold, and one seed, of every training and of the bootstrap.
        overlays: config files laid over train.yaml, such as an ablation; names may be of ``bundle/configs``.
        replace: whether the run of another request may be replaced.

    Returns:
        see :func:`..evaluation.folds.summarise_folds`.

    Raises:
        RequestError: there are no folds, or they do not test every slide once; there is no such overlay; a training would refuse an
            option, or the study sets it itself; the output is of another request or holds files of others; a fold's command was
            refused.
        SlideError: a fold's command failed.
    """
    output = Path(output_dir).resolve()
    tables = sorted(Path(folds).absolute().glob("fold*.csv"), key=lambda path: (len(path.name), path.name))
    rows = _require_folds(Path(folds), tables, Path(dataset_dir))
    found = [str(overlay_file(overlay)) for overlay in overlays]
    recipe = Overlaid("fold", tuple(found))
    given = trainings.options_for([recipe])
    (seed,) = trainings.seeds
    request = {
        "folds": {table.name: sha256_of(table) for table in tables},
        "dataset_dir": str(Path(dataset_dir).resolve()),
        "overlays": {str(named): sha256_of(file) for named, file in zip(overlays, found, strict=True)},
        "options": given,
        "seed": seed,
        "content": {table.name: _content_of(recipe, dataset_dir, {**given, "slides": str(table)}) for table in tables},
    }
    folders = [output / table.stem for table in tables]
    outputs = HeldOutputs(
        output,
        "cross_validating",
        request,
        writes=[*SUMMARY, *(f"{folder.name}/{name}" for folder in folders for name in OF_FOLD)],
        replace=replace,
        found=Found(below=True),
    )
    with writing_to(output), outputs:
        for table, folder in zip(tables, folders, strict=True):
            if (folder / EVALUATION_FILES[-1]).is_file():
                _LOGGER.info("%s: done before, kept", table.stem)
                continue
            common = {
                "bundle_root": CONFIGS.parent,
                "dataset_dir": dataset_dir,
                "slides": table,
                "model": folder / "model.pt",
                "seed": seed,
            }
            log = folder / "log"
            begun = {"resume": True} if (log / STATE_NAME).is_file() else {}
            _run("training", recipe.files, {**given, **common, "output_dir": log, **begun})
            evaluation = {**options_of_evaluation(given), **common, "output_dir": folder}
            _run("evaluating", [*recipe.files, *config_paths("evaluate.yaml")], evaluation)
        summary = summarise_folds(folders, output, patient_of={row.slide_id: row.patient for row in rows}, seed=seed)
    mean = summary.over_folds["auc"].mean
    if mean is not None:
        _LOGGER.info("AUC of %d folds: mean %.3f; see %s", len(tables), mean, output / "report.md")
    return summary


def _content_of(recipe: Overlaid, dataset_dir: str | Path, options: Mapping[str, Any]) -> dict[str, str]:
    """See :meth:`.datasets.Dataset.content_for`.

    Raises:
        RequestError: the slides of a fold cannot be read as asked for.
    """
    try:
        return Dataset(Path(dataset_dir), options).content_for(recipe)
    except RequestError as error:
        raise RequestError(f"{error}; options of the training go into --more \"{{'name': value}}\"") from error


def _run(run_id: str, files: Sequence[str | Path], options: Mapping[str, Any]) -> None:
    """Run a stage on one fold.

    Raises:
        RequestError: it was refused (exit code 2).
        SlideError: it failed otherwise.
    """
    if code := run_command(run_id, files, options):
        kind = RequestError if code == EXIT_WRONG_REQUEST else SlideError
        raise kind(
            f"{options['slides']}: {run_id} ended with code {code}, its own error stands above; correct that and run the same "
            "command again: folds that are done are kept"
        )


def _require_folds(folder: Path, tables: Sequence[Path], dataset_dir: Path) -> list[SlideRow]:
    """Return the slides by their ids in the data set; refuse folds of different slides, or that test a labelled one never."""
    if len(tables) < 2:
        raise RequestError(
            f"{folder}: {len(tables)} files fold<i>.csv, expected two or more: make them with split.yaml --folds 5"
        )
    tested: dict[str, Path] = {}
    known = known_ids(dataset_dir)
    first: set[tuple[str, str | None, str | None]] = set()
    for table in tables:
        rows = read_slides(table, known=known)
        slides = {(row.slide_id, row.label, row.patient) for row in rows}
        first = first or slides
        if other := sorted(slide_id for slide_id, _, _ in first ^ slides):
            raise RequestError(
                f"{table}: slide {other[0]} does not stand in it with the label and the patient of {tables[0].name}; expected "
                "the same slides in every fold: make them with split.yaml"
            )
        for row in rows:
            if row.split == "test" and tested.setdefault(row.slide_id, table) != table:
                raise RequestError(
                    f"{table}: slide {row.slide_id} is in split test, as in {tested[row.slide_id].name}; expected every slide "
                    "tested once: make the folds with split.yaml"
                )
    untested = [row.slide_id for row in rows if row.label is not None and row.slide_id not in tested]
    if untested:
        raise RequestError(
            f"{folder}: slide {untested[0]} is tested in no fold; expected every slide tested once: is a file fold<i>.csv missing?"
        )
    return rows
