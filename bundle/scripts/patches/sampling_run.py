"""The stage ``sampling``: a slide set to training patches, whatever happens to single slides."""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import monai
import numpy as np
import torch

from ..common.apart import Apart
from ..common.errors import RequestError, SlideError
from ..common.files import relative_to, write_csv, writing_to
from ..common.option_words import Split, words
from ..common.outputs import HeldOutputs
from ..common.progress import track
from ..common.version import BUNDLE_VERSION
from ..slides.geometry import PATCH_PX
from ..slides.opening import DEFAULT_READING, Reading
from ..slides.table import SlideRow, read_slides
from .contact_sheet import write_contact_sheet
from .draw import DrawRules, SlideSample, sample_slide, seeded_generator
from .patch_file import patch_writer

COLUMNS = ("slide_id", "slide", "status", "patches", "rich", "candidates", "error")
PATCHES, CONTACT_SHEET, COUNTS = "patches.h5", "contact_sheet.png", "counts.csv"
_LOGGER = logging.getLogger(__name__)

Status = Literal["done", "short", "empty", "failed"]


@dataclass(frozen=True)
class CountsRow:
    """What one slide gave: status is done, short (fewer than asked for), empty (none) or failed; ``error`` says why."""

    slide_id: str
    slide: str
    status: Status
    patches: int = 0
    rich: int = 0
    candidates: int = 0
    error: str = ""


def sample_slides(
    slides: str | Path | None,
    output_dir: str | Path,
    *,
    rules: DrawRules | None = None,
    reading: Reading = DEFAULT_READING,
    replace: bool = False,
) -> list[CountsRow]:
    """Draw the training patches of the S-CAE (section V-A.a); write ``patches.h5``, ``contact_sheet.png``, ``counts.csv``.

    Where no slide gives a patch, ``counts.csv`` is all there is, and the other two of an earlier run are removed.

    Args:
        slides: a slide, a folder or a CSV.
        output_dir: folder of the outputs.
        rules: which patches are drawn; None: those of the paper.
        reading: how slides are read, see :func:`.draw.sample_slide`.
        replace: whether patches of another request may be replaced.

    Returns:
        What every drawn slide gave, the rows of ``counts.csv``.

    Raises:
        RequestError: An option lies outside its range, or there is no slide to draw from. Or the folder holds patches of another
            request, or files of others under the names that would be written. Nothing is written.
    """
    if slides is None:
        raise RequestError("no slides given: name a slide file, a folder or a CSV with --slides")
    rules = rules or DrawRules()
    rows = choose_slides(
        _of_splits(read_slides(slides), rules.splits, slides), slides_per_class=rules.slides_per_class, seed=rules.seed
    )
    output = Path(output_dir)
    settings = {
        "slides_per_class": rules.slides_per_class,
        "patches_per_slide": rules.patches_per_slide,
        "rich_share": rules.rich_share,
        "splits": rules.splits,
        "patch_um": rules.patch_um,
        "patch_px": PATCH_PX,
        "drop_pen": rules.drop_pen,
        "read_level": rules.read_level,
    }
    attributes: dict[str, str | int | float] = {
        "settings": json.dumps(settings),
        "seed": rules.seed,
        "version_bundle": BUNDLE_VERSION,
        "version_monai": monai.__version__,
        "version_numpy": np.__version__,
        "version_torch": str(torch.__version__),
    }
    request = {"slides": str(Path(slides).absolute()), **settings, "seed": rules.seed}
    with (
        writing_to(output),
        HeldOutputs(output, "sampling", request, writes=(PATCHES, CONTACT_SHEET, COUNTS), replace=replace),
    ):
        counts = _sample_all(rows, output, attributes, rules, reading)
    by_status = [f"{sum(e.status == status for e in counts)} {status}" for status in words(Status)]
    total, rich = sum(entry.patches for entry in counts), sum(entry.rich for entry in counts)
    _LOGGER.info("sampling: %d patches, %d of them nucleus-rich; slides: %s", total, rich, ", ".join(by_status))
    _warn_of_pale_slides(counts, rules.rich_share, output / COUNTS)
    return counts


