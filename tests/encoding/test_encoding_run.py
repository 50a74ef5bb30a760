import csv
import errno
import itertools
import math
import multiprocessing
import os
import shutil
import signal
import struct
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
import torch
from encoding.encoding_requests import encode_all, job_of
from encoding.painted import MeanEncoder, paint, quarter_colours, write_painted_slide, write_tiff
from tiny_flow import ON_CPU, run_command

from scripts.common.errors import RequestError, SlideError
from scripts.common.outputs import HeldOutputs
from scripts.encoding import job
from scripts.encoding import manifest as manifest_of_run
from scripts.encoding.encoders import SCAEEncoder
from scripts.encoding.encoding_run import encoding_of
from scripts.encoding.job import COLUMNS, ManifestRow, Task
from scripts.encoding.manifest import KeptRows, manifest_name, require_complete
from scripts.patches.patch_file import FORMAT as PATCHES
from scripts.scae.scae_network import SCAE
from scripts.slides.opening import Reading, open_slide
from scripts.slides.slide_ids import manifest_rows
from scripts.slides.table import SlideRow, read_slides


def statuses(manifest: list[ManifestRow]) -> dict[str, str]:
    return {entry.slide_id: entry.status for entry in manifest}


def seen(output: Path) -> list[str]:
    """Names of what a user sees in the folder: all but the lock."""
    return sorted(path.name for path in output.iterdir() if not path.name.startswith("."))


