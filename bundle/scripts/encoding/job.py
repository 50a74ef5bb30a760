"""What a process needs to know to encode any slide of a request: it can be sent to a worker."""

import logging
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from ..common.apart import Apart
from ..common.boundary import slide_boundary
from ..common.errors import NoTissueError, SlideError
from ..common.files import relative_to, remove_partial, writing_to
from ..common.journal import EMBEDDING_FORMATS, is_our_hdf5
from ..common.option_table import checked
from ..common.option_words import Engine
from ..slides.opening import Reading, open_slide
from ..slides.table import SlideRow
from .embed import embed_slide
from .embedding_file import EmbeddingHeader, embedding_file, header_of
from .named_encoder import NamedEncoder
from .settings import EncodingSettings, parameters_of

OnDisk = Literal["current", "outdated", "other"]
"""What lies under the name of a slide's embedding, see :meth:`EncodingJob.on_disk`."""

Status = Literal["done", "skipped", "empty", "failed"]

_LOGGER = logging.getLogger(__name__)
COLUMNS = ("slide_id", "slide", "status", "patches", "seconds", "output", "error")
"""Of ``manifest.csv``."""


@dataclass(frozen=True)
class ManifestRow:
    """What became of one slide; ``status`` is done, empty, failed or skipped (a whole and current file was there).

    ``slide`` and ``output`` are relative to the folder of the embeddings, in which the manifest lies. ``header`` is that of its
    embedding file, so that nobody opens the file for it; it does not stand in the manifest.
    """

    slide_id: str
    slide: str
    status: Status
    patches: int = 0
    seconds: float = 0.0
    output: str = ""
    error: str = ""
    header: EmbeddingHeader | None = field(default=None, compare=False, repr=False)

    @property
    def has_embedding(self) -> bool:
        """Whether there is a current file of this slide."""
        return self.status in ("done", "skipped")

    def cells(self) -> dict[str, object]:
        """The row as it stands in ``manifest.csv``."""
        return {name: getattr(self, name) for name in COLUMNS}


class Task(NamedTuple):
    """A slide to encode, and what the process that asks has seen of the embedding that lies under its name, if any."""

    row: SlideRow
    known: EmbeddingHeader | None = None


