"""The manifest of a folder of embeddings: a row per slide, written while the slides are encoded."""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..common.errors import SlideError
from ..common.files import guarded_by, write_csv, writing_to
from ..common.option_table import checked
from ..common.option_words import words
from ..common.outputs import HeldOutputs
from ..common.progress import track
from ..slides.slide_ids import manifest_rows
from .embedding_file import embedding_file
from .job import COLUMNS, ManifestRow, Status

WRITE_SHARE = 0.01
"""Of a run's time, at most, for writing its manifest: it is written whole, which takes the longer the more slides there are."""

_LOGGER = logging.getLogger(__name__)


class KeptRows:
    """The rows of an encoding, to be gone over once.

    The manifest has the rows known so far in the order of the slides, then those of other slides that it had before. It is written
    as often as `WRITE_SHARE` allows, a short one after almost every slide, and by :meth:`write` in the end. A run that is killed
    may leave it without the latest rows; the next run of the same request has them again, from the embeddings or by trying anew.

    Args:
        slide_ids: of the slides, in their order.
        results: what becomes of them, in any order.
        manifest: the file.
        held: its folder.
        work: name of the work, for its progress.
    """

    def __init__(
        self, slide_ids: Sequence[str], results: Iterable[ManifestRow], manifest: Path, held: HeldOutputs, work: str
    ) -> None:
        self._slide_ids = tuple(slide_ids)
        self._manifest = manifest
        self._held = held
        self._results = track(results, total=len(self._slide_ids), what=work, unit="slide")
        self._entries: dict[str, ManifestRow] = {}
        self._unwritten = False
        self._due_s = 0.0  # on the monotonic clock
        mine = set(self._slide_ids)
        self._others = [row for row in manifest_rows(manifest) if row["slide_id"] not in mine]

    @property
    def entries(self) -> list[ManifestRow]:
        """What is known so far."""
        return [self._entries[slide_id] for slide_id in self._slide_ids if slide_id in self._entries]

    def __iter__(self) -> Iterator[ManifestRow]:
        """Draw the results, and yield them in the order of the slides.

        Raises:
            StorageError: nothing more can be written.
        """
        if not self._slide_ids:  # of a dry run, or of a shard without slides
            return
        waiting = deque(self._slide_ids)
        with writing_to(self._manifest.parent):
            for entry in self._results:
                if entry.header is not None:
                    self._held.wrote(entry.output)
                    embedding_file(self._manifest.parent / entry.output).remember(entry.header)
                self.enter(entry)
                while waiting and waiting[0] in self._entries:
                    yield self._entries[waiting.popleft()]
        self._tell()

    def enter(self, entry: ManifestRow) -> None:
        """Put this row in the place of the slide's, which later work may have found to have failed; write the manifest if due.

        Raises:
            StorageError: nothing more can be written.
        """
        self._entries[entry.slide_id] = entry
        self._unwritten = True
        if time.monotonic() >= self._due_s:
            self.write()

    def write(self) -> None:
        """Write the manifest, unless it has all that is known.

        Raises:
            StorageError: nothing more can be written.
        """
        if not self._unwritten:
            return
        start_s = time.monotonic()
        others = ({name: row.get(name) for name in COLUMNS} for row in self._others)
        with writing_to(self._manifest.parent), guarded_by(self._held):  # whoever else holds the folder meanwhile
            write_csv(self._manifest, COLUMNS, [*(known.cells() for known in self.entries), *others])
        self._unwritten = False
        end_s = time.monotonic()
        self._due_s = end_s + (end_s - start_s) / WRITE_SHARE

    def _tell(self) -> None:
        entries = self.entries
        found = Counter(entry.status for entry in entries)
        _LOGGER.info("encoding: %s", ", ".join(f"{found[name]} {name}" for name in words(Status)))
        if found["empty"] == len(entries):
            _LOGGER.warning("no slide holds tissue, so there is no embedding: %s says why", self._manifest)
        headers = [entry.header for entry in entries if entry.header is not None]
        backends = Counter(str(header.attributes["backend"]) for header in headers)
        _LOGGER.info("read by: %s", ", ".join(f"{name} {count}" for name, count in backends.items()) or "none")


def shard_of(shard: str | None) -> tuple[int, int]:
    """Read "i/n"; without it, the one shard there is.

    Raises:
        RequestError: it is no shard.
    """
    if shard is None:
        return 1, 1
    index, _, count = checked("shard", shard).partition("/")
    return int(index), int(count)


def part_of(shard: str | None) -> str:
    """Return "i-of-n" for the shard "i/n", in names of files; an empty text where there is but one."""
    index, count = shard_of(shard)
    return "" if count == 1 else f"{index}-of-{count}"


def manifest_name(shard: str | None = None) -> str:
    """Return the name of a run's manifest; that of shard "i/n" is its own, where there are several."""
    part = part_of(shard)
    return f"manifest{part and '.' + part}.csv"


def require_complete(
    manifest: list[ManifestRow], output_dir: str | Path, *, shard: str | None = None, total: int | None = None
) -> None:
    """Check that no slide failed; the last of a run list, so that the exit code is 1 otherwise.

    Args:
        manifest: the rows of the run.
        output_dir: the folder that holds them as a file.
        shard: "i/n" of the run; None is all of it.
        total: slides of the run, where not all have a row.

    Raises:
        SlideError: counts the failed slides, and names the manifest.
    """
    failed = [entry for entry in manifest if entry.status == "failed"]
    if failed:
        raise SlideError(
            f"{len(failed)} of {total or len(manifest)} slides failed, all others are done; "
            f"{Path(output_dir) / manifest_name(shard)} says why"
        )
