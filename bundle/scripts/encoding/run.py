"""The stage ``encoding``: a slide set to embedding files and a manifest, whatever happens to single slides."""

import csv
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import nn

from ..common.errors import NoTissueError, RequestError, SlideError
from ..common.files import write_csv
from ..common.progress import track
from ..slides.table import SlideRow, read_slides
from .embed import EncodingSettings, NamedEncoder, embed_slide, parameters_of
from .store import read_attributes

COLUMNS = ("slide_id", "slide", "status", "patches", "seconds", "output", "error")
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestRow:
    """What became of one slide: status is done, empty (no tissue), failed or skipped (a valid file was there)."""

    slide_id: str
    slide: str
    status: str
    patches: int = 0
    seconds: float = 0.0
    output: str = ""
    error: str = ""


def encode_slides(
    slides: str | Path | None,
    output_dir: str | Path,
    encoder_def: Callable[[], nn.Module],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    num_workers: int = 0,
    decode_device: str = "cpu",
    resume: bool = True,
    settings: dict[str, object] | None = None,
    keep_table: bool = True,
) -> list[ManifestRow]:
    """Encode every slide; write ``<slide_id>.h5``, ``manifest.csv`` (after every slide) and, from a CSV, ``slides.csv``.

    Args:
        slides: a slide, a folder or a CSV.
        output_dir: folder of the outputs.
        encoder_def: makes the patch encoder, once it is known that there are slides.
        device: where it runs.
        batch_size: patches read and encoded at once.
        num_workers: threads that decode.
        decode_device: "cuda" lets cuCIM decode on the GPU where it can.
        resume: keep files that are whole and were made with the same encoder and settings; False encodes all anew.
        settings: arguments of :class:`.embed.EncodingSettings`.
        keep_table: write ``slides.csv`` beside the embeddings where ``slides`` is a CSV, so that the folder is a dataset.

    Returns:
        the manifest.

    Raises:
        RequestError: there is nothing to encode, or the folder is the dataset of other slides.
    """
    if slides is None:
        raise RequestError("no slides given: name a slide file, a folder or a CSV with --slides")
    rows = read_slides(slides)
    chosen = EncodingSettings(**(settings or {}))  # type: ignore[arg-type]
    output = Path(output_dir)
    if keep_table and Path(slides).suffix.lower() == ".csv":
        _require_same_dataset(rows, output / "slides.csv")
    encoder = NamedEncoder(encoder_def(), device=torch.device(device), batch_size=batch_size)
    output.mkdir(parents=True, exist_ok=True)
    if keep_table and Path(slides).suffix.lower() == ".csv":
        _copy_table(Path(slides), output / "slides.csv")

    manifest: list[ManifestRow] = []
    for row in track(rows, total=len(rows), what="encoding", unit="slide"):
        manifest.append(
            _encode_one(
                row, output, encoder, chosen, num_workers=num_workers, decode_device=decode_device, resume=resume
            )
        )
        write_csv(output / "manifest.csv", COLUMNS, (asdict(entry) for entry in manifest))
    counts = {
        status: sum(entry.status == status for entry in manifest) for status in ("done", "skipped", "empty", "failed")
    }
    _LOGGER.info("encoding: %s", ", ".join(f"{count} {status}" for status, count in counts.items()))
    backends = Counter(str(read_attributes(output / entry.output)["backend"]) for entry in manifest if entry.output)
    _LOGGER.info("read by: %s", ", ".join(f"{name} {count}" for name, count in backends.items()) or "none")
    return manifest


def require_complete(manifest: list[ManifestRow], output_dir: str | Path) -> None:
    """Raise a SlideError (exit code 1) that counts the failed slides, if any failed."""
    failed = [entry for entry in manifest if entry.status == "failed"]
    if failed:
        raise SlideError(
            f"{len(failed)} of {len(manifest)} slides failed, all others are done; {Path(output_dir) / 'manifest.csv'} says why"
        )


def _encode_one(
    row: SlideRow,
    output: Path,
    encoder: NamedEncoder,
    settings: EncodingSettings,
    *,
    num_workers: int,
    decode_device: str,
    resume: bool,
) -> ManifestRow:
    path = output / f"{row.slide_id}.h5"
    entry = ManifestRow(row.slide_id, str(row.path), "failed")
    start = time.monotonic()
    try:
        if not row.path.is_file():
            raise SlideError(f"{row.path}: no such file: correct the path or put the slide there")
        if resume and path.is_file() and _is_current(path, row, encoder, settings):
            with_patches = read_attributes(path)["patches"]
            return replace(entry, status="skipped", patches=int(with_patches), output=path.name)
        patches = embed_slide(
            row, path, encoder=encoder, settings=settings, num_workers=num_workers, decode_device=decode_device
        )
        entry = replace(entry, status="done", patches=patches, output=path.name)
    except NoTissueError as error:
        path.unlink(missing_ok=True)
        entry = replace(entry, status="empty", error=f"no tissue: {error}")
    except (SlideError, OSError) as error:
        if row.path.is_file():  # what an earlier run left is stale; of a slide that is gone it is all there is
            path.unlink(missing_ok=True)
        _LOGGER.debug("failed: %s", error)
        entry = replace(entry, error=str(error))
    return replace(entry, seconds=round(time.monotonic() - start, 3))


def _is_current(path: Path, row: SlideRow, encoder: NamedEncoder, settings: EncodingSettings) -> bool:
    """Whether the file was made from this slide with this encoder and these settings."""
    try:
        return read_attributes(path).get("parameters") == parameters_of(row, encoder, settings)
    except SlideError:
        return False


def _require_same_dataset(rows: Sequence[SlideRow], table: Path) -> None:
    """Refuse to replace the slide table of a dataset that holds other slides."""
    if not table.is_file():
        return
    others = {row.slide_id for row in read_slides(table)} - {row.slide_id for row in rows}
    if others:
        raise RequestError(
            f"{table}: lists {len(others)} slides that this request does not name, and would be replaced; expected a new folder, or a "
            "table that lists them too: name another --output_dir"
        )


def _copy_table(source: Path, target: Path) -> None:
    """Put the slide table beside the embeddings, so that the folder is a dataset; slide paths are made relative to it."""
    if target.exists() and source.samefile(target):
        return
    with open(source, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        rows = list(reader)
    for row in rows:
        row["slide"] = _relative(source.parent / row["slide"].strip(), target.parent)
    write_csv(target, columns, rows)


def _relative(path: Path, folder: Path) -> str:
    """``path`` relative to ``folder``; absolute where they lie on different drives."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return str(path.resolve())