@dataclass(frozen=True)
class EncodingJob:
    """How slides become embedding files.

    Attributes:
        output: folder of the files.
        encoder_def: makes the patch encoder.
        device: where that runs.
        batch_size: patches read and encoded at once.
        engine: what runs the encoder: "auto", "torch" or "openvino".
        resume: keep files that are whole and were made with the same encoder and settings; False encodes all anew.
        reading: how slides are read; with ``unreadable_tiles`` "mask" the patches on such tiles are left out, and counted.
        settings: what a file depends on besides slide and encoder.

    Raises:
        RequestError: a value lies outside its range.
    """

    output: Path
    encoder_def: Callable[[], nn.Module]
    device: torch.device | str = "cpu"
    batch_size: int = 64
    engine: Engine = "torch"
    resume: bool = True
    reading: Reading = field(default_factory=Reading)
    settings: EncodingSettings = field(default_factory=EncodingSettings)

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        checked("batch_size", self.batch_size)
        checked("engine", self.engine)

    @cached_property
    def encoder(self) -> NamedEncoder:
        """The patch encoder, made once per process."""
        return NamedEncoder(
            self.encoder_def(),
            device=torch.device(self.device),
            batch_size=self.batch_size,
            engine=self.engine,
            precision=self.settings.known_precision,
        )

    def prepare(self) -> tuple[str, str]:
        """Make the encoder, and return the name of its engine, and the name and hash of its weights.

        Raises:
            RequestError: the weights do not serve, or the engine is unknown, not installed or not for this device.
        """
        return self.encoder.engine, self.encoder.identity

    def apart(self, work: Callable[[Any], Any]) -> Apart[Any, Any]:
        """Let ``work``, which may use the encoder, be done in another process: forked unless CUDA or OpenVINO forbids it."""
        on_cpu = torch.device(self.device).type == torch.device(self.reading.device).type == "cpu"
        forks = on_cpu and (self.engine == "torch" or "openvino" not in sys.modules)
        return Apart(work, forks=forks, timeout_s=self.reading.timeout_s)

    def path_of(self, slide_id: str) -> Path:
        """Where the embedding of a slide goes."""
        return self.output / f"{slide_id}.h5"

    def row_of(self, slide: SlideRow, status: Status, **found: Any) -> ManifestRow:
        """Return the manifest's row of a slide; ``found`` are further fields of it."""
        return ManifestRow(slide.slide_id, relative_to(slide.path, self.output), status, **found)

    def seen(self, slide_id: str) -> EmbeddingHeader | None:
        """What this process has seen of the embedding that lies under a slide's name, if any."""
        return embedding_file(self.path_of(slide_id)).cached_header

    def encode(self, task: Task) -> ManifestRow:
        """Encode one slide, unless that is done; whatever is wrong with the slide stands in the row.

        Raises:
            StorageError: nothing more can be written.
        """
        row = task.row
        with self.accounted(row) as account:
            on_disk = self.on_disk(task)
            if on_disk == "current":
                account.skipped()
            else:
                account.outdated = on_disk == "outdated"
                path = self.path_of(row.slide_id)
                embed_slide(row, path, encoder=self.encoder, settings=self.settings, reading=self.reading)
                account.done()
        return account.entry

    def encode_in(
        self, apart: Apart[Task, ManifestRow], rows: Sequence[SlideRow]
    ) -> Generator[ManifestRow, None, None]:
        """Let slides be encoded in another process, by :meth:`encode`: the next one while the caller has this one's row.

        If the process ends over a slide, that has failed, and leaves nothing.

        Raises:
            StorageError: nothing more can be written.
        """
        at_work: SlideRow | None = None
        try:
            for row in (*rows, None):
                entry = None if at_work is None else self._finished(apart, at_work)
                at_work = row
                if row is not None:
                    apart.begin(row.path, Task(row, self.seen(row.slide_id)))
                if entry is not None:
                    yield entry
        finally:
            if at_work is not None:
                apart.end()
                remove_partial(self.output, {at_work.slide_id})

    def _finished(self, apart: Apart[Task, ManifestRow], row: SlideRow) -> ManifestRow:
        try:
            with self.accounted(row) as account:
                return apart.finish()
        finally:
            if not apart.alive:
                remove_partial(self.output, {row.slide_id})
        return account.entry

    def on_disk(self, task: Task) -> OnDisk:
        """Say what lies under the name of the slide's embedding.

        Returns:
            "current": a whole file, made from this slide with this encoder and these settings, that is kept; "outdated": one made
            of another content or with others; "other": none, or one that is to be made anew all the same, as where it lacks
            patches on unreadable tiles and this job asks for all.

        Raises:
            SlideError: there is an embedding, and the slide is not there or cannot be opened.
            OSError: it cannot be read.
        """
        row, known = task
        file = embedding_file(self.path_of(row.slide_id))
        if not file.path.is_file():
            return "other"
        file.remember(known)
        try:
            attributes = (file.verify() if self.resume else file.header).attributes
        except SlideError as error:
            _LOGGER.debug("encoded anew: %s", error)
            return "other"
        stated = str(attributes.get("parameters"))
        # a slide that cannot be opened, as while it is copied, says nothing of its embedding
        with open_slide(row.path, self.reading) as reader:
            if stated != parameters_of(row, self.encoder.identity, self.settings, reader):
                return "outdated"
        wanted_whole = self.reading.unreadable_tiles == "fail" and attributes.get("patches_left_out")
        return "current" if self.resume and not wanted_whole else "other"

    @contextmanager
    def accounted(self, row: SlideRow) -> "Iterator[Account]":
        """Turn what happens to a slide inside the block, said or raised, into ``account.entry``."""
        account = Account(partial(self.row_of, row), self.path_of(row.slide_id))
        try:
            with slide_boundary(row.path), writing_to(self.output):
                yield account
        except NoTissueError as error:
            account.empty(f"no tissue: {error}")
        except SlideError as error:
            account.failed(str(error))


class Account:
    """Keeps the time of one slide and writes its row of the manifest.

    Args:
        row_of: makes the row of status and further fields.
        path: where its embedding goes.

    Attributes:
        entry: the row, once something is said of the slide.
        outdated: whether an earlier embedding is known to be of another content or request.
    """

    entry: ManifestRow

    def __init__(self, row_of: Callable[..., ManifestRow], path: Path) -> None:
        self.outdated = False
        self._row_of = row_of
        self._path = path
        self._start_s = time.monotonic()

    def done(self) -> None:
        """Say that the file was written now."""
        self._enter_output("done")

    def skipped(self) -> None:
        """Say that the file was there."""
        self._enter_output("skipped")

    def empty(self, reason: str) -> None:
        """Say that the slide holds no tissue; an earlier embedding of it is removed."""
        self.outdated = True
        self.remove_outdated()
        _LOGGER.debug("empty: %s", reason)
        self._enter("empty", error=reason)

    def failed(self, error: str) -> None:
        """Say that the slide could not be encoded now; an earlier embedding is kept, unless it is known to be outdated."""
        self.remove_outdated()
        _LOGGER.debug("failed: %s", error)
        with suppress(OSError):
            if self._path.is_file():
                error += f" (the embedding of an earlier run, {self._path.name}, is kept)"
        self._enter("failed", error=error)

    def remove_outdated(self) -> None:
        """Remove an earlier embedding that is outdated; a file of another tool stays."""
        if self.outdated and self._path.is_file() and is_our_hdf5(self._path, formats=EMBEDDING_FORMATS):
            self._path.unlink()

    def _enter_output(self, status: Status) -> None:
        """Enter what the embedding file says of itself, and what unreadable tiles cost."""
        header = header_of(self._path)
        patches, left_out = (int(header.attributes[name]) for name in ("patches", "patches_left_out"))
        error = f"{left_out} patches lie on unreadable tiles and were left out" if left_out else ""
        self._enter(status, patches=patches, output=self._path.name, error=error, header=header)

    def _enter(self, status: Status, **found: Any) -> None:
        seconds = round(time.monotonic() - self._start_s, 3)
        self.entry = self._row_of(status, seconds=seconds, **found)
