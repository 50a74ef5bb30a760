"""The stage ``encoding``: slides to embedding files, and a manifest that says what became of each."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from ..common.errors import RequestError, SlideError
from ..common.files import guarded_by, write_csv, writing_to
from ..common.option_table import checked
from ..common.option_words import words
from ..common.outputs import Found, HeldOutputs
from ..common.progress import track
from ..slides.slide_ids import known_ids
from ..slides.table import SlideRow, copy_table, read_slides
from .embedding_file import embedding_file
from .encoding_plan import plan_encoding
from .existing import request_of, require_same_origin, rows_before
from .job import COLUMNS, EncodingJob, ManifestRow, Status
from .named_encoder import identity_of
from .precision import with_precision

_LOGGER = logging.getLogger(__name__)


class Executor(Protocol):
    """Encodes slides somewhere else."""

    def encode(self, rows: Sequence[SlideRow], job: EncodingJob) -> Iterable[ManifestRow]:
        """Yield what became of each slide, in any order."""
        ...


class Wording(NamedTuple):
    """How a stage that encodes speaks: the name of its work, with its progress, and the remedy that names another folder."""

    work: str = "encoding"
    elsewhere: str = "name another --output_dir"


OF_ENCODING = Wording()


def encode_slides(
    slides: str | Path | None,
    job: EncodingJob,
    *,
    keep_table: bool = True,
    shard: str | None = None,
    cluster: Executor | None = None,
    dry_run: bool = False,
    replace: bool = False,
) -> list[ManifestRow]:
    """Encode every slide; arguments and errors are those of :func:`encoding_of`.

    Returns:
        the manifest, in the order of the slides; of a dry run an empty one.
    """
    with encoding_of(
        slides, job, keep_table=keep_table, shard=shard, cluster=cluster, dry_run=dry_run, replace=replace
    ) as rows:
        return list(rows)


@contextmanager
def encoding_of(
    slides: str | Path | Sequence[SlideRow] | None,
    job: EncodingJob,
    *,
    keep_table: bool = True,
    shard: str | None = None,
    cluster: Executor | None = None,
    dry_run: bool = False,
    replace: bool = False,
    said_by: Wording = OF_ENCODING,
) -> Iterator[Iterator[ManifestRow]]:
    """Hold the folder inside the block, and yield what encodes slide after slide: the row of each, in the order of the slides.

    Written are ``<slide_id>.h5``, ``manifest.csv`` (after every slide, before its row is handed out) and, from a CSV,
    ``slides.csv``. While the caller has a row, the next slide is encoded. Further slides may be added to a folder by further runs
    of the same encoder and settings; the manifest keeps the rows of the others.

    Args:
        slides: a slide, a folder or a CSV; or what has been listed of one, for the same folder.
        job: how they become embeddings, and in which folder, which one run at a time holds (one per shard); the encoder is made
            once it is known that there are slides. Precision "auto" is that of the folder, else of this machine.
        keep_table: write ``slides.csv`` beside the embeddings where ``slides`` is a CSV, so that the folder is a dataset.
        shard: "i/n" takes every n-th slide from the i-th on (1 to n) and writes ``manifest.i-of-n.csv`` instead, for job arrays.
        cluster: encodes the slides on other machines; by default one process of this one does, see :mod:`..common.apart`.
        dry_run: print :func:`.encoding_plan.plan_encoding` instead.
        replace: embeddings of another encoder, of other settings or of other slides may be replaced; files of others never are.
        said_by: words of the stage.

    Raises:
        RequestError: there is nothing to encode; the folder is the dataset of other slides, or holds embeddings of another request
            or files of others under the names that would be written; or another run is writing there.
        StorageError: nothing more can be written.
    """
    if slides is None:
        raise RequestError("no slides given: name a slide file, a folder or a CSV with --slides")
    known = known_ids(job.output)
    table = (
        Path(slides)
        if isinstance(slides, str | Path) and keep_table and Path(slides).suffix.lower() == ".csv"
        else None
    )
    rows = read_slides(slides, known=known) if isinstance(slides, str | Path) else list(slides)
    index, count = _shard_of(shard)
    if table and not replace:
        _require_same_dataset(rows, job.output / "slides.csv")
    job = with_precision(job)
    part = "" if count == 1 else f"{index}-of-{count}"
    mine = rows[index - 1 :: count]
    manifest = f"manifest{part and '.' + part}.csv"
    copied = table and not _is_file(table, job.output / "slides.csv")
    with job.apart(job.encode) as apart:
        # weights that do not serve are refused before anything is written
        identity = apart.start(job.prepare)[1] if cluster is None else identity_of(job.encoder_def())
        request = request_of(identity, job.settings)
        adopted = require_same_origin(
            mine,
            job,
            request,
            replace=replace,
            elsewhere=said_by.elsewhere,
            verify=job.resume and cluster is None,  # those who encode elsewhere verify side by side
        )
        held = HeldOutputs(
            job.output,
            "encoding",
            request,
            writes=[*(job.path_of(row.slide_id).name for row in mine), manifest, *(["slides.csv"] if copied else [])],
            replace=replace,
            found=Found(adopted=adopted),
            shard=part,
            elsewhere=said_by.elsewhere,
        )
        held.check()
        if dry_run:
            print(plan_encoding(mine, job))
            yield iter(())
            return
        with ExitStack() as stack:
            with writing_to(job.output):
                stack.enter_context(held)
                if table and copied:
                    copy_table(table, job.output / "slides.csv", known=known)
            here = stack.enter_context(closing(job.encode_in(apart, mine)))  # begins with its first row
            results = here if cluster is None else cluster.encode(mine, job)
            yield _kept_in_manifest([row.slide_id for row in mine], results, job.output / manifest, held, said_by.work)


def _kept_in_manifest(
    slide_ids: Sequence[str], results: Iterable[ManifestRow], manifest: Path, held: HeldOutputs, work: str
) -> Iterator[ManifestRow]:
    """Draw the results; after each, write what is known so far, in the order of the slides, and then the rows of other slides."""
    entries: dict[str, ManifestRow] = {}
    mine = set(slide_ids)
    others = [row for row in rows_before(manifest) if row["slide_id"] not in mine]
    waiting = deque(slide_ids)
    with writing_to(manifest.parent):
        for entry in track(results, total=len(slide_ids), what=work, unit="slide"):
            entries[entry.slide_id] = entry
            if entry.header is not None:
                held.wrote(entry.output)
                embedding_file(manifest.parent / entry.output).know(entry.header)
            known = [entries[slide_id].cells() for slide_id in slide_ids if slide_id in entries]
            with guarded_by(held):  # whoever else holds the folder meanwhile
                write_csv(manifest, COLUMNS, [*known, *({name: row.get(name) for name in COLUMNS} for row in others)])
            while waiting and waiting[0] in entries:
                yield entries[waiting.popleft()]
    found = Counter(entry.status for entry in entries.values())
    _LOGGER.info("encoding: %s", ", ".join(f"{found[name]} {name}" for name in words(Status)))
    if found["empty"] and found["empty"] == len(entries):
        _LOGGER.warning("no slide holds tissue, so there is no embedding: %s says why", manifest)
    headers = [entry.header for entry in entries.values() if entry.header is not None]
    backends = Counter(str(header.attributes["backend"]) for header in headers)
    _LOGGER.info("read by: %s", ", ".join(f"{name} {count}" for name, count in backends.items()) or "none")


def _shard_of(shard: str | None) -> tuple[int, int]:
    """Read "i/n"; without it, the one shard there is."""
    if shard is None:
        return 1, 1
    index, _, count = checked("shard", shard).partition("/")
    return int(index), int(count)


def require_complete(manifest: list[ManifestRow], output_dir: str | Path, *, total: int | None = None) -> None:
    """Raise a SlideError (exit code 1) that counts the failed slides, if any failed; of ``total``, where not all have a row."""
    failed = [entry for entry in manifest if entry.status == "failed"]
    if failed:
        raise SlideError(
            f"{len(failed)} of {total or len(manifest)} slides failed, all others are done; {Path(output_dir) / 'manifest.csv'} "
            "says why"
        )


def _is_file(source: Path, target: Path) -> bool:
    return target.exists() and source.samefile(target)


def _require_same_dataset(rows: Sequence[SlideRow], table: Path) -> None:
    """Refuse to replace the slide table of a dataset that holds other slides."""
    if not table.is_file():
        return
    others = {row.slide_id for row in read_slides(table)} - {row.slide_id for row in rows}
    if others:
        raise RequestError(
            f"{table}: lists {len(others)} slides that this request does not name, and would be replaced; expected a new folder, "
            "or a table that lists them too: name another --output_dir, or replace it with --replace true"
        )
