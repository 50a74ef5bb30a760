"""What encoding would do: how many slides and patches, how long, how much disk. Nothing is written."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import Literal

import numpy as np

from ..common.errors import NoTissueError, SlideError
from ..common.progress import track
from ..slides.geometry import T_PIXELS_PER_PATCH
from ..slides.opening import open_slide
from ..slides.table import SlideRow
from .embed import EncodedBatch, encoded_batches
from .job import EncodingJob, Task
from .named_encoder import NamedEncoder
from .prepared import plan_of, prepare_slide
from .scan import serves_all

TIMED_BATCHES = 8
ROW_BYTES = 16 + 8  # coords and grid of a patch
GIB = 2**30

Fate = Literal["current", "new", "flat", "empty", "failed"]
"""What would become of a slide; flat: it has no pyramid, and every patch counts."""


@dataclass(frozen=True)
class SlidePlan:
    """One slide.

    Attributes:
        status: what would become of it.
        patches: to encode.
        size_bytes: of its embedding file.
        seconds: that finding its tissue took.
        rate: patches per second, where they were timed on this slide.
        error: why it would fail.
    """

    status: Fate
    patches: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    rate: float | None = None
    error: str = ""


def plan_encoding(rows: Sequence[SlideRow], job: EncodingJob) -> str:
    """Look at every slide, time the encoder on some batches of the first that has tissue, and tell the plan.

    A slide without a pyramid, whose tissue is found only while it is encoded, counts with all of its patches. The slides are read
    in another process, as in encoding.

    Args:
        rows: the slides.
        job: how they would be encoded, see :func:`.encoding_run.encode_slides`.

    Returns:
        the plan, one line per fact; slides that would fail are named with the reason.

    Raises:
        RequestError: the encoder's weights do not serve.
    """
    plans: list[SlidePlan] = []
    rates: dict[str, float] = {}
    with job.apart(partial(_plan, job)) as apart:
        engine, _ = apart.start(job.prepare)
        for row in track(rows, total=len(rows), what="planning", unit="slide"):
            try:
                plan = apart.run(row.path, (Task(row, job.seen(row.slide_id)), frozenset(rates)))
            except NoTissueError:
                plan = SlidePlan("empty")
            except SlideError as error:
                plan = SlidePlan("failed", error=str(error))
            plans.append(plan)
            if plan.rate is not None:
                rates[plan.status] = plan.rate
    lines = _plan_lines(plans, job)
    lines.insert(2, f"encoder: {engine} {job.settings.precision} on {job.device}")
    if rates:
        timed = "reading and encoding" if "new" in rates else "the encoder alone, so reading comes on top"
        rate = rates.get("new") or rates["flat"]
        seconds = sum(plan.patches for plan in plans) / rate + sum(plan.seconds for plan in plans)
        lines.insert(3, f"time: about {_clock(seconds)} at {rate:,.0f} patches/s ({timed}, timed now)")
    return "\n".join(lines)


def _plan(job: EncodingJob, item: tuple[Task, frozenset[str]]) -> SlidePlan:
    """Look at one slide, and time the encoder on it unless slides of its kind, or better ones, have been: their status is given."""
    task, timed = item
    row = task.row
    if job.on_disk(task) == "current":
        return SlidePlan("current")
    with open_slide(row.path, job.reading) as reader:
        start_s = time.monotonic()
        plan = plan_of(reader, row, job.settings)
        if serves_all(reader, plan, job.settings):
            rate = None if timed else _patches_per_s(_encoded_noise(job.encoder, plan.read_px))
            return _entry("flat", int(np.prod(plan.grid.shape_yx)), plan.grid.shape_yx, job, 0.0, rate)
        prepared = prepare_slide(reader, plan, job.settings)
        seconds = time.monotonic() - start_s
        rate = None if "new" in timed else _patches_per_s(encoded_batches(reader, prepared, job.encoder))
        return _entry("new", len(prepared.grid_yx), prepared.grid.shape_yx, job, seconds, rate)


def _entry(
    status: Fate, patches: int, shape_yx: tuple[int, int], job: EncodingJob, seconds: float, rate: float | None
) -> SlidePlan:
    rows, columns = shape_yx
    thumbnail = 3 * job.settings.thumbnail_levels * T_PIXELS_PER_PATCH**2 * rows * columns
    size = patches * (job.encoder.dtype.itemsize * job.encoder.channels + ROW_BYTES) + thumbnail
    return SlidePlan(status, patches, size, seconds, rate)


def _patches_per_s(batches: Iterator[EncodedBatch]) -> float | None:
    """Time some batches, after one that pays for the start; None where there is no second."""
    next(batches)
    start_s = time.monotonic()
    patches = sum(len(readable) for _, readable in islice(batches, TIMED_BATCHES))
    return patches / (time.monotonic() - start_s) if patches else None


def _encoded_noise(encoder: NamedEncoder, read_px: int) -> Iterator[EncodedBatch]:
    patches = np.random.default_rng(0).integers(0, 256, (encoder.batch_size, read_px, read_px, 3), dtype=np.uint8)
    for features in encoder.encode_all(repeat(patches, TIMED_BATCHES + 1)):
        yield features, np.ones(len(patches), dtype=bool)


def _plan_lines(plans: Sequence[SlidePlan], job: EncodingJob) -> list[str]:
    found = Counter(plan.status for plan in plans)
    flat = f", at most: {found['flat']} slides have no pyramid" if found["flat"] else ""
    size = sum(plan.size_bytes for plan in plans)
    free = shutil.disk_usage(_existing(job.output)).free
    return [
        f"slides: {found['new'] + found['flat']} of {len(plans)} to encode, {found['current']} done before, {found['empty']} "
        f"without tissue, {found['failed']} that would fail",
        f"patches: {sum(plan.patches for plan in plans):,}{flat}",
        f"disk: {size / GIB:.2f} GiB{flat and ' at most'}, {free / GIB:.1f} GiB free in {job.output}",
        *(f"would fail: {plan.error}" for plan in plans if plan.status == "failed"),
    ]


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)


def _clock(seconds: float) -> str:
    minutes, hours = int(seconds // 60) % 60, int(seconds // 3600)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"
