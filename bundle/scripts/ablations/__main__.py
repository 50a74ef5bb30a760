"""Train and test rows of the paper's Tables III to V on a dataset, and write one table of them.

    make ablations ARGS="--dataset_dir DIR --output_dir OUT --seeds 0 1 2 3 4 --jobs 2 --max_epochs 40 --learning_rate 1e-3"

Further options are those of train.yaml. Finished runs are kept, so that a stopped study goes on where it was. docs/ablations.md says
what the rows are and how to read the table.
"""

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from ..common.errors import RequestError, SlideError
from ..common.lock import folder_lock
from ..common.progress import track
from ..training.table import EmbeddingTable
from .rows import FULL, MIXED, ROWS, STRATEGIES, Row
from .runs import Run, execute_all
from .summary import Result, read_result, summarise, write_table

_LOGGER = logging.getLogger("ablations")
_OURS = ("bundle_root", "dataset_dir", "output_dir", "model", "seed", "resume")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; return the exit code (0 all done, 1 some run failed, 2 a wrong request)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    asked, rest = argument_parser().parse_known_args(arguments)
    try:
        options = train_options(rest)
        with folder_lock(asked.output_dir, "ablations"):
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
        "--mixed_dataset_dir", type=Path, nargs="+", default=[], help="the same slides, encoded with --strategy mixed"
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time, of one thread each")
    return parser


def train_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``--name value ...``, options of train.yaml.

    Raises:
        RequestError: not in pairs, unknown to train.yaml, or set by the study itself.
    """
    names, values = words[::2], words[1::2]
    known = ROWS[FULL].config()
    for name in names:
        key = name.removeprefix("--")
        if len(names) != len(values) or not name.startswith("--") or key.split("#")[0] not in known or key in _OURS:
            raise RequestError(
                f"{name}: expected options of the study (see --help) and, as --name value, of train.yaml except {', '.join(_OURS)}"
            )
    return {name.removeprefix("--"): _value(text) for name, text in zip(names, values, strict=True)}


def _value(text: str) -> Any:
    """A value as YAML has it; 1e-3 is a number, too."""
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _study(asked: argparse.Namespace, options: dict[str, Any]) -> int:
    if asked.mixed_dataset_dir and len(asked.mixed_dataset_dir) != len(asked.dataset_dir):
        raise RequestError("--mixed_dataset_dir: expected one for each --dataset_dir, in the same order")
    if len({folder.resolve().name for folder in asked.dataset_dir}) < len(asked.dataset_dir):
        raise RequestError(
            "--dataset_dir: two folders of the same name; expected different ones, which name the results"
        )
    patients = [_patients(EmbeddingTable(folder)) for folder in asked.dataset_dir]
    runs: dict[str, list[tuple[int, Run]]] = {}
    for row in (ROWS[name] for name in ROWS if name in asked.rows):
        folders = asked.mixed_dataset_dir if row.name == MIXED else asked.dataset_dir
        reason = _reason_to_skip(row, folders, options)
        if reason:
            _LOGGER.warning("row %s is left out: %s", row.name, reason)
            continue
        digests = [EmbeddingTable(folder).digest() for folder in folders]
        runs[row.name] = [
            (
                index,
                Run(row, seed, folder.resolve(), digest, asked.output_dir / name / row.name / f"seed{seed}", options),
            )
            for seed in asked.seeds
            for index, (folder, digest) in enumerate(zip(folders, digests, strict=True))
            for name in [asked.dataset_dir[index].resolve().name]
        ]
    everything = [run for of_row in runs.values() for _, run in of_row]
    todo = [run for run in everything if not run.is_done()]
    _LOGGER.info("%d runs, %d of them done before", len(everything), len(everything) - len(todo))
    outcomes = track(execute_all(todo, jobs=asked.jobs), total=len(todo), what="ablations", unit="run")
    failed = {run.folder for run, succeeded in outcomes if not succeeded}

    results: dict[str, list[Result]] = {
        name: [
            read_result(run.folder, dataset=index, seed=run.seed, patients=patients[index])
            for index, run in of_row
            if run.folder not in failed
        ]
        for name, of_row in runs.items()
    }
    records = summarise(results)
    datasets = ", ".join(folder.resolve().name for folder in asked.dataset_dir)
    with_options = ", ".join(f"{name} {value}" for name, value in options.items()) or "the defaults of train.yaml"
    title = f"Datasets: {datasets}. Seeds: {', '.join(map(str, asked.seeds))}. Training: {with_options}."
    unit = "patient" if any(patient for group in patients for patient in group.values()) else "slide"
    write_table(asked.output_dir, records, title=title, unit=unit)
    print((asked.output_dir / "ablations.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


def _patients(table: EmbeddingTable) -> dict[str, str | None]:
    return {item["slide_id"]: item["patient"] or None for item in table.items("test")}


def _reason_to_skip(row: Row, folders: Sequence[Path], options: dict[str, Any]) -> str | None:
    """Why a row cannot be run on these datasets, if so."""
    if not folders:
        return "it needs --mixed_dataset_dir"
    config = row.config(**options)
    for folder in folders:
        table = EmbeddingTable(folder, levels=config["thumbnail_levels"], channel_range=config["channel_range"])
        if row.name in STRATEGIES and not table.encoder.startswith("SCAE"):
            return (
                f"{folder}: embeddings of {table.encoder.split()[0]}, which has no foreground and background channels"
            )
        try:
            _ = table.channels, table.thumbnail_levels
        except RequestError as error:
            return str(error)
    return None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main())
