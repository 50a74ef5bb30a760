"""Encoding in one call, of a test's own encoder, by the options of job, reading and settings."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from scripts.encoding.encoding_run import EncodingRun, encode_slides
from scripts.encoding.job import EncodingJob, ManifestRow
from scripts.encoding.settings import EncodingSettings
from scripts.slides.opening import Reading


def job_of(output: Path, encoder_def: Callable[[], nn.Module], **options: Any) -> EncodingJob:
    """How slides become embeddings; ``settings`` are those of :class:`EncodingSettings`."""
    of_reading = {name: options.pop(name) for name in _names(Reading) & set(options) - _names(EncodingJob)}
    settings = EncodingSettings(**options.pop("settings", {}))
    return EncodingJob(output, encoder_def, reading=Reading(**of_reading), settings=settings, **options)


def encode_all(
    slides: Path | None, output: Path, encoder_def: Callable[[], nn.Module], **options: Any
) -> list[ManifestRow]:
    """Encode slides; options that are none of a job are those of :class:`EncodingRun`."""
    of_job = {name: options.pop(name) for name in (_names(EncodingJob) | _names(Reading)) & set(options)}
    return encode_slides(slides, job_of(output, encoder_def, **of_job), EncodingRun(**options))


def _names(kind: type) -> set[str]:
    return {field.name for field in fields(kind)}
