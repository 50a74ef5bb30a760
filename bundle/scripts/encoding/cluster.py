"""The same work on a Dask cluster: one task per slide, and large slides cut into bands of rows.

Dask gives what a cluster needs: it starts a task again elsewhere when its worker dies, and hands results from worker to worker.
Workers write the embedding files themselves, whole or not at all; the manifest is written by the process that asked.
"""

import pickle
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..common.boundary import slide_boundary
from ..common.errors import RequestError, SlideError
from ..common.option_table import checked
from ..common.process import prepare_to_read_slides
from ..slides.opening import open_slide
from ..slides.table import SlideRow
from .embed import EncodedBatch, embed_slide, encoded_batches, join_batches, write_embedding
from .job import EncodingJob, ManifestRow, Task
from .prepared import PreparedSlide, plan_of, prepare_slide
from .scan import scan_slide, serves_all
from .settings import parameters_of

if TYPE_CHECKING:
    from distributed import Client, Future

SPLIT_PATCHES = 16384
"""Patches over which a slide is cut into bands of about as many."""


@dataclass(frozen=True)
class BandedSlide:
    """A slide that is encoded in bands: patches ``cuts[i]`` to ``cuts[i + 1]`` of ``prepared``."""

    prepared: PreparedSlide
    parameters: str
    cuts: tuple[int, ...]


class DaskCluster:
    """Workers of a Dask cluster, one task at a time each.

    Args:
        address: of a running scheduler, such as ``tcp://host:8786``; None starts workers on this machine. Its workers need this
            bundle's folder on ``PYTHONPATH`` and the slides under the same paths.
        workers: how many to start on this machine.
        threads: threads that each of them encodes with.
        split_patches: cut slides of more patches than this into bands, unless each band would decode whole levels
            (:attr:`..slides.reader.SlideReader.checks_levels`).

    Raises:
        RequestError: Dask is not installed, the address is none, or a number is under 1.
    """

    def __init__(
        self, *, address: str | None = None, workers: int = 1, threads: int = 1, split_patches: int = SPLIT_PATCHES
    ) -> None:
        try:
            import distributed
        except ImportError as error:
            raise RequestError(
                f'Dask is not installed ({error}), expected it for a cluster: pip install "dask[distributed]"'
            ) from error
        if address is not None:
            try:
                distributed.comm.get_address_host(address)
            except ValueError as error:
                raise RequestError(
                    f"cluster address {address!r}: {error}; expected that of a Dask scheduler, such as tcp://host:8786: correct "
                    "--cluster#address"
                ) from error
        self._distributed = distributed
        self.address = address
        self.workers: int = checked("workers", workers)
        self.threads: int = checked("threads", threads)
        self.split_patches: int = checked("split_patches", split_patches)

    def encode(self, rows: Sequence[SlideRow], job: EncodingJob) -> Iterator[ManifestRow]:
        """Yield what became of each slide, as it is finished.

        Raises:
            RequestError: the scheduler is not there, or its workers cannot import this bundle.
            StorageError: nothing more can be written.
        """
        job = replace(job, output=job.output.absolute())
        pickled = pickle.dumps(job)
        with ExitStack() as stack:
            client = self._connected(stack)
            begun = {}
            for row in rows:
                task = client.submit(
                    _begin, pickled, replace(row, path=row.path.absolute()), self.split_patches, pure=False
                )
                begun[task] = row
            yield from self._finished(client, job, begun)

    def _connected(self, stack: ExitStack) -> "Client":
        """Connect to the scheduler, or start one with workers on this machine, until ``stack`` is left."""
        import dask

        if self.address is not None:
            try:
                return stack.enter_context(self._distributed.Client(self.address))
            except OSError as error:
                raise RequestError(
                    f"no Dask scheduler at {self.address} ({error}): start one, or leave the address out"
                ) from error
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        stack.enter_context(dask.config.set({"distributed.nanny.pre-spawn-environ": threads}))
        local = self._distributed.LocalCluster(
            n_workers=self.workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            # Any free port, on this machine alone: there is no dashboard to show.
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
        )
        return stack.enter_context(self._distributed.Client(stack.enter_context(local)))

    def _finished(self, client: "Client", job: EncodingJob, begun: "dict[Future, SlideRow]") -> Iterator[ManifestRow]:
        """Follow the tasks; a slide that was split gets its bands and what joins them, before slides not begun yet."""
        pickled = pickle.dumps(job)
        tasks = self._distributed.as_completed(list(begun))
        for task in tasks:
            row = begun.pop(task)
            try:
                result = task.result()
            except self._distributed.KilledWorker as error:
                yield job.row_of(row, "failed", error=f"its workers were killed: {error}")
                continue
            except ModuleNotFoundError as error:
                raise RequestError(
                    f"the workers at {self.address} cannot import the bundle ({error}): start them with the bundle's folder on "
                    "PYTHONPATH"
                ) from error
            except (SlideError, OSError) as error:  # of a band: the slide fails as it would in one piece
                with job.accounted(row) as account:
                    raise error
                yield account.entry
                continue
            if isinstance(result, ManifestRow):
                yield result
                continue
            absolute = replace(row, path=row.path.absolute())
            bands = [
                client.submit(_band, pickled, absolute, task, index, pure=False, priority=1)
                for index in range(len(result.cuts) - 1)
            ]
            joined = client.submit(_join, pickled, absolute, task, bands, pure=False, priority=2)
            begun[joined] = row
            tasks.add(joined)


