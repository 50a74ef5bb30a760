"""What the precision ``auto`` stands for: a data set is encoded in one, whatever machines take part (docs/decisions/0028)."""

import logging
from dataclasses import replace
from pathlib import Path

import torch

from ..common.journal import read_journals
from ..common.option_words import Precision, words
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
        RequestError: a file in the folder has the name of a journal and is none.
    """
    if job.settings.precision != "auto":
        return job
    before = [journal.request.get("precision") for journal in read_journals(job.output) if journal.stage == "encoding"]
    found = next((word for word in words(Precision) if word in before), None)
    precision = found or native_precision(job.device)
    _LOGGER.info("precision: %s, %s", precision, "as before in this folder" if found else "which this machine has")
    return in_precision(job, precision)


def in_precision(job: EncodingJob, precision: Precision) -> EncodingJob:
    """Return a job with ``precision`` in place of "auto"."""
    auto = job.settings.precision == "auto"
    return replace(job, settings=replace(job.settings, precision=precision)) if auto else job
