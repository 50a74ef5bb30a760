"""What the sections of ``gpu_check.py`` share: sizes, figures, a clock that waits for the device, and stages of the bundle."""

import contextlib
import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

REPO = Path(__file__).resolve().parents[1]
BUNDLE = REPO / "bundle"
for folder in (BUNDLE, REPO / "benchmarks"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

CELLS_PER_1E8_PX = 1e8 / 256**2
"""Patches of 64 um in 1e8 pixels of 0.25 um, all of them, as the paper counts."""


@dataclass(frozen=True)
class Sizes:
    """How much each section does.

    Attributes:
        slide_px: side of the generated slide, a multiple of 256.
        patches: encoded per measurement, from memory.
        batch: patches of a batch.
        turns: of each measurement, of which the fastest counts.
        grid_yx: rows and columns of the slide that DSNet trains on, all observed.
        channels: C of that slide.
        projection: channels that the projection leaves of the largest C.
        slides: of the cohort that is trained on by the commands, in each of its splits.
        compiler: what torch.compile compiles with.
    """

    slide_px: int = 23_808
    patches: int = 8_192
    batch: int = 512
    turns: int = 3
    grid_yx: tuple[int, int] = (400, 350)
    channels: tuple[int, ...] = (128, 1024, 1536)
    projection: int = 128
    slides: int = 8
    compiler: str = "inductor"


SMALL = Sizes(
    slide_px=1536,
    patches=32,
    batch=16,
    turns=1,
    grid_yx=(9, 8),
    channels=(16, 24),
    projection=8,
    slides=2,
    compiler="eager",
)
"""Enough to run every line on a CPU."""


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        what: is measured.
        value: the number, or the words where there is none.
        unit: of the number.
        bar: what it should be.
    """

    what: str
    value: float | str
    unit: str = ""
    bar: str = ""


def missing(what: str, *modules: str) -> Figure | None:
    """Say that ``what`` is left out, where one of the modules that it needs is not there."""
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:  # of a package that is not there either
            found = False
        if not found:
            return Figure(what, f"not there: {module} is not installed")
    return None


def fastest_s(work: Callable[[], object], device: torch.device, turns: int) -> float:
    """Seconds of the fastest of some calls, after one that pays for the start."""
    taken = []
    for _ in range(turns + 1):
        wait_for(device)
        start = time.perf_counter()
        work()
        wait_for(device)
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_stage(*files: str, run_id: str, **options: Any) -> Any:
    """Run a stage of the bundle in this process and return its workflow."""
    from scripts.common import stage

    with quiet():
        return stage.run_stage(run_id, [BUNDLE / "configs" / name for name in files], plain(options))


def plain(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they are given by words."""
    return {name: str(value) if isinstance(value, Path | torch.device) else value for name, value in options.items()}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What stages print goes to stderr, as stdout is for the table."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
