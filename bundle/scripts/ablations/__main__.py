"""Train and test rows of the paper's Tables III to V on a dataset, and write one table of them.

    make ablations ARGS="--dataset_dir DIR --output_dir OUT --seeds 0 1 2 3 4 --jobs 2 --max_epochs 40 --learning_rate 1e-3"
    make ablations ARGS="--dataset_dir DIR --output_dir OUT --overlays recommended.yaml --rows full no_thumbnail"

Further options are those of train.yaml. Finished runs are kept, so that a stopped study goes on where it was. docs/ablations.md
says what the rows are and how to read the table.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from ..common.errors import RequestError, SlideError
from ..common.option_table import options_of, shown
from ..common.option_types import is_null
from ..common.renamed_options import new_name
from ..common.request import type_of
from .datasets import Dataset
from .recipe import CONFIGS
from .rows import FULL, MIXED, ROWS, Row, rows_that_set
from .runs import Run, carried_out
from .summary import TABLES, Result, read_result, summarise, write_table

_LOGGER = logging.getLogger("ablations")
_OURS = (
    "bundle_root",
    "dataset_dir",
    "slides",
    "table#dataset_dir",
    "table#slides",
    "output_dir",
    "model",
    "seed",
    "resume",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code (0 all done, 1 some run failed, 2 a wrong request)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asked, rest = argument_parser().parse_known_args(arguments)
    try:
        options = train_options(rest)
        return _study(asked, options)
    except (RequestError, SlideError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through every ``finally``, so that the runs under way end, too."""
    raise SystemExit(128 + number)


def argument_parser() -> argparse.ArgumentParser:
    """The options of the study; what else stands on the command line is for `train_options`."""
    parser = argparse.ArgumentParser(
        prog="ablations", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--dataset_dir", type=Path, nargs="+", required=True, help="slides.csv and embeddings; several are pooled"
    )
    parser.add_argument(
        "--mixed_dataset_dir",
        type=Path,
        nargs="+",
        default=[],
        help="the same slides, encoded with --encoder_def#strategy mixed",
    )
    parser.add_argument(
        "--slides", type=Path, nargs="+", default=[], help="tables in place of slides.csv, such as folds; pooled"
    )
    parser.add_argument(
        "--overlays",
        type=Path,
        nargs="+",
        default=[],
        help="configs laid over train.yaml for every row: recommended.yaml",
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, of one thread each")
    return parser


def train_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value ...``, options of train.yaml.

    Raises:
        RequestError: not in pairs, unknown to train.yaml, of the wrong type, or set by the study itself or by a row.
    """
    names, values = words[::2], words[1::2]
    known = ROWS[FULL].config()
    config = ConfigParser(known)
    for name in names:
        key = name.removeprefix("--")
        root = key.split("#")[0]
        if new := new_name(key, config):
            raise RequestError(f"{name} was renamed: use --{new}")
        if len(names) != len(values) or not name.startswith("--") or root not in known or {root, key} & set(_OURS):
            raise RequestError(
                f"{name}: expected options of the study (see --help) and, as --name value, of train.yaml except {', '.join(_OURS)}"
            )
        if rows := rows_that_set(key):
            raise RequestError(
                f"{name}: rows {', '.join(rows)} set it, and the option would undo them; expected options that are the same for "
                "every row: leave it out, or train that network by hand with the overlay of a row"
            )
    return {name.removeprefix("--"): _value(name, text, config) for name, text in zip(names, values, strict=True)}


def _value(name: str, text: str, config: ConfigParser) -> Any:
    """A value of the option's type, or where nothing says that, as YAML has it."""
    key = ReferenceResolver.normalize_id(name.removeprefix("--"))
    type_ = type_of(key, config.get(key), options_of(config[""]))
    if type_ is None or is_null(text):
        return yaml.safe_load(text)
    try:
        return type_.read(text)
    except ValueError as error:
        raise RequestError(f"{name} {shown(text)}: {error}") from error


def _study(asked: argparse.Namespace, options: Mapping[str, Any]) -> int:
    if asked.mixed_dataset_dir and len(asked.mixed_dataset_dir) != len(asked.dataset_dir):
        raise RequestError("--mixed_dataset_dir: expected one for each --dataset_dir, in the same order")
    datasets = _datasets(asked.dataset_dir, asked.slides, options)
    mixed = _datasets(asked.mixed_dataset_dir, asked.slides, options)
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise RequestError(
            "--dataset_dir, --slides: two folders of the same name, or two tables; expected different ones, which name the results"
        )
    patients = [dataset.patients() for dataset in datasets]
    runs: dict[str, list[tuple[int, Run]]] = {}
    left_out: dict[str, str] = {}
    overlays = tuple(str(_found(overlay)) for overlay in asked.overlays)
    for row in (replace(ROWS[name], overlays=overlays) for name in ROWS if name in asked.rows):
        used = mixed if row.name == MIXED else datasets
        if reason := _reason_to_skip(row, used):
            _LOGGER.warning("row %s is left out: %s", row.name, reason)
            left_out[row.name] = reason
            continue
        runs[row.name] = [
            (
                index,
                Run(
                    row,
                    seed,
                    dataset.folder.resolve(),
                    dataset.digest,
                    asked.output_dir / name / row.name / f"seed{seed}",
                    dataset.options,
                ),
            )
            for seed in asked.seeds
            for index, (dataset, name) in enumerate(zip(used, names, strict=True))
        ]
    everything = [run for of_row in runs.values() for _, run in of_row]
    with carried_out(everything, asked.output_dir, stage="ablations", tables=TABLES, jobs=asked.jobs) as failed:
        results: dict[str, list[Result]] = {
            name: [
                read_result(run.folder, dataset=index, seed=run.seed, patients=patients[index])
                for index, run in of_row
                if run.folder not in failed
            ]
            for name, of_row in runs.items()
        }
        records = summarise(results)
        with_options = ", ".join(f"{name} {value}" for name, value in options.items()) or "the defaults of train.yaml"
        recipe = " and ".join(["train.yaml", *(overlay.name for overlay in asked.overlays)])
        title = f"Datasets: {', '.join(names)}. Seeds: {', '.join(map(str, asked.seeds))}. Training: {recipe}; {with_options}."
        unit = "patient" if any(patient for group in patients for patient in group.values()) else "slide"
        write_table(asked.output_dir, records, left_out=left_out, title=title, unit=unit)
        print((asked.output_dir / "ablations.md").read_text(encoding="utf-8"))
        return 1 if failed else 0


def _datasets(folders: Sequence[Path], tables: Sequence[Path], options: Mapping[str, Any]) -> list[Dataset]:
    """Every folder with every table; without tables, with its own."""
    of_tables = [{"slides": str(table.resolve())} for table in tables] or [{}]
    return [Dataset(folder, {**options, **of_table}) for folder in folders for of_table in of_tables]


def _found(overlay: Path) -> Path:
    """The file of an overlay: as it is named, or in the bundle's folder of configs.

    Raises:
        RequestError: there is no such file.
    """
    for path in (overlay, CONFIGS / overlay):
        if path.is_file():
            return path.resolve()
    raise RequestError(
        f"--overlays {overlay}: no such file, neither here nor in {CONFIGS}; expected a config such as recommended.yaml"
    )


def _reason_to_skip(row: Row, datasets: Sequence[Dataset]) -> str | None:
    """Why a row is not run, if so."""
    if not datasets:
        return "it needs --mixed_dataset_dir"
    return next(filter(None, (dataset.reason_to_skip(row) for dataset in datasets)), None)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
