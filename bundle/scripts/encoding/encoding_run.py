"""The stage ``encoding``: slides to embedding files, and a manifest that says what became of each."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from ..common.errors import RequestError
from ..common.files import writing_to
from ..common.outputs import Found, HeldOutputs
from ..slides.slide_ids import known_ids
from ..slides.table import SlideRow, copy_table, read_slides
from .encoding_plan import plan_encoding
from .existing import request_of, require_same_origin
from .job import EncodingJob, ManifestRow
from .manifest import KeptRows, manifest_name, part_of, shard_of
from .named_encoder import identity_of
from .precision import with_precision


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


@dataclass(frozen=True)
class EncodingRun:
    """What one run does besides encoding each slide as the others.

    Attributes:
        keep_table: write ``slides.csv`` beside the embeddings where the slides are a CSV, so that the folder is a dataset.
        shard: "i/n" takes every n-th slide from the i-th on (1 to n) and writes ``manifest.i-of-n.csv`` instead, for job arrays.
        cluster: encodes the slides on other machines; by default one process of this one does, see :mod:`..common.apart`.
        dry_run: print :func:`.encoding_plan.plan_encoding` instead.
        replace: embeddings of another encoder, of other settings or of other slides may be replaced; files of others never are.
        said_by: words of the stage.
    """

    keep_table: bool = True
    shard: str | None = None
    cluster: Executor | None = None
    dry_run: bool = False
    replace: bool = False
    said_by: Wording = OF_ENCODING


DEFAULT_RUN = EncodingRun()


def encode_slides(slides: str | Path | None, job: EncodingJob, run: EncodingRun = DEFAULT_RUN) -> list[ManifestRow]:
    """Encode every slide; arguments and errors are those of :func:`encoding_of`.

    Returns:
        the manifest, in the order of the slides; of a dry run an empty one.
    """
    with encoding_of(slides, job, run) as rows:
        return list(rows)


@contextmanager
def encoding_of(
    slides: str | Path | Sequence[SlideRow] | None, job: EncodingJob, run: EncodingRun = DEFAULT_RUN
) -> Iterator[KeptRows]:
    """Hold the folder inside the block, and yield what encodes slide after slide: the row of each, in the order of the slides.

    Written are ``<slide_id>.h5``, ``manifest.csv`` (by the end, and meanwhile: see :class:`.manifest.KeptRows`) and, from a CSV,
    ``slides.csv`` (of shards by the first). While the caller has a row, the next slide is encoded. Further slides may be added to a
    folder by further runs of the same encoder and settings; the manifest keeps the rows of the others.

    Args:
        slides: a slide, a folder or a CSV; or what has been listed of one, for the same folder.
        job: how they become embeddings, and in which folder, which one run at a time holds (or the shards of one number); the
            encoder is made once it is known that there are slides. Precision "auto" is that of the folder, else of this machine.
        run: what this run does besides.

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
        if isinstance(slides, str | Path) and run.keep_table and Path(slides).suffix.lower() == ".csv"
        else None
    )
    rows = read_slides(slides, known=known) if isinstance(slides, str | Path) else list(slides)
    index, count = shard_of(run.shard)
    if table and not run.replace:
        _require_same_dataset(rows, job.output / "slides.csv")
    job = with_precision(job)
    mine = rows[index - 1 :: count]
    manifest = manifest_name(run.shard)
    copied = table and index == 1 and not _is_file(table, job.output / "slides.csv")
    with job.apart(job.encode) as apart:
        # weights that do not serve are refused before anything is written
        identity = apart.start(job.prepare)[1] if run.cluster is None else identity_of(job.encoder_def())
        request = request_of(identity, job.settings)
        adopted = require_same_origin(
            mine,
            job,
            request,
            replace=run.replace,
            elsewhere=run.said_by.elsewhere,
            verify=job.resume and run.cluster is None,  # those who encode elsewhere verify side by side
        )
        held = HeldOutputs(
            job.output,
            "encoding",
            request,
            writes=[*(job.path_of(row.slide_id).name for row in mine), manifest, *(["slides.csv"] if copied else [])],
            replace=run.replace,
            found=Found(adopted=adopted),
            shard=part_of(run.shard),
            elsewhere=run.said_by.elsewhere,
        )
        held.check()
        if run.dry_run:
            print(plan_encoding(mine, job))
            yield KeptRows((), (), job.output / manifest, held, run.said_by.work)
            return
        with ExitStack() as stack:
            with writing_to(job.output):
                stack.enter_context(held)
                if table and copied:
                    copy_table(table, job.output / "slides.csv", known=known)
            here = stack.enter_context(closing(job.encode_in(apart, mine)))  # begins with its first row
            results = here if run.cluster is None else run.cluster.encode(mine, job)
            kept = KeptRows([row.slide_id for row in mine], results, job.output / manifest, held, run.said_by.work)
            stack.callback(kept.write)  # where the run is stopped, too
            yield kept


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