@lru_cache(maxsize=1)
def _job(pickled: bytes) -> EncodingJob:
    """The job of this request, one in a process, so that its encoder is made once."""
    prepare_to_read_slides()
    return pickle.loads(pickled)


def _begin(pickled: bytes, row: SlideRow, split_patches: int) -> ManifestRow | BandedSlide:
    """Encode a slide; of a large one, only find the tissue."""
    job = _job(pickled)
    with job.accounted(row) as account:
        on_disk = job.on_disk(Task(row))
        if on_disk == "current":
            account.skipped()
            return account.entry
        account.outdated = on_disk == "outdated"
        prepared, parameters = _prepared_if_large(job, row, split_patches)
        if prepared is not None and len(prepared.grid_yx) > split_patches:
            account.remove_outdated()  # a band that fails knows nothing of it
            return BandedSlide(prepared, parameters, row_cuts(prepared.grid_yx, split_patches))
        path = job.path_of(row.slide_id)
        embed_slide(row, path, encoder=job.encoder, settings=job.settings, reading=job.reading, prepared=prepared)
        account.done()
    return account.entry


def _prepared_if_large(job: EncodingJob, row: SlideRow, split_patches: int) -> tuple[PreparedSlide | None, str]:
    """Find the tissue of a slide that may be cut, None for one that is read in one piece; and what the embedding depends on."""
    with _opened(job, row) as reader:
        parameters = parameters_of(row, job.encoder.identity, job.settings, reader)
        plan = plan_of(reader, row, job.settings)
        if reader.checks_levels or plan.grid.shape_yx[0] * plan.grid.shape_yx[1] <= split_patches:
            return None, parameters
        if serves_all(reader, plan, job.settings):
            return scan_slide(reader, plan, job.settings, None, None), parameters
        return prepare_slide(reader, plan, job.settings), parameters


def row_cuts(grid_yx: NDArray[np.int32], split_patches: int) -> tuple[int, ...]:
    """Cut patches (N, 2), row by row, into bands of whole rows with about ``split_patches`` each; 0 and N included."""
    rows = grid_yx[:, 0]
    count = -(-len(rows) // split_patches)
    wanted = np.linspace(0, len(rows), count + 1)[1:-1].astype(int)
    return tuple(np.unique([0, *np.searchsorted(rows, rows[wanted]), len(rows)]).tolist())


def _band(pickled: bytes, row: SlideRow, banded: BandedSlide, index: int) -> EncodedBatch:
    """Encode one band."""
    job = _job(pickled)
    with slide_boundary(row.path), _opened(job, row) as reader:
        start, stop = banded.cuts[index : index + 2]
        return join_batches(list(encoded_batches(reader, banded.prepared, job.encoder, start, stop)))


def _join(pickled: bytes, row: SlideRow, banded: BandedSlide, bands: list[EncodedBatch]) -> ManifestRow:
    """Write the file of a slide from its bands."""
    job = _job(pickled)
    with job.accounted(row) as account, _opened(job, row) as reader:
        path = job.path_of(row.slide_id)
        write_embedding(row, path, reader, banded.prepared, bands, job.encoder, job.settings, banded.parameters)
        account.done()
    return account.entry


def _opened(job: EncodingJob, row: SlideRow) -> Any:
    return open_slide(row.path, job.reading)
