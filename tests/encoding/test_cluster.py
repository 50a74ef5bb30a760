import os
import pickle
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from encoding.encoding_requests import encode_all, job_of
from encoding.painted import MPP, MeanEncoder, contents, paint, quarter_colours, write_painted_slide, write_tiff
from slides.mirax_file import write_mirax

from scripts.common.errors import RequestError
from scripts.encoding.cluster import BandedSlide, DaskCluster, _begin, row_cuts
from scripts.encoding.encoding_run import ManifestRow
from scripts.slides.table import SlideRow

distributed = pytest.importorskip("distributed", reason="dask[distributed] is not installed")


class KillsItsWorker(MeanEncoder):
    """Kills the process it runs in, once: the first to take the token dies."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def forward(self, patches):
        try:
            os.unlink(self.token)
        except FileNotFoundError:
            return super().forward(patches)
        os.kill(os.getpid(), signal.SIGKILL)


KillsItsWorker.__name__ = "MeanEncoder"  # the same identity: the files must be the same


class MakeKilling:
    """Encoder definition that can be pickled."""

    def __init__(self, token: Path) -> None:
        self.token = token

    def __call__(self) -> MeanEncoder:
        return KillsItsWorker(str(self.token))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small slides, a large one and a broken one."""
    folder = tmp_path_factory.mktemp("scans")
    write_painted_slide(folder / "a.tif", seed=1)
    write_painted_slide(folder / "b.tif", rows=9, columns=8, seed=2)
    (folder / "c.tif").write_bytes(b"II*\0 cut off")
    write_painted_slide(folder / "d.tif", seed=3)
    return folder


@pytest.fixture(scope="module")
def alone(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes of them."""
    output = tmp_path_factory.mktemp("alone")
    encode_all(scans, output, MeanEncoder)
    return output


def of_interest(manifest: list[ManifestRow], output: Path) -> list[tuple[object, ...]]:
    return [
        (entry.slide_id, (output / entry.slide).resolve(), entry.status, entry.patches, entry.output)
        for entry in manifest
    ]


def test_a_cluster_writes_what_one_process_writes_though_a_worker_is_killed(
    scans: Path, alone: Path, tmp_path: Path
) -> None:
    """Two workers, the large slide in bands of three rows."""
    token, output = tmp_path / "token", tmp_path / "out"
    token.touch()
    manifest = encode_all(scans, output, MakeKilling(token), cluster=DaskCluster(workers=2, split_patches=24))
    assert not token.exists(), "no worker was killed"
    assert contents(output) == contents(alone)
    by_one = encode_all(scans, alone, MeanEncoder, resume=False)
    assert of_interest(manifest, output) == of_interest(by_one, alone)
    assert "c.tif: cannot be read" in manifest[2].error


def test_a_running_scheduler_serves_and_resumes(scans: Path, alone: Path, tmp_path: Path) -> None:
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
    ) as running:
        cluster = DaskCluster(address=running.scheduler_address)
        encode_all(scans, tmp_path, MeanEncoder, cluster=cluster)
        assert contents(tmp_path) == contents(alone)
        again = encode_all(scans, tmp_path, MeanEncoder, cluster=cluster)
    assert [entry.status for entry in again] == ["skipped", "skipped", "failed", "skipped"]


def test_no_scheduler_is_a_wrong_request(scans: Path, tmp_path: Path) -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(RequestError, match=r"no Dask scheduler at tcp://127\.0\.0\.1:1"),
    ):
        encode_all(scans, tmp_path, MeanEncoder, cluster=DaskCluster(address="tcp://127.0.0.1:1"))


@pytest.mark.parametrize("address", ["tcp://host", "http://host:8786", "host", "tcp://host:port"])
def test_an_address_of_another_form_is_a_wrong_request(address: str) -> None:
    with pytest.raises(
        RequestError, match=r"^cluster address .*; expected .* such as tcp://host:8786: correct --cluster#address$"
    ):
        DaskCluster(address=address)


def test_a_slide_whose_levels_are_checked_whole_is_not_cut(tmp_path: Path) -> None:
    tissue = paint(quarter_colours(4, 6))
    tiled = write_tiff(tmp_path / "a.tif", [tissue])
    mirax = write_mirax(tmp_path / "b.mrxs", tissue, np.ones((2, 3), bool), mpp=MPP, levels=1)
    job = pickle.dumps(job_of(tmp_path, MeanEncoder))
    assert isinstance(_begin(job, SlideRow("a", tiled), 12), BandedSlide)
    whole = _begin(job, SlideRow("b", mirax), 12)
    assert isinstance(whole, ManifestRow) and (whole.status, whole.patches) == ("done", 24)


def test_dask_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(RequestError, match="Dask is not installed"):
        DaskCluster()


def test_bands_are_whole_rows_and_cover_all() -> None:
    grid_yx = np.argwhere(np.random.default_rng(0).random((40, 30)) < 0.6)
    cuts = row_cuts(grid_yx, 100)
    assert cuts[0] == 0 and cuts[-1] == len(grid_yx)
    sizes = np.diff(cuts)
    assert (sizes > 0).all() and sizes.max() <= 130 and len(sizes) >= len(grid_yx) // 130
    for cut in cuts[1:-1]:
        assert grid_yx[cut - 1, 0] != grid_yx[cut, 0]


def test_a_single_long_row_is_one_band() -> None:
    assert row_cuts(np.array([(0, column) for column in range(50)]), 10) == (0, 50)
