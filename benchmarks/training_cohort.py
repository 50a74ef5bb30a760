"""Memory and time of a training of DSNet on a cohort of foundation features, as train.yaml does it.

    python benchmarks/training_cohort.py --folder bench/cohort --slides 400 --patches 20000 --channels 1536
    python benchmarks/training_cohort.py --folder bench/cohort --slides 400 --patches 20000 --channels 1536 --cache_rate 0

Makes the files, which hold float16 as feature files of other tools do; of ``--distinct`` different ones each split has links, so that
a cohort fits a small disk. Every line of the output is measured in this process: the peak is its resident memory with Python, torch
and on the CPU the network's maps; "own time" is that of the network alone, from the moment that a batch is dense on the device. Steps are
those of the last epoch: the first one pays for what is made once. Beside seconds stand processor seconds of all threads of this process,
which other work on the machine changes less.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from numpy.typing import NDArray

REPO = Path(__file__).resolve().parents[1]
CONFIGS = REPO / "bundle" / "configs"
sys.path[:0] = [str(REPO / "bundle"), str(REPO / "benchmarks")]

from machine import peak_gib

from scripts.common.files import write_csv
from scripts.encoding.embedding_file import EmbeddingFile

STEP_PX = 256
VALIDATED = 0.1


def write_features(path: Path, *, patches: int, channels: int, density: float, seed: int) -> None:
    """Write a feature file of another tool; ``density`` of the cells of the patches' box hold one."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(patches / density)))
    cells = np.sort(rng.choice(side * side, patches, replace=False))
    with h5py.File(path, "w") as file:
        features = file.create_dataset("features", (patches, channels), "float16")
        for first in range(0, patches, 2048):
            features[first : first + 2048] = rng.normal(size=(min(2048, patches - first), channels))
        file["coords"] = np.stack([cells % side, cells // side], axis=1) * STEP_PX
        file["coords"].attrs["patch_size_level0"] = STEP_PX


def write_cohort(folder: Path, *, slides: int, distinct: int, **shape: Any) -> None:
    """Write slides.csv and the files; what lies there already stays."""
    folder.mkdir(parents=True, exist_ok=True)
    held_out = max(2, round(VALIDATED * slides))
    rows = []
    for index in range(slides):
        split = "val" if index < held_out else "train"
        original = folder / f"{split}_{index % distinct}.h5"
        path = folder / f"{split}_{index}.h5"
        if not original.exists():
            write_features(original, seed=2 * (index % distinct) + (split == "val"), **shape)
        if not path.exists():
            os.link(original, path)
        rows.append({"slide": f"{path.stem}.tif", "label": index % distinct % 2, "split": split, "patient": path.stem})
    write_csv(folder / "slides.csv", list(rows[0]), rows)


class Stopwatch:
    """Times the steps of a trainer: from asking for a batch to the step's end, and the network's own part of it.

    Of each step: seconds, and processor seconds.
    """

    def __init__(self, trainer: Any, device: torch.device) -> None:
        self.whole_s: list[NDArray[np.float64]] = []
        self.own_s: list[NDArray[np.float64]] = []
        self._device = device
        prepare = trainer.prepare_batch
        trainer.prepare_batch = lambda *args, **kwargs: self._dense(prepare, *args, **kwargs)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end)

    def _now(self) -> NDArray[np.float64]:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return np.array([time.perf_counter(), time.process_time()])

    def _ask(self) -> None:
        self._asked = self._now()

    def _dense(self, prepare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        prepared = prepare(*args, **kwargs)
        self._began = self._now()
        return prepared

    def _end(self) -> None:
        now = self._now()
        self.whole_s.append(now - self._asked)
        self.own_s.append(now - self._began)


@contextmanager
def counted_reads() -> Iterator[list[str]]:
    """Note every embedding that is read inside the block."""
    reads: list[str] = []
    original = EmbeddingFile.read

    def read(self: EmbeddingFile) -> Any:
        reads.append(self.path.name)
        return original(self)

    EmbeddingFile.read = read  # type: ignore[method-assign]
    try:
        yield reads
    finally:
        EmbeddingFile.read = original  # type: ignore[method-assign]


def train(folder: Path, output: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train as train.yaml does and return what was measured."""
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / "train.yaml"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=False,
        run_id="training",
        workflow_type="train",
        bundle_root=str(REPO / "bundle"),
        dataset_dir=str(folder),
        output_dir=str(output),
        **{"graph": False, "replace": True, **options},
    )
    done: list[int] = []
    with counted_reads() as reads:
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        stopwatch = Stopwatch(trainer, torch.device(options["device"]))
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: done.append(len(reads)))
        workflow.run()
        done.append(len(reads))
    steps = len(stopwatch.own_s) // trainer.state.max_epochs
    own, whole = (np.mean(times[-steps:], axis=0) for times in (stopwatch.own_s, stopwatch.whole_s))
    return {
        "peak_gib": round(peak_gib(), 2),
        "reads_before_the_first_epoch": done[0],
        "reads_per_epoch": [after - before for before, after in pairwise(done)],
        "steps_per_epoch": steps,
        "own_s_per_step": round(own[0], 4),
        "whole_s_per_step": round(whole[0], 4),
        "whole_over_own": round(whole[0] / own[0], 3),
        "own_processor_s_per_step": round(own[1], 4),
        "whole_processor_s_per_step": round(whole[1], 4),
        "processor_whole_over_own": round(whole[1] / own[1], 3),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Make the cohort, train, and print what was measured as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--slides", type=int, default=20)
    parser.add_argument("--distinct", type=int, default=8)
    parser.add_argument("--patches", type=int, default=20_000)
    parser.add_argument("--channels", type=int, default=1536)
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, help="of an epoch; default: all slides")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--cache_rate", type=float, default=1.0)
    parser.add_argument("--cache_gib", type=float, default=8.0)
    parser.add_argument("--num_workers", type=int, default=0)
    parser.add_argument("--projection", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    shape = {name: getattr(given, name) for name in ("patches", "channels", "density")}
    cohort = given.folder / f"{given.patches}x{given.channels}"
    write_cohort(cohort, slides=given.slides, distinct=given.distinct, **shape)
    options = {name: getattr(given, name) for name in ("batch_size", "num_workers", "device")}
    options |= {"train#dataset#cache_rate": given.cache_rate, "cache_memory#gib": given.cache_gib}
    options |= {"max_epochs": given.epochs, "warmup#total_iters": 0, "network_def#projection": given.projection}
    if given.steps:
        options["train#trainer#epoch_length"] = given.steps
    made_before = peak_gib()
    found = {**vars(given), "folder": str(cohort), "peak_gib_before": round(made_before, 2)}
    found |= train(cohort, given.folder / "training", options)
    print(json.dumps(found, indent=1))
    return found


if __name__ == "__main__":
    main()
