"""The runs of a study: a training and its evaluation each, in a fresh process that starts with everything imported."""

import importlib
import logging
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any

from ..common.errors import SlideError
from ..common.files import write_json, writing_to
from ..common.json_files import NUMBER, read_json
from ..common.outputs import Found, HeldOutputs
from ..common.process import compute_with, deaf_to_signals, end_at_once, end_with, write_all_to
from ..common.progress import track
from ..common.same_request import refuse_another
from ..common.stage import run_stage
from ..training.evaluation_files import EVALUATION_FILES
from .datasets import Dataset
from .recipe import StudyRecipe, config_paths
from .trainings import options_of_evaluation

LOG = "log.txt"
OF_RUN = (*EVALUATION_FILES, "model.pt", "model.json", "log/last.pt", LOG, "run.json")
_EXPECTED = "what a finished run writes: remove its folder"
_LOGGER = logging.getLogger(__name__)

# what a training imports on its way, some of it only when it is under way: imported once, before the first fork
_IMPORTED_BEFORE = ("monai.engines", "monai.handlers", "monai.transforms", "torch._dynamo", "torch.utils.tensorboard")
_STAGE_MODULES = (
    "card_writer",
    "checkpoint",
    "evaluation_files",
    "handlers",
    "predicting",
    "standardise",
    "tracking",
    "transforms",
    "validation",
)


@dataclass(frozen=True)
class Spent:
    """What a run took of one process of one thread, libraries and slides included.

    Attributes:
        training_s: from its start to the weights.
        evaluating_s: for reading and judging the test slides.
        peak_mib: largest memory.
    """

    training_s: float
    evaluating_s: float
    peak_mib: float


@dataclass(frozen=True)
class StudyRun:
    """A training with one seed, and its evaluation on the test slides.

    Attributes:
        row: what is trained.
        seed: of the training and of the bootstrap in its ``metrics.json``.
        dataset_dir: its dataset.
        content: hashes of what it depends on, see :meth:`.datasets.Dataset.content_for`.
        folder: where its outputs go: ``model.pt``, ``predictions.csv``, ``log.txt`` and, last, ``run.json``.
        options: further options of train.yaml.
    """

    row: StudyRecipe
    seed: int
    dataset_dir: Path
    content: Mapping[str, str]
    folder: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def on(cls, dataset: Dataset, recipe: StudyRecipe, seed: int, folder: Path) -> "StudyRun":
        """A run in the folder ``seed<n>`` of ``folder``."""
        content = dataset.content_for(recipe)
        return cls(recipe, seed, dataset.folder.resolve(), content, folder / f"seed{seed}", dataset.options)

    @property
    def request(self) -> dict[str, Any]:
        """Everything that the result depends on."""
        return {
            "row": self.row.name,
            "seed": self.seed,
            "dataset_dir": str(self.dataset_dir),
            "options": self.options,
            **self.content,
        }

    def is_done(self) -> bool:
        """Whether this very run was finished before, and what it wrote is there.

        Raises:
            RequestError: another run was finished in its folder.
        """
        if not self._done.is_file():
            return False
        stated = read_json(self._done, expected=_EXPECTED, fields={"request": dict})["request"]
        refuse_another(self._done, stated, self.request, remedy="name another --output_dir, or remove that folder")
        return all((self.folder / name).is_file() for name in (*EVALUATION_FILES, "model.pt", "model.json"))

    def execute(self) -> None:
        """Train and evaluate through the bundle's configs."""
        start_s = time.monotonic()
        folder = self.folder.absolute()  # a config evaluates a text that begins with $
        common = {
            "dataset_dir": str(self.dataset_dir.absolute()),
            "model": str(folder / "model.pt"),
            "seed": self.seed,
            "graph": False,
            "replace": True,  # what a killed run left
        }
        training = {**self.options, **common, "output_dir": str(folder / "log")}
        evaluation = {**options_of_evaluation(self.options), **common, "output_dir": str(folder)}
        run_stage("training", self.row.files, training)
        trained_s = time.monotonic()
        run_stage("evaluating", [*self.row.files, *config_paths("evaluate.yaml")], evaluation)
        done_s = time.monotonic()
        spent = Spent(round(trained_s - start_s, 1), round(done_s - trained_s, 1), _peak_mib())
        write_json(self._done, {"request": self.request, "seconds": round(done_s - start_s, 1), **asdict(spent)})

    def spent(self) -> Spent:
        """What it took, once it is done.

        Raises:
            RequestError: its ``run.json`` does not say so.
        """
        names = [one.name for one in fields(Spent)]
        stated = read_json(self._done, expected=_EXPECTED, fields=dict.fromkeys(names, NUMBER))
        return Spent(**{name: float(stated[name]) for name in names})

    @property
    def _done(self) -> Path:
        return self.folder / "run.json"