def encode(slides: Path, output: Path, **options: object) -> list[ManifestRow]:
    return encode_all(slides, output, MeanEncoder, **options)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A folder of scans: a good slide, glass alone, a broken file, another good slide; and a table that adds a missing one."""
    scans = tmp_path / "scans"
    write_painted_slide(scans / "a_good.tif")
    write_tiff(scans / "b_glass.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    (scans / "c_broken.tif").write_bytes(b"II*\0 cut off")
    write_painted_slide(scans / "d_good.tif", seed=1)
    return scans


def test_one_bad_slide_does_not_stop_the_others(mixed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    manifest = encode(mixed, output)
    assert statuses(manifest) == {"a_good": "done", "b_glass": "empty", "c_broken": "failed", "d_good": "done"}
    with open(output / "manifest.csv", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == COLUMNS
    assert COLUMNS == ("slide_id", "slide", "status", "patches", "seconds", "output", "error")
    assert [(row["slide_id"], row["patches"], row["output"]) for row in rows] == [
        ("a_good", "12", "a_good.h5"),
        ("b_glass", "0", ""),
        ("c_broken", "0", ""),
        ("d_good", "12", "d_good.h5"),
    ]
    assert "no tissue" in rows[1]["error"]
    assert "c_broken.tif: cannot be read" in rows[2]["error"]
    assert rows[0]["error"] == rows[3]["error"] == ""
    assert float(rows[0]["seconds"]) > 0
    assert seen(output) == ["a_good.h5", "d_good.h5", "manifest.csv"]
    with pytest.raises(SlideError, match=r"1 of 4 slides failed.*manifest\.csv"):
        require_complete(manifest, output)


def test_a_failed_shard_names_its_own_manifest(mixed: Path, tmp_path: Path) -> None:
    torch.save(SCAE().state_dict(), tmp_path / "scae.pt")
    options = {**ON_CPU, "slides": mixed / "c_broken.tif", "output_dir": "out", "encoder": "scae.pt", "shard": "1/2"}
    result = run_command("encoding", "encode.yaml", cwd=tmp_path, options=options)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].endswith(" out/manifest.1-of-2.csv says why")
    assert (tmp_path / "out" / "manifest.1-of-2.csv").is_file()
    assert [manifest_name(shard) for shard in (None, "1/1", "02/8")] == ["manifest.csv"] * 2 + ["manifest.2-of-8.csv"]


def test_an_embedding_is_compared_with_its_slide_as_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide = write_painted_slide(tmp_path / "a.tif")
    job = job_of(tmp_path / "out", MeanEncoder, backend="tifffile")
    assert job.encode(Task(SlideRow("a", slide))).status == "done"
    read: list[Reading] = []
    monkeypatch.setattr("scripts.encoding.job.open_slide", lambda path, how: read.append(how) or open_slide(path, how))
    assert job.on_disk(Task(SlideRow("a", slide))) == "current"
    assert read == [job.reading]


def test_an_empty_slide_is_no_failure(tmp_path: Path) -> None:
    slide = write_tiff(tmp_path / "glass.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    require_complete(encode(slide, tmp_path / "out"), tmp_path / "out")


def test_the_manifest_is_written_after_every_slide(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that takes no time: a run that is interrupted in its last slide has told of those before it."""
    monkeypatch.setattr(manifest_of_run, "WRITE_SHARE", math.inf)
    calls, manifest = [], tmp_path / "out" / "manifest.csv"

    class Killed(MeanEncoder):
        def forward(self, patches):
            calls.append(len(patches))
            if len(calls) == 2:
                deadline = time.monotonic() + 20  # the row of the slide before is written while this one is at work
                while ",failed," not in manifest.read_text() and time.monotonic() < deadline:
                    time.sleep(0.02)
                os.kill(os.getppid(), signal.SIGINT)  # as Ctrl-C; this process ignores it, and ends with the run
                time.sleep(60)
            return super().forward(patches)

    Killed.__name__ = "MeanEncoder"
    with pytest.raises(KeyboardInterrupt):
        encode_all(mixed, tmp_path / "out", Killed)
    with open(manifest, newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["done", "empty", "failed"]
    assert seen(tmp_path / "out") == ["a_good.h5", "manifest.csv"]
    assert statuses(encode(mixed, tmp_path / "out")) == {
        "a_good": "skipped",
        "b_glass": "empty",
        "c_broken": "failed",
        "d_good": "done",
    }


def test_writing_the_manifest_takes_a_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2,000 slides that take as long as one writing of it; the end has all rows."""
    now_s = itertools.count()
    monkeypatch.setattr(manifest_of_run, "time", SimpleNamespace(monotonic=lambda: float(next(now_s))))
    writings, rows = [], [ManifestRow(f"{place:04d}", f"{place:04d}.tif", "failed") for place in range(2000)]
    write_csv = manifest_of_run.write_csv
    monkeypatch.setattr(
        manifest_of_run, "write_csv", lambda *table: writings.append(len(table[2])) or write_csv(*table)
    )
    with HeldOutputs(tmp_path, "encoding", {}) as held:
        kept = KeptRows([row.slide_id for row in rows], (), tmp_path / "manifest.csv", held, "encoding")
        for row in rows:
            kept.enter(row)
        kept.write()
        kept.write()
    assert writings[0] == 1 and len(writings) <= 2 + 2000 * manifest_of_run.WRITE_SHARE
    assert [row["slide_id"] for row in manifest_rows(tmp_path / "manifest.csv")] == [row.slide_id for row in rows]


def test_rows_that_a_killed_run_had_not_written_come_from_the_embeddings(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_painted_slide(tmp_path / "scans" / f"{name}.tif", seed=ord(name))
    whole = encode(tmp_path / "scans", tmp_path / "whole")
    output = tmp_path / "out"

    def killed() -> None:
        manifest_of_run.WRITE_SHARE = 1e-9
        with encoding_of(tmp_path / "scans", job_of(output, MeanEncoder)) as rows:
            list(rows)
            os.kill(os.getpid(), signal.SIGKILL)

    process = multiprocessing.get_context("fork").Process(target=killed)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and seen(output) == ["a.h5", "b.h5", "c.h5", "manifest.csv"]
    assert [row["slide_id"] for row in manifest_rows(output / "manifest.csv")] == ["a"]
    again = encode(tmp_path / "scans", output)
    assert statuses(again) == dict.fromkeys("abc", "skipped")
    told = [(row.slide_id, row.slide, row.patches, row.output) for row in whole]
    assert told == [(row.slide_id, row.slide, row.patches, row.output) for row in again]
    rows = manifest_rows(output / "manifest.csv")
    assert told == [(row["slide_id"], row["slide"], int(row["patches"]), row["output"]) for row in rows]


def test_an_error_halfway_is_that_slides_failure(mixed: Path, tmp_path: Path) -> None:
    class FullDisk(MeanEncoder):
        def forward(self, patches):
            raise OSError("no space left on device")

    manifest = encode_all(mixed, tmp_path / "out", FullDisk)
    assert statuses(manifest) == {"a_good": "failed", "b_glass": "empty", "c_broken": "failed", "d_good": "failed"}
    assert "no space left" in manifest[0].error
    assert seen(tmp_path / "out") == ["manifest.csv"]


def features_of(output: Path) -> np.ndarray:
    with h5py.File(output / "case.h5") as file:
        return file["features"][:]


def test_resume_skips_what_is_whole_and_current(tmp_path: Path) -> None:
    slide, output = write_painted_slide(tmp_path / "case.tif"), tmp_path / "out"
    encode(slide, output)
    before = (output / "case.h5").stat()
    (entry,) = encode(slide, output, batch_size=3)
    assert (entry.status, entry.patches, entry.output) == ("skipped", 12, "case.h5")
    assert (output / "case.h5").stat().st_mtime_ns == before.st_mtime_ns
    assert statuses(encode(slide, output, resume=False)) == {"case": "done"}
    assert (output / "case.h5").stat().st_ino != before.st_ino


@pytest.mark.parametrize(
    "settings",
    [
        {"patch_um": 128.0},
        {"tissue_method": "otsu"},
        {"drop_pen": False},
        {"thumbnail_levels": 2},
        {"read_level": "highest"},
    ],
    ids=str,
)
def test_another_setting_is_refused_or_encoded_anew(tmp_path: Path, settings: dict[str, object]) -> None:
    slide, output = write_painted_slide(tmp_path / "case.tif", rows=6, columns=6), tmp_path / "out"
    encode(slide, output)
    before = (output / "case.h5").read_bytes()
    (name,) = settings
    with pytest.raises(RequestError, match=rf"{name} was .*, now .*--output_dir.*--replace true"):
        encode(slide, output, settings=settings)
    assert (output / "case.h5").read_bytes() == before
    assert statuses(encode(slide, output, settings=settings, replace=True))["case"] != "skipped"


def test_other_weights_are_refused_or_encode_anew(tmp_path: Path) -> None:
    slide, output = write_painted_slide(tmp_path / "case.tif"), tmp_path / "out"
    encode(slide, output)
    before = features_of(output)
    (output / ".encoding.outputs.jsonl").unlink()  # a copy without hidden files
    with pytest.raises(RequestError, match=r"case\.h5: made for another request \(encoder was"):
        encode_all(slide, output, lambda: MeanEncoder(0.5))
    (output / "manifest.csv").unlink()  # nothing says any more that it is ours
    (entry,) = encode_all(slide, output, lambda: MeanEncoder(0.5), replace=True)
    assert entry.status == "done"
    np.testing.assert_allclose(features_of(output), before / 2, rtol=1e-6)


@pytest.mark.parametrize(("strategy", "channels"), [("foreground", slice(96)), ("background", slice(96, None))])
def test_another_strategy_encodes_anew(tmp_path: Path, strategy: str, channels: slice) -> None:
    """The weights are the same, v is not."""
    slide, output, weights = write_painted_slide(tmp_path / "case.tif"), tmp_path / "out", tmp_path / "scae.pt"
    torch.save(SCAE().state_dict(), weights)
    encode_all(slide, output, partial(SCAEEncoder, weights))
    separated = features_of(output)
    for status in ("done", "skipped"):
        (entry,) = encode_all(slide, output, partial(SCAEEncoder, weights, strategy), replace=True)
        assert entry.status == status
    np.testing.assert_allclose(features_of(output), separated[:, channels], rtol=1e-5, atol=1e-6)


def test_another_slide_under_the_name_is_encoded_anew(tmp_path: Path) -> None:
    output = tmp_path / "out"
    encode(write_painted_slide(tmp_path / "case.tif"), output)
    (entry,) = encode(write_painted_slide(tmp_path / "case.tif", rows=4), output)
    assert (entry.status, entry.patches) == ("done", 16)


def test_another_resolution_in_the_table_is_encoded_anew(tmp_path: Path) -> None:
    write_painted_slide(tmp_path / "case.tif", rows=4, columns=4)
    table, output = tmp_path / "table.csv", tmp_path / "out"
    table.write_text("slide,mpp\ncase.tif,\n")
    encode(table, output)
    table.write_text("slide,mpp\ncase.tif,1.0\n")
    (entry,) = encode(table, output)
    assert (entry.status, entry.patches) == ("done", 4)


def test_a_damaged_file_is_encoded_anew(tmp_path: Path) -> None:
    slide, output = write_painted_slide(tmp_path / "case.tif"), tmp_path / "out"
    encode(slide, output)
    (output / "case.h5").write_bytes((output / "case.h5").read_bytes()[:2000])
    assert statuses(encode(slide, output)) == {"case": "done"}
    assert len(features_of(output)) == 12


def test_a_slide_that_lost_its_tissue_loses_its_file(tmp_path: Path) -> None:
    output = tmp_path / "out"
    encode(write_painted_slide(tmp_path / "case.tif"), output)
    encode(write_tiff(tmp_path / "case.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)]), output)
    assert seen(output) == ["manifest.csv"]


def test_the_table_is_copied_with_paths_that_resolve(mixed: Path, tmp_path: Path) -> None:
    table = tmp_path / "tables" / "request.csv"
    table.parent.mkdir()
    table.write_text(
        "slide, label,site,split\n"
        f"../scans/d_good.tif,tumour,north,train\n{mixed / 'a_good.tif'},,south,\n../scans/gone.tif,normal,,val\n"
    )
    output = tmp_path / "deep" / "er" / "data"
    manifest = encode(table, output)
    assert statuses(manifest) == {"d_good": "done", "a_good": "done", "gone": "failed"}
    copied = read_slides(output / "slides.csv")
    original = read_slides(table)
    assert [row.path.resolve() for row in copied] == [row.path.resolve() for row in original]
    assert [(row.slide_id, row.label, row.split, row.extra) for row in copied] == [
        ("d_good", "tumour", "train", {"site": "north"}),
        ("a_good", None, None, {"site": "south"}),
        ("gone", "normal", "val", {"site": ""}),
    ]
    with open(output / "slides.csv", newline="") as file:
        assert not any(Path(row["slide"]).is_absolute() for row in csv.DictReader(file))
    text = (output / "slides.csv").read_text()
    assert statuses(encode(output / "slides.csv", output))["d_good"] == "skipped"
    assert (output / "slides.csv").read_text() == text


@pytest.mark.parametrize(
    ("slides", "settings", "message"),
    [
        (None, {}, "--slides"),
        ("nothing.csv", {}, "no such file"),
        ("case.tif", {"patch_um": -1}, "patch_um -1: expected"),
    ],
)
def test_a_wrong_request_writes_nothing(
    tmp_path: Path, slides: str | None, settings: dict[str, object], message: str
) -> None:
    write_tiff(tmp_path / "case.tif", [paint(quarter_colours(1, 1))])
    with pytest.raises(RequestError, match=message):
        encode_all(slides and tmp_path / slides, tmp_path / "out", MeanEncoder, settings=settings)
    assert not (tmp_path / "out").exists()


def test_the_table_of_another_dataset_is_not_replaced(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_painted_slide(tmp_path / f"{name}.tif")
        (tmp_path / f"{name}.csv").write_text(f"slide,label\n{name}.tif,1\n")
    encode(tmp_path / "a.csv", tmp_path / "out")
    before = (tmp_path / "out" / "slides.csv").read_bytes()
    with pytest.raises(RequestError, match=r"slides\.csv: lists 1 slides that this request does not name"):
        encode(tmp_path / "b.csv", tmp_path / "out")
    encode(tmp_path / "b.csv", tmp_path / "out", keep_table=False)
    assert (tmp_path / "out" / "slides.csv").read_bytes() == before


def test_a_folder_with_a_new_slide_is_the_same_request(tmp_path: Path) -> None:
    first = write_painted_slide(tmp_path / "scans" / "a.tif")
    encode(first.parent, tmp_path / "out")
    write_painted_slide(tmp_path / "scans" / "b.tif")
    assert statuses(encode(first.parent, tmp_path / "out")) == {"a": "skipped", "b": "done"}


def test_slides_may_be_added_and_the_manifest_keeps_the_others(tmp_path: Path) -> None:
    output = tmp_path / "out"
    encode(write_painted_slide(tmp_path / "a.tif"), output)
    encode(write_painted_slide(tmp_path / "b.tif"), output)
    assert [row["slide_id"] for row in manifest_rows(output / "manifest.csv")] == ["b", "a"]


def test_two_folders_with_slides_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    north, south = (write_painted_slide(tmp_path / site / "01.tif", seed=len(site)) for site in ("north", "southern"))
    output = tmp_path / "out"
    encode(north.parent, output)
    before = (output / "01.h5").read_bytes()
    with pytest.raises(
        RequestError, match=r"01\.h5: made from .*north/01\.tif, and .*southern/01\.tif would replace it"
    ):
        encode(south.parent, output)
    assert (output / "01.h5").read_bytes() == before
    moved = shutil.copytree(north.parent, tmp_path / "archive")
    assert statuses(encode(moved, output)) == {"01": "skipped"}, "a copy is the same slide"
    assert statuses(encode(south.parent, output, replace=True)) == {"01": "done"}


def test_slides_of_one_path_seen_from_two_folders_do_not_replace_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "shared" / "out"
    for site in ("north", "southern"):
        write_painted_slide(tmp_path / site / "slides" / "01.tif", seed=len(site))
    monkeypatch.chdir(tmp_path / "north")
    encode(Path("slides"), output)
    before = (output / "01.h5").read_bytes()
    monkeypatch.chdir(tmp_path / "southern")
    with pytest.raises(
        RequestError, match=r"01\.h5: made from .*north/slides/01\.tif, and slides/01\.tif would replace it"
    ):
        encode(Path("slides"), output)
    assert (output / "01.h5").read_bytes() == before


def test_the_manifest_leads_to_the_slides_from_its_own_folder(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    monkeypatch.chdir(mixed)
    encode(Path(), Path("..") / "out")
    rows = manifest_rows(output / "manifest.csv")
    assert [(output / row["slide"]).resolve() for row in rows] == sorted(mixed.iterdir())


def test_a_folder_of_a_version_before_with_paths_from_where_it_was_run(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    monkeypatch.chdir(mixed)
    with monkeypatch.context() as before:
        before.setattr(job, "relative_to", lambda path, folder: str(path))
        encode(Path(), output)
    assert statuses(encode(Path("d_good.tif"), output)) == {"d_good": "skipped"}, (
        "the content says that it is the slide"
    )
    assert [row["slide"] for row in manifest_rows(output / "manifest.csv")] == [
        "../scans/d_good.tif", "a_good.tif", "b_glass.tif", "c_broken.tif",
    ]  # fmt: skip


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("replace", [True, False])
def test_features_of_another_tool_stay(tmp_path: Path, resume: bool, replace: bool) -> None:
    """Also those of slides that fail or hold no tissue, which once cost them."""
    output = tmp_path / "h5_files"
    write_painted_slide(tmp_path / "scans" / "a.tif")
    write_tiff(tmp_path / "scans" / "b.tif", [np.full((160, 160, 3), 244, dtype=np.uint8)])
    (tmp_path / "scans" / "c.tif").write_bytes(b"II*\0 cut off")
    output.mkdir()
    for name in "abc":
        with h5py.File(output / f"{name}.h5", "w") as file:
            file["features"], file["coords"] = np.ones((1, 4)), np.zeros((1, 2))
        before = {path.name: path.read_bytes() for path in output.iterdir()}
        with pytest.raises(RequestError, match=rf"{name}\.h5: is there already, and is not what encoding wrote"):
            encode(tmp_path / "scans" / f"{name}.tif", output, resume=resume, replace=replace)
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before


@pytest.mark.parametrize("resume", [True, False])
def test_patches_that_were_sampled_stay(tmp_path: Path, resume: bool) -> None:
    """They are HDF5 files of ours, too, under the name that a slide's embedding would have."""
    write_painted_slide(tmp_path / "patches.tif")
    with h5py.File(tmp_path / "patches.h5", "w") as file:
        file.attrs["format"] = PATCHES
    before = (tmp_path / "patches.h5").read_bytes()
    with pytest.raises(RequestError, match=r"patches\.h5: is there already, and is not what encoding wrote"):
        encode(tmp_path / "patches.tif", tmp_path, resume=resume)
    assert (tmp_path / "patches.h5").read_bytes() == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_slide_unreadable_for_a_moment_keeps_its_embedding(
    tmp_path: Path, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, output = write_painted_slide(tmp_path / "a.tif"), tmp_path / "out"
    encode(slide, output)
    before = (output / "a.h5").read_bytes()

    def stale_mount(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error", str(slide))

    for module in ("settings._head_sha256", "job.open_slide", "embed.open_slide"):
        with monkeypatch.context() as patched:
            patched.setattr(f"scripts.encoding.{module}", stale_mount)
            (entry,) = encode(slide, output, resume=resume)
        if entry.status != "skipped":
            assert entry.status == "failed"
            assert "Input/output error" in entry.error and "a.h5, is kept" in entry.error
        assert (output / "a.h5").read_bytes() == before


def test_a_slide_that_is_being_copied_keeps_its_embedding(tmp_path: Path) -> None:
    """Cut off, it has another size and perhaps another head, but says nothing of what it will be."""
    slide, output = write_painted_slide(tmp_path / "a.tif"), tmp_path / "out"
    encode(slide, output)
    slide.write_bytes(b"II*\0 cut off")
    (entry,) = encode(slide, output)
    assert entry.status == "failed" and "a.h5, is kept" in entry.error
    assert seen(output) == ["a.h5", "manifest.csv"]


def test_an_embedding_known_to_be_outdated_is_removed_where_its_slide_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slide, output = write_painted_slide(tmp_path / "a.tif"), tmp_path / "out"
    encode(slide, output)
    write_painted_slide(tmp_path / "a.tif", seed=1)

    def damaged(*_: object, **__: object) -> None:
        raise SlideError("a tile cannot be decoded")

    monkeypatch.setattr("scripts.encoding.job.embed_slide", damaged)
    (entry,) = encode(slide, output)
    assert (entry.status, seen(output)) == ("failed", ["manifest.csv"])


def test_a_folder_of_bare_glass_is_no_silent_success(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    slide = tmp_path / "scans" / "a.tif"
    slide.parent.mkdir()
    write_tiff(slide, [np.full((160, 160, 3), 244, dtype=np.uint8)])
    with caplog.at_level("WARNING"):
        encode(slide.parent, tmp_path / "out")
    assert "no slide holds tissue" in caplog.text


def test_a_resolution_corrected_in_place_is_encoded_anew(tmp_path: Path) -> None:
    """Behind the pixels, so that size and head of the file stay, as ``tiffcomment -set`` does."""
    slide, output = tmp_path / "a.svs", tmp_path / "out"
    pixels = paint(quarter_colours(6, 9)).repeat(4, axis=0).repeat(4, axis=1)
    tifffile.imwrite(slide, pixels, tile=(128, 128), photometric="rgb", metadata=None)
    text = b"Aperio Image Library v1\n1x1 (128x128)|AppMag = 20|MPP = 0.5000\0"
    content = bytearray(slide.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, first)
    entries = [bytes(content[first + 2 + 12 * index :][:12]) for index in range(count)]
    description = struct.pack("<HHII", 270, 2, len(text), len(content))
    entries = sorted([*(entry for entry in entries if entry[:2] != description[:2]), description])
    struct.pack_into("<I", content, 4, len(content) + len(text))
    content += text + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    slide.write_bytes(content)
    assert content.index(b"MPP = 0.5000") > 65536
    encode(slide, output)
    slide.write_bytes(content.replace(b"MPP = 0.5000", b"MPP = 0.2500"))
    (entry,) = encode(slide, output)
    assert entry.status == "done"
    with h5py.File(output / "a.h5") as file:
        assert file.attrs["mpp_x"] == 0.25


def test_a_vanished_slide_keeps_its_embedding(tmp_path: Path) -> None:
    slide = write_painted_slide(tmp_path / "a.tif")
    (tmp_path / "a.csv").write_text("slide\na.tif\n")
    encode(tmp_path / "a.csv", tmp_path / "out")
    Path(slide).unlink()
    (entry,) = encode(tmp_path / "a.csv", tmp_path / "out")
    assert entry.status == "failed" and "no such file" in entry.error
    assert (tmp_path / "out" / "a.h5").is_file()


def test_a_slide_that_is_added_renames_no_embedding(tmp_path: Path) -> None:
    """Whatever the order in which they come: those that are there are skipped under the id that they have."""
    sites, output = tmp_path / "sites", tmp_path / "out"
    for seed, site in enumerate("AB"):
        write_painted_slide(sites / site / "01.tif", seed=seed)
    one, both = sites / "one.csv", sites / "both.csv"
    one.write_text("slide\nA/01.tif\n")
    both.write_text("slide\nA/01.tif\nB/01.tif\n")
    assert statuses(encode(one, output)) == {"01": "done"}
    assert statuses(encode(both, output)) == {"01": "skipped", "B_01": "done"}
    assert [row.slide_id for row in read_slides(output / "slides.csv")] == ["01", "B_01"]
    assert statuses(encode(both, tmp_path / "fresh")) == {"A_01": "done", "B_01": "done"}
    assert statuses(encode(sites / "A", tmp_path / "fresh")) == {"A_01": "skipped"}
    assert seen(output) == ["01.h5", "B_01.h5", "manifest.csv", "slides.csv"]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX alone")
def test_odd_names_are_encoded_and_one_that_is_not_utf8_fails_alone(tmp_path: Path) -> None:
    names = [
        "a" * 240,
        "long_" + "片" * 80,
        "new\nline",
        "per%cent 100%",
        "$dollar",
        "manifest",
        "slides",
        "1e5",
        "trailing.",
    ]
    for name in names:
        write_painted_slide(tmp_path / "scans" / f"{name}.tif")
    shutil.copy(tmp_path / "scans" / "1e5.tif", tmp_path / "scans" / os.fsdecode(b"M\xfcller.tif"))
    found = statuses(encode(tmp_path / "scans", tmp_path / "out"))
    assert found == {**dict.fromkeys(names, "done"), "M%FCller": "failed"}
    with open(tmp_path / "out" / "manifest.csv", newline="", encoding="utf-8") as file:
        (error,) = (row["error"] for row in csv.DictReader(file) if row["status"] == "failed")
    assert error.endswith("M\\udcfcller.tif: the path is not UTF-8, which the readers expect: rename the file")


def test_a_name_too_long_for_an_output_is_shortened(tmp_path: Path) -> None:
    write_painted_slide(tmp_path / "scans" / f"{'a' * 251}.tif")
    (entry,) = encode(tmp_path / "scans", tmp_path / "out")
    assert entry.status == "done" and len(entry.slide_id) == 250
    assert (tmp_path / "out" / f"{entry.slide_id}.h5").is_file()
