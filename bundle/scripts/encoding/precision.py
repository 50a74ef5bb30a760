"""What the precision ``auto`` stands for: a data set is encoded in one, whatever machines take part (docs/decisions/0028)."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from ..common.errors import RequestError, SlideError
from ..common.journal import read_journals
from ..common.option_words import Precision, words
from .embedding_file import embedding_file
from .engine_choice import computes_in
from .job import EncodingJob

CPU_INFO = Path("/proc/cpuinfo")
NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""The kernel's words for processors that multiply bfloat16 themselves: two of x86, and one of Arm."""

_LOGGER = logging.getLogger(__name__)


def cpu_flags() -> frozenset[str]:
    """The words of the kernel's description of the processor; none where there is no such description."""
    return frozenset(CPU_INFO.read_text(encoding="utf-8").split()) if CPU_INFO.is_file() else frozenset()


def native_precision(device: torch.device | str) -> Precision:
    """Return "bfloat16" on a CPU that has it, not emulated; else "float32"."""
    on_cpu = torch.device(device).type == "cpu"
    return "bfloat16" if on_cpu and NATIVE_BFLOAT16 & cpu_flags() else "float32"


def with_precision(job: EncodingJob) -> EncodingJob:
    """Return a job whose precision is a known one: in place of "auto" that of the embeddings in its folder, else this machine's.

    A run that resumes elsewhere, a further shard and the workers of a cluster so take what the first run has chosen.

    Raises:
        RequestError: the folder holds embeddings of several precisions, or a file in it has the name of a journal and is none.
    """
    if job.settings.precision != "auto":
        return job
    found = _precision_of(job.output)
    precision = found or native_precision(job.device)
    _LOGGER.info("precision: %s, %s", precision, "as before in this folder" if found else "which this machine has")
    return in_precision(job, precision)


def precision_like(stated: Precision | None, device: torch.device | str) -> Precision:
    """Return the precision that other embeddings state, where the device computes in it; "float32" there and where none is."""
    return stated if stated is not None and computes_in(stated, device) else "float32"


def in_precision(job: EncodingJob, precision: Precision) -> EncodingJob:
    """Return a job with ``precision`` in place of "auto"."""
    auto = job.settings.precision == "auto"
    return replace(job, settings=replace(job.settings, precision=precision)) if auto else job


def _precision_of(folder: Path) -> Precision | None:
    """What earlier runs took in a folder, as their record says; where a copy has left that behind, as the embeddings say.

    Raises:
        RequestError: see :func:`with_precision`.
    """
    recorded = [journal.request.get("precision") for journal in read_journals(folder) if journal.stage == "encoding"]
    if known := [word for word in words(Precision) if word in recorded]:
        return known[0]
    stated = sorted(set(_stated_by_files(folder)))
    if len(stated) > 1:
        raise RequestError(
            f"{folder}: embeddings in {' and in '.join(stated)}, expected one precision: encode all slides anew in another "
            "--output_dir, or name the precision with --settings#precision"
        )
    return next(iter(stated), None)


def _stated_by_files(folder: Path) -> Iterator[Precision]:
    """What the embeddings of a folder state; files that cannot be read, and those of other tools, state nothing."""
    for path in folder.glob("[!.]*.h5"):
        with suppress(SlideError):
            if stated := embedding_file(path).header.precision:
                yield stated