@dataclass(frozen=True)
class Study:
    """Runs whose results make the tables of one folder. Made, it has looked at nothing.

    Attributes:
        stage: whose study it is.
        output_dir: folder of the tables; the runs lie in folders below it.
        tables: names of the files that sum the runs up.
        runs: in the order in which they are executed.
        left_out: what is not run, and why.
    """

    stage: str
    output_dir: Path
    tables: Sequence[str]
    runs: Sequence[StudyRun]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def print_plan(self) -> None:
        """Print which runs there would be; nothing is written.

        Raises:
            RequestError: as :meth:`carried_out`.
        """
        self._outputs().check()
        todo = self._todo()
        lines = [f"{run.folder}: {'to be run' if run in todo else 'done before, kept'}" for run in self.runs]
        lines += [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        print("\n".join([*lines, f"runs: {len(self.runs)}, {len(self.runs) - len(todo)} of them done before"]))

    @contextmanager
    def carried_out(self, *, jobs: int) -> Iterator[set[Path]]:
        """Execute what was not done before, and give the folders of those that failed.

        The folder of the study is held until the block ends, in which its tables are written.

        Args:
            jobs: runs at a time.

        Raises:
            RequestError: another run was finished in the folder of one, or see :class:`..common.outputs.HeldOutputs`.
            SlideError: a run failed; after the block.
        """
        outputs, todo = self._outputs(), self._todo()
        with writing_to(self.output_dir), outputs:
            for run in todo:
                outputs.wrote(self._below(run, LOG))
            for name, reason in self.left_out.items():
                _LOGGER.warning("%s is left out: %s", name, reason)
            _LOGGER.info("%d runs, %d of them done before", len(self.runs), len(self.runs) - len(todo))
            outcomes = track(execute_all(todo, jobs=jobs), total=len(todo), what=self.stage, unit="run")
            failed = {run.folder for run, succeeded in outcomes if not succeeded}
            yield failed
        if failed:
            raise SlideError(
                f"{self.output_dir}: {len(failed)} of {len(self.runs)} runs failed; {LOG} in their folders says why, and the same "
                "command tries them again"
            )

    def _outputs(self) -> HeldOutputs:
        writes = (*self.tables, *(self._below(run, name) for run in self.runs for name in OF_RUN))
        return HeldOutputs(
            self.output_dir, self.stage, {}, writes=writes, found=Found(below=True)
        )  # each run has its own request

    def _todo(self) -> list[StudyRun]:
        return [run for run in self.runs if not run.is_done()]

    def _below(self, run: StudyRun, name: str) -> str:
        return f"{run.folder.relative_to(self.output_dir).as_posix()}/{name}"


def execute_all(runs: Sequence[StudyRun], *, jobs: int) -> Iterator[tuple[StudyRun, bool]]:
    """Execute runs, ``jobs`` at a time in processes of one thread each, and yield each with whether it succeeded.

    A run never shares a process with another. Whatever ends the caller ends the runs under way, too; they are done anew next time.
    """
    if not runs:
        return
    for name in (*_IMPORTED_BEFORE, *(f"{__package__.rpartition('.')[0]}.training.{name}" for name in _STAGE_MODULES)):
        importlib.import_module(name)
    compute_with(1)  # before any operator: a pool of threads does not survive a fork
    fork = multiprocessing.get_context("fork")
    waiting, under_way = list(reversed(runs)), dict[int, tuple[StudyRun, ForkProcess]]()
    begun: list[ForkProcess] = []
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs:
                run = waiting.pop()
                process = fork.Process(target=_execute, args=(run, os.getpid()))
                begun.append(process)  # before the start: other threads of this process hear a signal in its place
                with deaf_to_signals():
                    process.start()
                under_way[process.sentinel] = (run, process)
            ended = wait(list(under_way))
            for sentinel in [sentinel for sentinel in under_way if sentinel in ended]:
                run, process = under_way.pop(sentinel)
                process.join()
                if process.exitcode:
                    _LOGGER.error("%s failed (%s); %s says why", run.folder, process.exitcode, run.folder / LOG)
                yield run, process.exitcode == 0
    finally:
        started = [process for process in begun if process.pid is not None]
        for process in started:
            process.terminate()
        for process in started:
            process.join()


def _peak_mib() -> int:
    """Highest resident memory of this process so far."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB; bytes on macOS
    return most // (2**20 if sys.platform == "darwin" else 2**10)


def _execute(run: StudyRun, parent: int) -> None:
    """Body of a process, which ends with the study, however that ends."""
    end_with(parent)
    end_at_once()
    run.folder.mkdir(parents=True, exist_ok=True)
    write_all_to(run.folder / LOG)
    run.execute()
