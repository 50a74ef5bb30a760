"""The stage ``ablating``: rows of the paper's Tables III to V trained and tested on a dataset, and one table of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..common.errors import RequestError
from ..studies.datasets import Dataset, datasets_of, draws_of
from ..studies.outcomes import EvaluatedSlides, read_outcome
from ..studies.recipe import overlay_file, recipes_named
from ..studies.runs import Study, StudyRun
from ..studies.trainings import Trainings
from .rows import MIXED, ROWS, Row, rows_that_set
from .summary import TABLES, records_of, write_ablations


def ablate(
    dataset_dir: str | Path | Sequence[str | Path],
    output_dir: str | Path,
    trainings: Trainings,
    *,
    mixed_dataset_dir: Sequence[str | Path] = (),
    slides: str | Path | Sequence[str | Path] | None = None,
    rows: Sequence[str] | None = None,
    overlays: Sequence[str | Path] = (),
    dry_run: bool = False,
) -> list[dict[str, object]]:
    """Train and test rows, each once per seed and dataset, and write `TABLES`; runs that are done are kept.

    Args:
        dataset_dir: folders of slides.csv with a column split and an embedding per slide; several are pooled.
        output_dir: folder of the tables, and of a folder ``<dataset>/<row>/seed<n>`` per run.
        trainings: seeds and options, the same for all rows; options that are None keep the default of train.yaml.
        mixed_dataset_dir: the same slides encoded by an S-CAE of strategy mixed, a folder for each dataset, in the same order.
        slides: table in place of each folder's slides.csv, or several, such as folds; each is a dataset of its own.
        rows: names of `ROWS`; None: all.
        overlays: config files laid over train.yaml for every row; names may be of ``bundle/configs``.
        dry_run: print which runs there would be, and write nothing.

    Returns:
        the records of the table; none of a dry run.

    Raises:
        RequestError: no such row or overlay, two datasets of one name, or an option that a training would refuse. So is an option
            that a row or the study itself sets, and a folder with a run of another request. See
            :class:`..common.outputs.HeldOutputs`, too.
        SlideError: a run failed; the table of the others is written.
    """
    found = tuple(str(overlay_file(overlay)) for overlay in overlays)
    overlaid = [replace(row, overlays=found) for row in recipes_named("rows", rows, ROWS)]
    _refuse_undoing({**trainings.options, **trainings.more})
    given = trainings.options_for(overlaid)
    folders = [dataset_dir] if isinstance(dataset_dir, str | Path) else dataset_dir
    if mixed_dataset_dir and len(mixed_dataset_dir) != len(folders):
        raise RequestError("mixed_dataset_dir: expected one for each dataset_dir, in the same order")
    tables = [slides] if isinstance(slides, str | Path) else slides or ()
    datasets, mixed = (datasets_of(group, tables, given) for group in (folders, mixed_dataset_dir))
    output = Path(output_dir)
    runs, left_out = _runs(overlaid, datasets, mixed, trainings.seeds, output)
    study = Study("ablating", output, TABLES, [run for of_row in runs.values() for _, run in of_row], left_out)
    if dry_run:
        study.print_plan()
        return []
    tested, draws = [EvaluatedSlides.of(dataset.table().items("test")) for dataset in datasets], draws_of(datasets)
    with study.carried_out(jobs=trainings.jobs) as failed:
        outcomes = {
            name: [
                read_outcome(run.folder, tested[index], seed=run.seed, dataset=index, draw=draws[index])
                for index, run in of_row
                if run.folder not in failed
            ]
            for name, of_row in runs.items()
        }
        records = records_of(outcomes)
        recipe = " and ".join(["train.yaml", *(Path(overlay).name for overlay in found)])
        title = f"Datasets: {', '.join(dataset.name for dataset in datasets)}. {trainings.title(given, recipe)}"
        unit = "patient" if any(slides.unit == "patient" for slides in tested) else "slide"
        print(write_ablations(output, records, left_out=left_out, title=title, unit=unit))
    return records


def _runs(
    rows: Sequence[Row], datasets: Sequence[Dataset], mixed: Sequence[Dataset], seeds: Sequence[int], output: Path
) -> tuple[dict[str, list[tuple[int, StudyRun]]], dict[str, str]]:
    """The runs of every row, each with the number of its dataset; and the rows that are left out, with the reason."""
    runs: dict[str, list[tuple[int, StudyRun]]] = {}
    left_out: dict[str, str] = {}
    for row in rows:
        used = mixed if row.name == MIXED else datasets
        if reason := _reason_to_skip(row, used):
            left_out[row.name] = reason
            continue
        folders = [output / dataset.name / row.name for dataset in datasets]
        runs[row.name] = [
            (index, StudyRun.on(dataset, row, seed, folders[index]))
            for seed in seeds
            for index, dataset in enumerate(used)
        ]
    return runs, left_out


def _refuse_undoing(options: Mapping[str, Any]) -> None:
    for name in options:
        if rows := rows_that_set(name):
            raise RequestError(
                f"option {name}: rows {', '.join(rows)} set it, and the option would undo them; expected options that are the same "
                "for every row: leave it out, or train that network by hand with the overlay of a row"
            )


def _reason_to_skip(row: Row, datasets: Sequence[Dataset]) -> str | None:
    """Why a row is not run, if so."""
    if not datasets:
        return "it needs --mixed_dataset_dir"
    return next(filter(None, map(row.reason_to_skip, datasets)), None)
