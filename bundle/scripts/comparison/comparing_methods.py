"""The stage ``comparing_methods``: several methods trained and tested on the same slides, and one table of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import RequestError
from ..encoding.raw import RAW_NAME
from ..evaluation.curves import MeanRoc, mean_roc
from ..evaluation.metrics import ranks
from ..studies.datasets import Dataset
from ..studies.outcomes import EvaluatedSlides, Outcome, read_outcome
from ..studies.recipe import recipes_named
from ..studies.runs import Study, StudyRun
from ..studies.trainings import Trainings
from ..training.lesion_targets import training_masks
from .cost import cost_of
from .methods import DSNET, METHODS, PAPER, RAW, Method
from .methods_summary import COLUMNS, record_of
from .methods_table import TABLES, MethodsTable, write_methods, write_page
from .roc import write_roc


def compare_methods(
    dataset_dir: str | Path,
    output_dir: str | Path,
    trainings: Trainings,
    *,
    methods: Sequence[str] | None = None,
    reference: str = DSNET,
    dry_run: bool = False,
) -> list[dict[str, object]]:
    """Train and test methods, each once per seed, and write `TABLES`; runs that are done are kept.

    Args:
        dataset_dir: slides.csv with a column split, and an embedding per slide.
        output_dir: folder of the tables, and of a folder ``<method>/seed<n>`` per run.
        trainings: seeds and options, the same for all methods; options that are None keep the method's own.
        methods: names of `METHODS`; None: all.
        reference: method that the others are compared with.
        dry_run: print which runs there would be, and write nothing.

    Returns:
        the records of the table; none of a dry run.

    Raises:
        RequestError: no such method, or an option that a training would refuse. So is an option that the study itself sets, and a
            folder with a run of another request. See :class:`..common.outputs.HeldOutputs`, too.
        SlideError: a run failed; the table of the others is written.
    """
    compared = recipes_named("methods", methods, METHODS)
    _require_reference(reference, [method.name for method in compared])
    given = trainings.options_for(compared)
    dataset = Dataset(Path(dataset_dir), given)
    items = dataset.table().items("test")
    left_out = {method.name: reason for method in compared if (reason := _reason_to_skip(method, dataset))}
    output = Path(output_dir)
    runs = {
        method.name: [StudyRun.on(dataset, method, seed, output / method.name) for seed in trainings.seeds]
        for method in compared
        if method.name not in left_out
    }
    everything = [
        run for of_seed in zip(*runs.values(), strict=True) for run in of_seed
    ]  # every method, then the next seed
    study = Study("comparing_methods", output, TABLES, everything, left_out)
    if dry_run:
        study.print_plan()
        return []
    with study.carried_out(jobs=trainings.jobs) as failed:
        slides = EvaluatedSlides.of(items)
        outcomes = {
            name: [read_outcome(run.folder, slides, seed=run.seed) for run in of_method if run.folder not in failed]
            for name, of_method in runs.items()
        }
        for name, of_method in outcomes.items():
            if not of_method:
                left_out[name] = f"no training succeeded; {runs[name][0].folder / 'log.txt'} says why"
        outcomes = {name: of_method for name, of_method in outcomes.items() if of_method}
        records = [_record(METHODS[name], runs[name], outcomes, slides, items[0], reference) for name in outcomes]
        curves = _curves(outcomes, slides)
        write_roc(output / "roc.csv", output / "roc.png", curves)
        recipe = "train.yaml with the overlay of each method"
        title = f"Dataset: {dataset.name}, {len(items)} test slides. {trainings.title(given, recipe)}"
        table = MethodsTable(title, records, left_out, slides.unit, reference)
        write_page(output, table, curves)
        print(write_methods(output, table))
    return records


def _require_reference(reference: str, names: Sequence[str]) -> None:
    recipes_named("methods", [reference], METHODS)
    if reference not in names:
        raise RequestError(
            f"reference {reference} is none of the methods {', '.join(names)}, and nothing could be compared with it: add it to "
            "--methods, or name one of them with --reference"
        )


def _reason_to_skip(method: Method, dataset: Dataset) -> str | None:
    """Why a method cannot be run on these slides, if so."""
    table = dataset.table()
    if method.needs_thumbnail and not table.thumbnail_levels:
        return "it looks at thumbnails, and some slides have none: encode the slides with encode.yaml"
    if method.needs_raw_patches and not table.encoder.startswith(RAW_NAME):
        return "it looks at raw patches, and V holds none: encode the slides with encode_raw.yaml"
    if method.needs_masks and len(table.class_names) != 2:
        return f"it learns from lesion masks, which need two classes, and there are {len(table.class_names)}"
    if method.needs_masks:
        try:
            found = training_masks(table, dataset.options.get("masks"))
        except RequestError as error:
            return f"it learns from lesion masks: {error}"
        if not found:
            return (
                f"it learns from lesion masks, and no training slide of class {table.class_names[1]} has one: name them in a "
                "column mask of slides.csv"
            )
    return None


def _record(
    method: Method,
    runs: Sequence[StudyRun],
    outcomes: Mapping[str, Sequence[Outcome]],
    slides: EvaluatedSlides,
    item: Mapping[str, Any],
    reference: str,
) -> dict[str, object]:
    """The row of one method."""
    mine = outcomes[method.name]
    succeeded = {outcome.seed for outcome in mine}
    found = record_of(
        mine,
        slides,
        cost_of(mine[0].card, item),
        [run.spent() for run in runs if run.seed in succeeded],
        against=outcomes.get(reference, ()) if method.name != reference else (),
    )
    camelyon16, tcga_lusc = PAPER.get(method.name.removesuffix(RAW), (None, None))
    said = {"method": method.name, "title": method.title, "paper_camelyon16": camelyon16, "paper_tcga_lusc": tcga_lusc}
    return {column: (said | found).get(column) for column in COLUMNS}


def _curves(outcomes: Mapping[str, Sequence[Outcome]], slides: EvaluatedSlides) -> dict[str, MeanRoc]:
    """The mean ROC curve of each method, of two classes."""
    found = {}
    for name, of_method in outcomes.items():
        probabilities = [np.asarray(outcome.run.probabilities) for outcome in of_method]
        if probabilities[0].shape[1] == 2:
            curve = mean_roc(slides.labels == 1, [ranks(one)[:, 1] for one in probabilities], patients=slides.patients)
            if curve is not None:
                found[name] = curve
    return found