def _warn_of_pale_slides(counts: Sequence[CountsRow], rich_share: float, table: Path) -> None:
    """Say what the rule of nucleus-rich patches cost: tissue that was not drawn from, though fewer patches than asked for were."""
    short = [entry for entry in counts if entry.status in ("short", "empty") and entry.patches < entry.candidates]
    if short and rich_share > 0:
        _LOGGER.warning(
            "%d of %d slides gave too few patches, %d of them none, since too few of their patches are dark enough to be rich in "
            "nuclei (%s has the counts); to draw from all tissue, as pale slides want it: --draw#rich_share 0",
            len(short),
            len(counts),
            sum(not entry.patches for entry in short),
            table,
        )


def _sample_all(
    rows: Sequence[SlideRow],
    output: Path,
    attributes: dict[str, str | int | float],
    rules: DrawRules,
    reading: Reading,
) -> list[CountsRow]:
    """Draw from every slide in turn and write the three files."""
    counts: list[CountsRow] = []
    sampled = partial(sample_slide, rules=rules, reading=reading)
    with Apart(sampled, timeout_s=reading.timeout_s) as apart, patch_writer(output / PATCHES, attributes) as append:
        for row in track(rows, total=len(rows), what="sampling", unit="slide"):
            place = relative_to(row.path, output)
            try:
                sample = apart.run(row.path, row)
            except SlideError as error:
                counts.append(CountsRow(row.slide_id, place, "failed", error=str(error)))
            else:
                append(row.slide_id, sample)
                counts.append(_count(row, place, sample))
            if counts[-1].error:
                _LOGGER.debug("%s: %s: %s", counts[-1].slide_id, counts[-1].status, counts[-1].error)
    if any(entry.patches for entry in counts):
        write_contact_sheet(output / PATCHES, output / CONTACT_SHEET)
    else:
        for name in (PATCHES, CONTACT_SHEET):
            (output / name).unlink(missing_ok=True)
    write_csv(output / COUNTS, COLUMNS, (asdict(entry) for entry in counts))
    return counts


def require_complete(counts: Sequence[CountsRow], output_dir: str | Path) -> None:
    """Check that a sampling run may be built on; the last of its run list, so that the exit code is 1 otherwise.

    Raises:
        SlideError: A slide failed, or none gave a patch.
    """
    table = Path(output_dir) / COUNTS
    failed = sum(entry.status == "failed" for entry in counts)
    if failed:
        raise SlideError(f"{failed} of {len(counts)} slides failed, all others are done; {table} says why")
    if not any(entry.patches for entry in counts):
        raise SlideError(f"none of {len(counts)} slides gave a patch, expected one at least; {table} says why")


def choose_slides(rows: Sequence[SlideRow], *, slides_per_class: int, seed: int) -> list[SlideRow]:
    """Draw slides of every label, ``None`` among them, without putting any back; return them in their given order.

    The order of a class in the draw follows from its slides' ids, so that the order of the request does not matter.
    """
    chosen: set[str] = set()
    for label in {row.label for row in rows}:
        slide_ids = sorted(row.slide_id for row in rows if row.label == label)
        generator = seeded_generator(seed, f"slides of class {label}")
        chosen.update(generator.permutation(slide_ids)[:slides_per_class].tolist())
    return [row for row in rows if row.slide_id in chosen]


def _of_splits(rows: list[SlideRow], splits: Sequence[Split], slides: str | Path) -> list[SlideRow]:
    """Keep the slides of some splits; all where no slide names a split."""
    if not any(row.split for row in rows):
        return rows
    kept = [row for row in rows if row.split in splits]
    if not kept:
        raise RequestError(
            f"{slides}: no slide in split {', '.join(splits)}, expected one at least: correct the column split, or name "
            "other splits with --draw#splits"
        )
    return kept


def _count(row: SlideRow, place: str, sample: SlideSample) -> CountsRow:
    drawn = len(sample.patches)
    status: Status = "empty" if not drawn else "short" if sample.reason else "done"
    return CountsRow(row.slide_id, place, status, drawn, int(sample.rich.sum()), sample.candidates, sample.reason)
